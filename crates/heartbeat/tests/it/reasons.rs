//! Why an instance is as it is, and how often that is said anew.

use std::time::Duration;

use discovery::Status;
use heartbeat::Condition;
use testkit::wait::{SOON, wait_until};

use crate::fake_registry::{Answer, FakeRegistry, Received, announce, options, wait_until_registered};

fn reason(received: &Received) -> &str {
    received.body["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_new_reason_waits_and_a_new_rotation_does_not() {
    let registry = FakeRegistry::start();
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    heartbeat.set_condition(Condition::new(Status::Critical, "no database"));
    registry.wait_for_word("PUT critical").await;
    heartbeat.set_condition(Condition::new(Status::Degraded, "first"));
    registry.wait_for_word("PUT degraded").await;
    for number in 0..50 {
        heartbeat.set_condition(Condition::new(Status::Degraded, &format!("{number} messages wait")));
    }
    let heartbeats = || {
        let mut all = registry.heartbeats();
        all.dedup_by(|later, earlier| reason(later) == reason(earlier));
        all
    };
    wait_until("the last of the reasons", SOON, async || {
        heartbeats().last().is_some_and(|last| reason(last).starts_with("49 "))
    })
    .await;
    let told = heartbeats();
    let reasons: Vec<&str> = told.iter().map(reason).collect();
    assert_eq!(reasons, ["", "no database", "first", "49 messages wait"]);
    let between = told[3].at.duration_since(told[2].at).unwrap();
    assert!(between > Duration::from_secs(9), "{between:?} between two remarks");
    heartbeat.set_condition(Condition::new(Status::Critical, "no database"));
    wait_until("critical, at once", SOON, async || {
        heartbeats().last().is_some_and(|last| reason(last) == "no database")
    })
    .await;
}

#[tokio::test]
async fn a_registry_of_before_reasons_gets_what_it_knows() {
    let registry = FakeRegistry::answering(Answer::Older);
    let heartbeat = announce(&options(&[&registry]));
    wait_until_registered(&heartbeat, true).await;
    heartbeat.set_condition(Condition::new(Status::Degraded, "SMTP away"));
    registry.wait_for_word("PUT degraded").await;
    let passing_again = async || registry.heartbeats().last().is_some_and(|last| last.body.get("status").is_none());
    wait_until("passing instead", SOON, passing_again).await;
    heartbeat.set_condition(Condition::new(Status::Critical, "no database"));
    wait_until("critical without a reason", SOON, async || {
        registry.heartbeats().last().is_some_and(|last| last.body["status"] == "critical" && reason(last).is_empty())
    })
    .await;
    assert!(heartbeat.state().borrow().registered, "it is registered all the time");
}
