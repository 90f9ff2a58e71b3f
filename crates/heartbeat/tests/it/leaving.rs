//! The orderly end, and its bounds.

use std::time::{Duration, Instant};

use heartbeat::Heartbeat;

use crate::fake_registry::{Answer, FakeRegistry, announce, options, options_for, unused_url, wait_until_registered};

/// 2 s for the registries, 0.3 s for the gateways; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(5);

async fn timed(leaving: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    leaving.await;
    started.elapsed()
}

async fn registered(registry: &FakeRegistry) -> Heartbeat {
    let heartbeat = announce(&options(&[registry]));
    wait_until_registered(&heartbeat, true).await;
    heartbeat
}

#[tokio::test]
async fn draining_is_said_before_the_deletion_and_the_gateways_get_time_to_let_go() {
    let registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    options.let_go = Duration::from_millis(700);
    let heartbeat = announce(&options);
    wait_until_registered(&heartbeat, true).await;
    let took = timed(heartbeat.deregister()).await;
    registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
    let paths: Vec<_> = registry.received().into_iter().map(|received| received.path).collect();
    assert!(paths.iter().all(|path| path == "/v1/services/mail/instances/127.0.0.1:7070"), "{paths:?}");
    assert!(took >= Duration::from_millis(700), "{took:?}");
}

#[tokio::test]
async fn an_instance_that_is_gone_already_does_not_wait() {
    let registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    options.let_go = Duration::from_secs(60);
    let heartbeat = announce(&options);
    wait_until_registered(&heartbeat, true).await;
    assert!(timed(heartbeat.withdraw()).await < BOUND);
    registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
}

#[tokio::test]
async fn leaving_is_bounded_when_the_registry_is_dead_or_frozen() {
    let mut registry = FakeRegistry::start();
    let heartbeat = registered(&registry).await;
    registry.die().await;
    assert!(timed(heartbeat.deregister()).await < BOUND);
    let frozen = [FakeRegistry::start(), FakeRegistry::start(), FakeRegistry::start()];
    let heartbeat = announce(&options(&frozen.each_ref()));
    wait_until_registered(&heartbeat, true).await;
    frozen.iter().for_each(|registry| registry.answer(Answer::Silent));
    assert!(timed(heartbeat.deregister()).await < BOUND);
}

#[tokio::test]
async fn leaving_goes_on_to_a_registry_that_works() {
    let a = FakeRegistry::start();
    let b = FakeRegistry::start();
    let heartbeat = announce(&options(&[&a, &b]));
    wait_until_registered(&heartbeat, true).await;
    let is_a = heartbeat.state().borrow().registry.as_ref().unwrap().to_string() == a.url();
    let (current, other) = if is_a { (&a, &b) } else { (&b, &a) };
    current.answer(Answer::Silent);
    heartbeat.deregister().await;
    other.tells(&["PUT draining", "DELETE"]).await;
}

#[tokio::test]
async fn a_heartbeat_under_way_does_not_hold_up_the_end() {
    let registry = FakeRegistry::answering(Answer::Silent);
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(1).await;
    registry.answer(Answer::Accept);
    assert!(timed(heartbeat.deregister()).await < BOUND);
    registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
}

#[tokio::test]
async fn an_instance_that_was_never_registered_does_not_wait() {
    let mut options = options_for([unused_url()]);
    options.let_go = Duration::from_secs(60);
    let heartbeat = announce(&options);
    assert!(timed(heartbeat.deregister()).await < BOUND);
}

#[tokio::test]
async fn a_registry_that_is_busy_or_does_not_know_us_is_asked_all_the_same() {
    let registry = FakeRegistry::start();
    let heartbeat = registered(&registry).await;
    registry.answer(Answer::Status(503, Some("60")));
    heartbeat.set_condition(discovery::Status::Critical);
    registry.wait_for_word("PUT critical").await;
    registry.answer(Answer::Status(404, None));
    heartbeat.deregister().await;
    registry.wait_for_word("DELETE").await;
    assert_eq!(registry.story().last().unwrap(), "DELETE");
}

#[tokio::test]
async fn dropping_the_wait_does_not_stop_the_leaving() {
    let registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    options.let_go = Duration::from_secs(60);
    let heartbeat = announce(&options);
    wait_until_registered(&heartbeat, true).await;
    let waited = tokio::time::timeout(Duration::from_millis(1), heartbeat.deregister()).await;
    assert!(waited.is_err());
    registry.wait_for_word("DELETE").await;
}
