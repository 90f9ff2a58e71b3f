//! Registries that are dead, frozen, overloaded or lying: none of them costs the registration.

use std::time::Duration;

use discovery::Status;
use heartbeat::{Heartbeat, HeartbeatError};
use serde_json::json;
use testkit::wait::{SOON, wait_for, wait_until};

use crate::fake_registry::{Answer, FakeRegistry, announce, options, options_for, unused_url, wait_until_registered};

/// Whom the heartbeats go to, and the others.
async fn split<'a>(heartbeat: &Heartbeat, registries: [&'a FakeRegistry; 2]) -> [&'a FakeRegistry; 2] {
    wait_until_registered(heartbeat, true).await;
    let current = heartbeat.state().borrow().registry.clone().unwrap().to_string();
    let [a, b] = registries;
    if current == a.url() { [a, b] } else { [b, a] }
}

/// Fails as soon as the registration is lost, whatever else happens meanwhile.
async fn without_a_loss<T>(heartbeat: &Heartbeat, story: impl Future<Output = T>) -> T {
    let mut state = heartbeat.state();
    let lost = async {
        let error = state.wait_for(|state| !state.registered).await.map(|state| state.last_error.clone());
        panic!("the registration was lost: {error:?}");
    };
    tokio::select! {
        output = story => output,
        () = lost => unreachable!("it panics"),
    }
}

#[tokio::test]
async fn a_dead_registry_in_the_list_costs_nothing() {
    let registry = FakeRegistry::start();
    // Several, so that some of them draw the dead one first.
    let heartbeats: Vec<_> = (0..6).map(|_| announce(&options_for([unused_url(), registry.url()]))).collect();
    for heartbeat in &heartbeats {
        wait_until_registered(heartbeat, true).await;
        assert!(heartbeat.state().borrow().last_error.is_none());
    }
}

#[tokio::test]
async fn a_registry_that_dies_costs_no_registration_and_is_not_returned_to() {
    let mut a = FakeRegistry::start();
    let mut b = FakeRegistry::start();
    let heartbeat = announce(&options(&[&a, &b]));
    let is_a = split(&heartbeat, [&a, &b]).await[0].url() == a.url();
    let (current, other) = if is_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
    without_a_loss(&heartbeat, async {
        current.die().await;
        other.wait_for_heartbeats(1).await;
        current.revive();
        current.forget();
        other.wait_for_heartbeats(3).await;
    })
    .await;
    assert_eq!(current.received().len(), 0, "what works is kept");
    assert_eq!(heartbeat.state().borrow().registry.as_ref().unwrap().to_string(), other.url());
}

#[tokio::test]
async fn a_registry_that_freezes_costs_no_registration() {
    let a = FakeRegistry::start();
    let b = FakeRegistry::start();
    let heartbeat = announce(&options(&[&a, &b]));
    let [current, other] = split(&heartbeat, [&a, &b]).await;
    without_a_loss(&heartbeat, async {
        current.answer(Answer::Silent);
        other.wait_for_heartbeats(2).await;
    })
    .await;
    assert_eq!(heartbeat.state().borrow().registry.as_ref().unwrap().to_string(), other.url());
}

#[tokio::test]
async fn frozen_dead_busy_and_lying_registries_together_cost_no_registration() {
    let good = FakeRegistry::start();
    let bad = [
        FakeRegistry::answering(Answer::Silent),
        FakeRegistry::answering(Answer::Status(503, Some("86400"))),
        FakeRegistry::answering(Answer::Status(404, None)),
        FakeRegistry::answering(Answer::Endless),
    ];
    let urls = bad.iter().map(FakeRegistry::url).chain([unused_url(), good.url()]);
    let heartbeat = announce(&options_for(urls));
    wait_until_registered(&heartbeat, true).await;
    without_a_loss(&heartbeat, good.wait_for_heartbeats(3)).await;
}

#[tokio::test]
async fn a_busy_registry_is_left_for_another_one_at_once() {
    let a = FakeRegistry::start();
    let b = FakeRegistry::start();
    let heartbeat = announce(&options(&[&a, &b]));
    let [current, other] = split(&heartbeat, [&a, &b]).await;
    current.answer(Answer::Status(503, Some("1")));
    heartbeat.set_condition(Status::Critical);
    other.wait_for_word("PUT critical").await;
}

#[tokio::test]
async fn the_only_registry_is_given_the_time_it_asks_for_but_not_for_ever() {
    let registry = FakeRegistry::answering(Answer::Status(503, Some("86400")));
    let heartbeat = announce(&options(&[&registry]));
    registry.wait_for_heartbeats(3).await;
    let times: Vec<_> = registry.heartbeats().iter().map(|heartbeat| heartbeat.at).collect();
    for gap in times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()) {
        assert!(gap >= Duration::from_millis(1950), "{gap:?} is less than the 2 s that a Retry-After can ask for");
    }
    let error = heartbeat.state().borrow().last_error.clone();
    assert!(matches!(error, Some(HeartbeatError::Busy { status: 503, .. })), "{error:?}");
    registry.answer(Answer::Accept);
    wait_until_registered(&heartbeat, true).await;
}

#[tokio::test]
async fn a_refused_heartbeat_names_the_reason_and_is_tried_again() {
    let registry = FakeRegistry::answering(Answer::Status(422, None));
    let heartbeat = announce(&options(&[&registry]));
    let state = heartbeat.state();
    let error = wait_for("an error", SOON, || async { state.borrow().last_error.clone() }).await;
    assert!(!error.is_transient());
    assert!(error.to_string().ends_with("(422): because the test says so"), "{error}");
    registry.wait_for_heartbeats(2).await;
    let times: Vec<_> = registry.heartbeats().iter().map(|heartbeat| heartbeat.at).collect();
    let gap = times[1].duration_since(times[0]).unwrap();
    assert!(gap > Duration::from_millis(1750), "{gap:?} is not slow");
    registry.answer(Answer::Accept);
    wait_until_registered(&heartbeat, true).await;
}

#[tokio::test]
async fn a_success_that_no_registry_would_utter_registers_nothing() {
    for answer in [
        Answer::Body(json!({"message": "welcome"})),
        Answer::Body(json!([])),
        Answer::Body(json!({"ttl_ms": -1, "next_heartbeat_ms": 1, "status": "passing", "revision": 1})),
        Answer::Endless,
    ] {
        let registry = FakeRegistry::answering(answer.clone());
        let heartbeat = announce(&options(&[&registry]));
        let state = heartbeat.state();
        let error = wait_for("an error", SOON, || async { state.borrow().last_error.clone() }).await;
        let is_named = matches!(error, HeartbeatError::Nonsense { .. } | HeartbeatError::TimedOut { .. });
        assert!(is_named && !state.borrow().registered, "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeRegistry::start();
    let registry = FakeRegistry::answering(Answer::Redirect(elsewhere.url()));
    let heartbeat = announce(&options(&[&registry]));
    let state = heartbeat.state();
    wait_until("the refusal", SOON, || async {
        matches!(state.borrow().last_error, Some(HeartbeatError::Refused { status: 307, .. }))
    })
    .await;
    assert_eq!(elsewhere.received().len(), 0);
}
