//! A heartbeat says of which life it is, and obeys what is said about it.

use heartbeat::Heartbeat;
use serde_json::json;
use testkit::wait::{SOON, wait_until};

use crate::fake_registry::{Answer, FakeRegistry, announce, options, wait_until_registered};

const FIRST: &str = "00000000000000a1";

fn reply(incarnation: &str) -> Answer {
    let reply = json!({"ttl_ms": 5000, "next_heartbeat_ms": 500, "status": "passing", "revision": 1});
    let mut reply = reply.as_object().unwrap().clone();
    reply.insert("incarnation".into(), incarnation.into());
    Answer::Body(reply.into())
}

/// What the heartbeats said of which life they are, without repetitions.
fn lives(registry: &FakeRegistry) -> Vec<String> {
    let mut lives: Vec<String> =
        registry.heartbeats().into_iter().map(|heartbeat| heartbeat.life.unwrap_or_default()).collect();
    lives.dedup();
    lives
}

#[tokio::test]
async fn a_life_begins_with_the_first_heartbeat_and_is_named_by_the_next_ones_and_the_end() {
    let registry = FakeRegistry::answering(reply(FIRST));
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(3).await;
    heartbeat.deregister().await;
    registry.wait_for_word("DELETE").await;
    let lives = lives(&registry);
    assert!(lives.len() == 2 && lives[0].starts_with("new:") && lives[1] == FIRST, "{lives:?}");
    let deletion = registry.received().pop().unwrap();
    assert_eq!(deletion.if_match, Some(format!("\"{FIRST}\"")));
}

#[tokio::test]
async fn a_beginning_that_is_repeated_is_the_same_beginning() {
    let registry = FakeRegistry::answering(Answer::Status(503, None));
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(3).await;
    let lives = lives(&registry);
    assert!(lives.len() == 1 && lives[0].starts_with("new:"), "{lives:?}");
    registry.answer(Answer::Accept);
    heartbeat.deregister().await;
    registry.wait_for_word("DELETE").await;
    let deletion = registry.received().pop().unwrap();
    let begun = lives[0].strip_prefix("new:").unwrap();
    assert_eq!(deletion.if_match, Some(format!("\"{begun}\"")), "also of whom no answer came");
}

#[tokio::test]
async fn an_instance_that_leaves_before_it_was_registered_takes_no_id_over() {
    let registry = FakeRegistry::answering(Answer::Silent);
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(1).await;
    registry.answer(Answer::Problem(409, "another_incarnation"));
    heartbeat.deregister().await;
    let said = registry.heartbeats().pop().unwrap();
    assert_eq!((said.body["status"].as_str(), said.life.unwrap().len()), (Some("draining"), 16));
}

#[tokio::test]
async fn a_life_that_has_ended_is_followed_by_a_new_one_at_once() {
    let registry = FakeRegistry::answering(reply(FIRST));
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    registry.forget();
    registry.answer(Answer::Problem(409, "incarnation_ended"));
    registry.wait_for_heartbeats(2).await;
    let lives = lives(&registry);
    assert!(lives[0] == FIRST && lives[1].starts_with("new:"), "{lives:?}");
    registry.answer(reply("00000000000000a2"));
    wait_until_registered(&heartbeat, true).await;
}

/// One that was registered, and whose id another one has now.
async fn displaced() -> (FakeRegistry, Heartbeat) {
    let registry = FakeRegistry::answering(reply(FIRST));
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    registry.answer(Answer::Problem(409, "another_incarnation"));
    let state = heartbeat.state();
    wait_until("displaced", SOON, || async { state.borrow().is_displaced() }).await;
    (registry, heartbeat)
}

#[tokio::test]
async fn an_instance_whose_id_another_one_has_says_so_does_not_fight_and_is_back_when_that_ends() {
    let (registry, heartbeat) = displaced().await;
    let state = heartbeat.state();
    assert!(!state.borrow().registered);
    registry.forget();
    registry.wait_for_heartbeats(2).await;
    assert_eq!(lives(&registry), [FIRST], "it asks as what it was");
    registry.answer(Answer::Problem(409, "incarnation_ended"));
    wait_until("a new life", SOON, || async { lives(&registry).last().unwrap().starts_with("new:") }).await;
    registry.answer(reply("00000000000000a2"));
    wait_until("registered again", SOON, || async { state.borrow().registered }).await;
    assert!(!state.borrow().is_displaced());
}

#[tokio::test]
async fn who_was_displaced_takes_nothing_away_when_it_leaves() {
    let (registry, heartbeat) = displaced().await;
    heartbeat.deregister().await;
    let is_named = |received: &crate::fake_registry::Received| {
        received.if_match.as_deref() == Some("\"00000000000000a1\"") || received.life.as_deref() == Some(FIRST)
    };
    assert!(registry.received().iter().skip(1).all(is_named), "{:?}", registry.received());
}

#[tokio::test]
async fn a_registry_of_an_earlier_version_gets_heartbeats_without_a_life() {
    let registry = FakeRegistry::answering(Answer::AcceptOld);
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    registry.wait_for_heartbeats(3).await;
    let lives = lives(&registry);
    assert!(lives.len() == 2 && lives[0].starts_with("new:") && lives[1].is_empty(), "asked once: {lives:?}");
    heartbeat.deregister().await;
    registry.wait_for_word("DELETE").await;
}
