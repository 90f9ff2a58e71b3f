//! The reply is obeyed, within bounds.

use std::time::Duration;

use discovery::Status;
use serde_json::json;
use testkit::wait::{SOON, wait_until};

use crate::fake_registry::{Answer, FakeRegistry, announce, options, wait_until_registered};

#[tokio::test]
async fn an_operators_drain_reaches_the_service_and_is_taken_back() {
    let registry = FakeRegistry::start();
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    assert!(!heartbeat.state().borrow().is_draining());
    let reply = |status: Status| json!({"ttl_ms": 5000, "next_heartbeat_ms": 2000, "status": status, "revision": 8});
    for (status, expected) in [(Status::Draining, true), (Status::Passing, false)] {
        registry.answer(Answer::Body(reply(status)));
        let state = heartbeat.state();
        wait_until("the drain", SOON, || async { state.borrow().is_draining() == expected }).await;
        assert!(state.borrow().registered);
    }
    assert_eq!(registry.story(), ["PUT passing"], "what the service says of itself is another matter");
}

#[tokio::test]
async fn a_registry_that_wants_heartbeats_all_the_time_gets_two_a_second() {
    let registry = FakeRegistry::start();
    registry.answer(Answer::Body(json!({"ttl_ms": 5000, "next_heartbeat_ms": 0, "status": "passing", "revision": 1})));
    let _heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(8).await;
    let times: Vec<_> = registry.heartbeats().iter().map(|heartbeat| heartbeat.at).collect();
    let whole = times[7].duration_since(times[0]).unwrap();
    assert!(whole > Duration::from_millis(1500), "eight heartbeats within {whole:?}");
}

#[tokio::test]
async fn a_registry_that_wants_hardly_any_heartbeats_gets_them_in_time_for_the_ttl() {
    let registry = FakeRegistry::start();
    registry.answer(Answer::Body(
        json!({"ttl_ms": u64::MAX, "next_heartbeat_ms": u64::MAX, "status": "passing", "revision": 1}),
    ));
    let _heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(3).await;
}
