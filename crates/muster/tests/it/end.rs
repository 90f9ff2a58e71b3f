//! How a suite ends: in order, within bounds, and without leaving anything behind, whatever happens to `muster`.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use testkit::wait::wait_until;

use crate::suite::{LONG, Suite, runs, wait_until_gone};

#[tokio::test(flavor = "multi_thread")]
async fn the_end_comes_in_order_from_the_gateway_to_etcd() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    let pids = suite.pids();
    suite.signal(Signal::SIGINT);
    assert!(suite.ended().await.success());
    assert!(!pids.iter().any(|pid| runs(*pid)), "nothing runs any more");
    let mut events = suite.events();
    events[1..5].sort();
    let order = ["balance", "mail", "mail", "userlist", "userlist", "registry", "registry"];
    assert_eq!(events, order.map(|name| format!("{name} SIGTERM")));
    let output = suite.output();
    let at = |text: &str| output.find(text).unwrap_or_else(|| panic!("{text} is missing in\n{output}"));
    assert!(at("stopping registry-1, registry-2") < at("stopping etcd-1, etcd-2, etcd-3"));
    assert!(at("stopping etcd-1, etcd-2, etcd-3") < at("stopped in "));
    assert_eq!(suite.state()["phase"], "stopped");
    assert!(suite.pids().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_heed_the_signal_is_killed_after_the_grace() {
    let mut suite = Suite::new().with("--grace", "1s");
    suite.misbehave("mail.deaf", true);
    suite.start_and_wait().await;
    let pids = suite.pids();
    assert!(suite.stop().await.success());
    assert!(suite.output().contains("mail-1 did not end within 1 s: killing it"), "{}", suite.output());
    assert!(!pids.iter().any(|pid| runs(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut suite = Suite::new().with("--grace", "10m");
    suite.misbehave("mail.deaf", true);
    suite.start_and_wait().await;
    let pids = suite.pids();
    suite.signal(Signal::SIGTERM);
    wait_until("the turn of mail", LONG, async || suite.events().iter().any(|event| event == "mail SIGTERM")).await;
    let second = Instant::now();
    assert_eq!(suite.stop().await.code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(30), "{:?}", second.elapsed());
    assert!(!pids.iter().any(|pid| runs(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_start_ends_what_runs_so_far() {
    let mut suite = Suite::new();
    suite.start();
    suite.wait_for("the first process", |state| state["processes"][0]["pid"].is_u64()).await;
    let pids = suite.pids();
    assert!(suite.stop().await.success());
    assert!(!pids.iter().any(|pid| runs(*pid)));
    suite.start_and_wait().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn closing_the_terminal_ends_everything_unless_nohup_was_asked_for() {
    let mut suite = Suite::new();
    suite.start();
    suite.wait_for("the first process", |state| state["processes"][0]["pid"].is_u64()).await;
    suite.signal(Signal::SIGHUP);
    assert!(suite.ended().await.success());
    assert!(suite.output().contains("the terminal was closed: stopping everything in order"), "{}", suite.output());
    suite.start_with_nohup();
    suite.wait_for("the first process", |state| state["processes"][0]["pid"].is_u64()).await;
    suite.signal(Signal::SIGHUP);
    suite.wait_for("the suite to be ready all the same", |state| state["phase"] == "ready").await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_muster_started_ends_with_it_even_if_it_is_killed() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    let pids = suite.pids();
    assert_eq!(pids.len(), 10);
    suite.kill();
    wait_until_gone(&pids).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_muster_left_behind_is_stopped_by_the_next() {
    let mut suite = Suite::new();
    suite.misbehave("mail.deaf", true);
    suite.start_and_wait().await;
    let left = suite.pid("mail-1");
    suite.kill();
    wait_until("its word about SIGTERM", LONG, async || suite.events().iter().any(|event| event == "mail SIGTERM"))
        .await;
    assert!(runs(left), "it does not heed the signal");
    suite.start_and_wait().await;
    assert!(!runs(left));
    let output = suite.output();
    assert!(
        output.contains(&format!("mail-1 (process {left}) was left behind by the last run: stopping it")),
        "{output}"
    );
    assert!(output.contains(&format!("mail-1 (process {left}) did not end within 5 s: killing it")), "{output}");
    suite.misbehave("mail.deaf", false);
    // Those that run still are deaf only as long as the file is there.
    assert!(suite.stop().await.success());
}
