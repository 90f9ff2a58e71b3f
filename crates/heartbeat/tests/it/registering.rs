//! What is announced, when, and what the state says about it.

use std::time::{Duration, Instant};

use discovery::Status;
use heartbeat::{Condition, Details, Heartbeat, HeartbeatError, HeartbeatMetrics};
use serde_json::json;
use testkit::wait::{SOON, wait_for, wait_until};

use crate::fake_registry::{
    Answer, FakeRegistry, announce, default_id, options, options_for, unused_url, wait_until_registered,
};

#[tokio::test]
async fn the_first_heartbeat_is_sent_at_once_and_says_everything() {
    let registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    options.zone = Some("a".into());
    options.ttl = Duration::from_secs(60).try_into().unwrap();
    options.instance_id = Some("mail-1".parse().unwrap());
    let details = Details {
        version: Some("1.4.0".into()),
        health: Some("/healthz".parse().unwrap()),
        weight: "2".parse().unwrap(),
        tags: ["blue".to_owned()].into(),
        meta: [("owner".to_owned(), "ops".to_owned())].into(),
        condition: Condition::new(Status::Critical, "no database"),
        ..Details::default()
    };
    let listen = "127.0.0.1:7070".parse().unwrap();
    let heartbeat = Heartbeat::start("mail".parse().unwrap(), listen, &options, details);
    wait_until_registered(&heartbeat, true).await;
    let first = &registry.received()[0];
    assert_eq!(first.path, "/v1/services/mail/instances/mail-1");
    let expected = json!({
        "address": "127.0.0.1:7070", "weight": 2, "zone": "a", "version": "1.4.0", "health": "/healthz",
        "status": "critical", "reason": "no database", "tags": ["blue"], "meta": {"owner": "ops"}, "ttl_ms": 60_000,
    });
    assert_eq!(first.body, expected);
    let state = heartbeat.state().borrow().clone();
    assert_eq!(state.registry.unwrap().to_string(), registry.url());
    assert_eq!(state.instance.unwrap().as_str(), "mail-1");
    assert_eq!(state.reply.unwrap().revision, 7);
}

#[tokio::test]
async fn who_listens_on_all_addresses_announces_the_one_that_reaches_the_registry() {
    let registry = FakeRegistry::start();
    let listen = "0.0.0.0:7070".parse().unwrap();
    let service = "mail".parse().unwrap();
    let heartbeat = Heartbeat::start(service, listen, &options(&[&registry]), Details::default());
    wait_until_registered(&heartbeat, true).await;
    let first = &registry.received()[0];
    assert_eq!(first.path, "/v1/services/mail/instances/127.0.0.1:7070");
    assert_eq!(first.body, json!({"address": "127.0.0.1:7070"}));
}

#[tokio::test]
async fn heartbeats_go_on_as_long_as_the_handle_lives_and_no_longer() {
    let registry = FakeRegistry::start();
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(3).await;
    let times: Vec<_> = registry.heartbeats().iter().map(|heartbeat| heartbeat.at).collect();
    let whole = times[2].duration_since(times[0]).unwrap();
    assert!(whole > Duration::from_millis(1700), "{whole:?} is no rhythm of 2 s with at most half off at first");
    let mut state = heartbeat.state();
    drop(heartbeat);
    let closed = async { while state.changed().await.is_ok() {} };
    tokio::time::timeout(SOON, closed).await.expect("the loop ends with its handle");
    assert_eq!(registry.story(), ["PUT passing"], "and says nothing, as in a crash");
}

#[tokio::test]
async fn a_changed_status_is_sent_at_once_and_the_same_again_is_nothing() {
    let registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    // The next heartbeat would be due in 12 to 24 minutes.
    options.ttl = Duration::from_secs(3600).try_into().unwrap();
    registry.answer(Answer::Body(
        json!({"ttl_ms": 3_600_000, "next_heartbeat_ms": 1_440_000, "status": "passing", "revision": 1}),
    ));
    let heartbeat = announce(&options);
    wait_until_registered(&heartbeat, true).await;
    heartbeat.set_condition(Status::Passing);
    heartbeat.set_condition(Status::Critical);
    registry.wait_for_word("PUT critical").await;
    heartbeat.set_condition(Status::Critical);
    heartbeat.set_condition(Status::Passing);
    registry.wait_for_heartbeats(3).await;
    assert_eq!(registry.story(), ["PUT passing", "PUT critical", "PUT passing"]);
    assert_eq!(registry.received().len(), 3);
}

#[tokio::test]
async fn a_status_that_changes_all_the_time_is_no_flood() {
    let registry = FakeRegistry::start();
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    let started = Instant::now();
    let mut flips = 0_u32;
    while started.elapsed() < Duration::from_millis(500) {
        heartbeat.set_condition(if flips.is_multiple_of(2) { Status::Critical } else { Status::Passing });
        flips += 1;
        tokio::task::yield_now().await;
    }
    let sent = registry.received().len();
    assert!(flips > 100 && sent < 30, "{flips} changes, {sent} heartbeats");
}

#[tokio::test]
async fn a_registration_is_lost_after_its_ttl_and_comes_back_with_the_registry() {
    let mut registry = FakeRegistry::start();
    let mut options = options(&[&registry]);
    options.ttl = Duration::from_secs(2).try_into().unwrap();
    registry
        .answer(Answer::Body(json!({"ttl_ms": 2000, "next_heartbeat_ms": 800, "status": "passing", "revision": 1})));
    let heartbeat = announce(&options);
    wait_until_registered(&heartbeat, true).await;
    registry.die().await;
    wait_until_registered(&heartbeat, false).await;
    let error = heartbeat.state().borrow().last_error.clone();
    assert!(matches!(error, Some(HeartbeatError::Unreachable { .. })), "{error:?}");
    registry.revive();
    wait_until_registered(&heartbeat, true).await;
    assert!(heartbeat.state().borrow().last_error.is_none());
}

#[tokio::test]
async fn it_starts_before_any_registry_and_finds_them_when_they_come() {
    let mut registry = FakeRegistry::start();
    registry.die().await;
    let heartbeat = announce(&options_for([unused_url(), registry.url()]));
    let state = heartbeat.state();
    wait_for("an error", SOON, || async { state.borrow().last_error.clone() }).await;
    registry.revive();
    wait_until_registered(&heartbeat, true).await;
}

#[tokio::test]
async fn metrics_count_what_became_of_every_attempt() {
    let registry = FakeRegistry::start();
    let mut metrics = prometheus_client::registry::Registry::default();
    let details = Details { metrics: HeartbeatMetrics::register(&mut metrics), ..Details::default() };
    let options = options_for([registry.url(), unused_url()]);
    let service = "mail".parse().unwrap();
    let heartbeat = Heartbeat::start(service, "127.0.0.1:7070".parse().unwrap(), &options, details);
    wait_until_registered(&heartbeat, true).await;
    let text = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics).unwrap();
        text
    };
    wait_until("the gauge", SOON, || async { text().contains("heartbeat_registered 1") }).await;
    assert!(text().contains("heartbeat_attempts_total{outcome=\"accepted\"} 1"), "{}", text());
    let state = heartbeat.state();
    assert_eq!(state.borrow().instance, Some(default_id()));
}
