//! An instance dies, freezes, thaws, is restarted: what users of the other two notice.

use std::time::{Duration, Instant};

use e2e::{
    fault_suite::{FaultSuite, TEST_INSTANCES},
    scale::Scale,
};
use nix::sys::signal::Signal;

/// How long something may take that is a matter of seconds; what it took is in the row.
const LIMIT: Duration = Duration::from_secs(10);
/// A killed instance gets no requests any more after that: the aim, and on a machine that is busy with other tests.
const EJECTED: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];
/// What a POST is at risk that was sent to it.
const AT_RISK: Duration = Duration::from_secs(1);
/// The same for a frozen one; its lease would end after 3 s at the soonest.
const FROZEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// One that answers again is asked again.
const BACK: [Duration; 2] = [Duration::from_secs(2), LIMIT];

#[tokio::test]
async fn a_killed_instance_fails_no_request_but_posts_that_it_had_received() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let killed = fault_suite.kill("test-instance-2");
    let ejected = fault_suite.in_rotation("test-instance-2", false, killed, LIMIT).await;
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(4), Duration::from_secs(10))).await;
    let started = Instant::now();
    fault_suite.run("test-instance-2");
    let back = fault_suite.in_rotation("test-instance-2", true, started, LIMIT).await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let row = fault_suite.row("SIGKILL of one of three instances", users);
    let row = row.within("ejected", ejected, EJECTED[0], EJECTED[1]).within("back", back, BACK[0], BACK[1]);
    row.no_request_failed(Some((killed, killed + AT_RISK))).check();
}

#[tokio::test]
async fn a_service_that_is_restarted_again_and_again_fails_no_request() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let rounds = fault_suite.scale.pick(2, 20);
    for _ in 0..rounds {
        for name in TEST_INSTANCES {
            fault_suite.terminate(name).await;
            let started = Instant::now();
            fault_suite.run(name);
            assert!(fault_suite.in_rotation(name, true, started, LIMIT).await.is_some(), "{name} must come back");
        }
    }
    fault_suite.pass(Duration::from_secs(1)).await;
    fault_suite.row(&format!("rolling restart of a service, {rounds} times"), users).no_request_failed(None).check();
}

#[tokio::test]
async fn a_frozen_instance_fails_no_get_and_is_back_when_it_thaws() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let frozen = fault_suite.signal("test-instance-2", Signal::SIGSTOP);
    let ejected = fault_suite.in_rotation("test-instance-2", false, frozen, LIMIT).await;
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(3), Duration::from_secs(10))).await;
    let thawed = fault_suite.signal("test-instance-2", Signal::SIGCONT);
    let back = fault_suite.in_rotation("test-instance-2", true, thawed, LIMIT).await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let row = fault_suite.row("SIGSTOP, later SIGCONT, of one of three instances", users);
    let row = row.within("ejected", ejected, FROZEN[0], FROZEN[1]).within("back", back, BACK[0], BACK[1]);
    row.no_request_failed(Some((frozen, thawed))).check();
}

#[tokio::test]
async fn a_frozen_instance_is_ejected_when_the_first_answer_is_overdue() {
    // On a busy machine, an instance that lives may need longer than half a second.
    let limit = Scale::chosen().pick("3s", "0.5s");
    let deadline = |name: &str| match name {
        "balance" => vec![("BALANCE_RESPONSE_TIMEOUT", limit.to_owned())],
        _ => Vec::new(),
    };
    let mut fault_suite = FaultSuite::with(deadline).await;
    let users = fault_suite.users().await;
    let frozen = fault_suite.signal("test-instance-2", Signal::SIGSTOP);
    let ejected = fault_suite.in_rotation("test-instance-2", false, frozen, LIMIT).await;
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(3), Duration::from_secs(10))).await;
    let thawed = fault_suite.signal("test-instance-2", Signal::SIGCONT);
    let back = fault_suite.in_rotation("test-instance-2", true, thawed, LIMIT).await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let row = fault_suite.row(&format!("SIGSTOP with a response timeout of {limit}"), users);
    let row = row.within("ejected", ejected, FROZEN[0], FROZEN[1]).within("back", back, BACK[0], BACK[1]);
    row.no_request_failed(Some((frozen, thawed))).check();
}
