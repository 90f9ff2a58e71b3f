//! The gateway is told to end while it works, and starts while etcd is down.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use e2e::fault_suite::FaultSuite;
use testkit::wait::{SOON, wait_until};

/// Requests that are being answered when the signal comes.
const SLOW: usize = 20;
/// A gateway that starts from its snapshot serves within that: the aim, and on a machine that is busy with other tests.
const SERVES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Of the slowest request, 1.5 s, some is over when the signal comes; and the door stays open for a moment.
const ENDS: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(10)];

#[tokio::test]
async fn a_gateway_that_is_told_to_end_finishes_what_it_accepted() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let url = format!("http://{}/test-instance/slow", fault_suite.address("balance"));
    let slow: Vec<_> =
        (0..SLOW).map(|_| tokio::spawn(fault_suite.client.get(&url).header("x-sleep-ms", "1500").send())).collect();
    // All of them have been received by then; they sleep for longer.
    fault_suite.pass(Duration::from_millis(700)).await;
    let told = Instant::now();
    fault_suite.terminate("balance").await;
    let ended = told.elapsed();
    for one in slow {
        assert_eq!(one.await.unwrap().unwrap().status(), 200, "a request that was being answered is finished");
    }
    let row = fault_suite.row("SIGTERM of the gateway under load", users);
    let was_accepted = |sent: Option<Instant>| sent.is_some_and(|sent| sent < told);
    let cut = row.answers.iter().filter(|answer| answer.outcome.is_err() && was_accepted(answer.sent)).count();
    let row = row.within("ended", Some(ended), ENDS[0], ENDS[1]);
    row.none("of those that were sent before failed (the others found no gateway, as they should)", cut).check();
}

#[tokio::test]
async fn a_gateway_that_starts_without_etcd_serves_its_snapshot_and_says_so() {
    let mut fault_suite = FaultSuite::start().await;
    fault_suite.terminate("balance").await;
    (0..3).for_each(|member| fault_suite.etcd.kill(member));
    let started = Instant::now();
    fault_suite.run("balance");
    let url = format!("http://{}/test-instance", fault_suite.address("balance"));
    wait_until("an answer without etcd", SOON, async || {
        TcpStream::connect(fault_suite.address("balance")).is_ok()
            && fault_suite.client.get(&url).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    let serves = started.elapsed();
    let users = fault_suite.users().await;
    fault_suite.pass(Duration::from_secs(2)).await;
    let row = fault_suite.row("gateway started with etcd down", users);
    let ready = fault_suite.admin("/readyz").await.unwrap();
    let says_so = ready["table"]["source"] == "disk" && ready["table"]["age_ms"].is_u64();
    let row = row.within("served", Some(serves), SERVES[0], SERVES[1]).with_note("/readyz tells the age".to_owned());
    row.holds(&format!("it must say how old its table is: {ready}"), says_so).no_request_failed(None).check();
}
