//! A service goes away and comes back: what a user is told, and how soon.

use std::time::{Duration, Instant};

use e2e::suite::{Answer, Suite};
use reqwest::StatusCode;
use serde_json::json;
use testkit::wait::wait_for;

/// Promised: 1 s after it was stopped, 7 s after it was killed, 3 s until it is back. A test on a busy machine may take
/// longer without anything being wrong; what was measured is printed.
const SLACK: Duration = Duration::from_secs(10);

async fn mail(suite: &Suite) -> Answer {
    suite.post("mail", json!({"address": "a@b.c", "message": "hello"})).await
}

async fn seconds_until(suite: &Suite, what: &str, promised: u64, status: StatusCode) -> (f64, Answer) {
    let started = Instant::now();
    let answer = wait_for(what, Duration::from_secs(promised) + SLACK, async || {
        let asked = Instant::now();
        let answer = mail(suite).await;
        assert!(asked.elapsed() < Duration::from_secs(15), "no request may hang: {answer:?}");
        let allowed = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY];
        assert!(allowed.contains(&answer.status), "{answer:?}");
        (answer.status == status).then_some(answer)
    })
    .await;
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: after {seconds:.2} s (promised: {promised} s)");
    (seconds, answer)
}

#[tokio::test]
async fn a_stopped_service_is_down_with_a_reason_and_is_back_when_started() {
    let mut suite = Suite::start().await;
    suite.terminate("mail-1").await;
    suite.terminate("mail-2").await;
    let (_, down) = seconds_until(&suite, "503 after SIGTERM", 1, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(down.retry_after.is_some(), "{down:?}");
    // A process may be gone before the gateway has heard of the farewell.
    let told = wait_for("a reason that names the end", SLACK, async || {
        let answer = mail(&suite).await;
        answer.body["detail"].as_str().unwrap_or_default().contains("deregistered").then_some(answer)
    })
    .await;
    assert_eq!((told.status, &told.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("no_instance")), "{told:?}");
    assert!(told.body["detail"].as_str().unwrap().contains("mail"), "{told:?}");
    suite.run("mail-1");
    suite.run("mail-2");
    seconds_until(&suite, "200 after the start", 3, StatusCode::OK).await;
}

#[tokio::test]
async fn a_killed_service_is_down_with_a_reason_and_is_back_when_started() {
    let mut suite = Suite::start().await;
    suite.kill("mail-1");
    suite.kill("mail-2");
    let (_, down) = seconds_until(&suite, "503 after SIGKILL", 7, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(down.retry_after.is_some(), "{down:?}");
    let expired = wait_for("a reason that names the lost heartbeat", Duration::from_secs(7) + SLACK, async || {
        let answer = mail(&suite).await;
        answer.body["detail"].as_str().unwrap_or_default().contains("lost its heartbeat").then_some(answer)
    })
    .await;
    assert_eq!((expired.status, &expired.body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("no_instance")));
    suite.run("mail-1");
    suite.run("mail-2");
    seconds_until(&suite, "200 after the start", 3, StatusCode::OK).await;
}

#[tokio::test]
async fn a_service_that_never_was_is_told_apart_from_one_that_is_down() {
    let suite = Suite::start().await;
    let answer = suite.post("mial", json!({})).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(answer.body["detail"].as_str().unwrap().contains("ever registered"), "{answer:?}");
}
