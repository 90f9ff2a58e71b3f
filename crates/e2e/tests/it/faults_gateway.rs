//! The gateway is told to end while it works, and starts while etcd is down.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use e2e::rig::Rig;
use testkit::wait::{SOON, wait_until};

/// Requests that are being answered when the signal comes.
const SLOW: usize = 20;
/// A gateway that starts from its snapshot serves within that, on a machine that is busy with other tests.
const SERVES_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_gateway_that_is_told_to_end_finishes_what_it_accepted() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let url = format!("http://{}/witness/slow", rig.address("balance"));
    let slow: Vec<_> =
        (0..SLOW).map(|_| tokio::spawn(rig.client.get(&url).header("x-sleep-ms", "1500").send())).collect();
    // All of them have been received by then; they sleep for longer.
    rig.pass(Duration::from_millis(700)).await;
    let told = Instant::now();
    rig.terminate("balance").await;
    let ended = told.elapsed();
    for one in slow {
        assert_eq!(one.await.unwrap().unwrap().status(), 200, "a request that was being answered is finished");
    }
    let row = rig.row("SIGTERM of the gateway under load", users);
    let was_accepted = |sent: Option<Instant>| sent.is_some_and(|sent| sent < told);
    let cut = row.answers.iter().filter(|answer| answer.outcome.is_err() && was_accepted(answer.sent)).count();
    let note = format!("failed of those that were sent before: {cut} (the others found nobody, as they should)");
    let row = row.with("ended", Some(ended)).with_note(note);
    row.show();
    assert_eq!(cut, 0, "{row}");
    assert_eq!(row.replayed().count() + row.lost().count(), 0, "{row}");
}

#[tokio::test]
async fn a_gateway_that_starts_without_etcd_serves_its_snapshot_and_says_so() {
    let mut rig = Rig::start().await;
    rig.terminate("balance").await;
    (0..3).for_each(|member| rig.etcd.kill(member));
    let started = Instant::now();
    rig.run("balance");
    let url = format!("http://{}/witness", rig.address("balance"));
    wait_until("an answer without etcd", SOON, async || {
        TcpStream::connect(rig.address("balance")).is_ok()
            && rig.client.get(&url).send().await.is_ok_and(|response| response.status() == 200)
    })
    .await;
    let serves = started.elapsed();
    let users = rig.users().await;
    rig.pass(Duration::from_secs(2)).await;
    let row = rig.row("gateway started with etcd down", users).with("served", Some(serves));
    row.check(None);
    assert!(serves <= SERVES_MAX, "{row}");
    let ready = rig.admin("/readyz").await.unwrap();
    assert_eq!(ready["table"]["source"], "disk", "{ready}");
    assert!(ready["table"]["age_ms"].as_u64().is_some(), "{ready}");
}
