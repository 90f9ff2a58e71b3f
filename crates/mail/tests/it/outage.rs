//! An hour without the SMTP server, on a clock that is moved forward.

use std::time::Duration;

use serde_json::Value;
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};
use tokio::time::{advance, pause, resume, sleep};

use crate::service::Mail;

const HOUR: Duration = Duration::from_secs(3600);
const PIECE: Duration = Duration::from_secs(30);

/// How a server can be down.
#[derive(Debug, Clone, Copy)]
enum Down {
    NobodyListens,
    SaysSo,
    AcceptsAndIsSilent,
}

/// Moves the clock of everything in this runtime, then lets the sockets and the database catch up.
async fn pass(duration: Duration) {
    pause();
    advance(duration).await;
    resume();
    sleep(Duration::from_millis(40)).await;
}

/// Waits until the dispatcher has claimed its first message and the queue pauses, or the server has its connection.
/// From then on nothing is claimed until the server is back. A claim under way must not see the clock move: its write
/// has five seconds, would count as failed although it may be committed, and the message would wait until the claim
/// expires.
async fn first_attempt(down: Down, sink: &SmtpSink, mail: &Mail, id: &str) {
    wait_until("the first attempt", SOON, || async {
        match down {
            Down::NobodyListens | Down::SaysSo => attempts(&mail.get(&format!("/v1/messages/{id}")).await.body) > 0,
            Down::AcceptsAndIsSilent => sink.connections_accepted() > 0,
        }
    })
    .await;
}

/// How often the only recipient of `message` was attempted.
fn attempts(message: &Value) -> i64 {
    message["recipients"][0]["attempts"].as_i64().unwrap()
}

async fn an_hour(down: Down) {
    let mut sink = SmtpSink::start().await;
    match down {
        Down::NobodyListens => sink.down().await,
        Down::SaysSo => sink.always(Step::Greeting, Behaviour::reply("421 4.3.2 down for maintenance")),
        Down::AcceptsAndIsSilent => sink.always(Step::Greeting, Behaviour::Hang),
    }
    let mail = Mail::working(&sink, &["--sends-max", "1"]);
    let mut passed = Duration::ZERO;
    let mut expected = Vec::new();
    while passed < HOUR {
        let to = format!("a{}@b.c", expected.len());
        let id = mail.accepted(&to).await;
        if expected.is_empty() {
            first_attempt(down, &sink, &mail, &id).await;
        }
        expected.push(to);
        pass(PIECE).await;
        passed += PIECE;
    }
    let knocked = sink.connections_accepted();
    assert!(knocked < expected.len() * 2, "{down:?}: {knocked} connections in an hour");
    assert!(sink.messages().is_empty());
    sink.behave();
    if matches!(down, Down::NobodyListens) {
        sink.up();
    }
    // The longest pause between two checks, and the deadline of the one that hangs. Once a check gets through, the
    // queue resumes, and the clock is left alone.
    for _ in 0..12 {
        if sink.connections_accepted() > knocked {
            break;
        }
        pass(PIECE).await;
    }
    wait_until("the drain", SOON, || async { sink.messages().len() >= expected.len() }).await;
    let order: Vec<String> = sink.messages().iter().map(|message| message.recipients[0].clone()).collect();
    assert_eq!(order, expected, "{down:?}: everything, once, in order");
    let attempts: i64 =
        mail.get("/v1/messages?limit=200").await.body["messages"].as_array().unwrap().iter().map(attempts).sum();
    let attempts = usize::try_from(attempts).unwrap();
    assert!(attempts <= expected.len() + 5, "{down:?}: an outage is not paid for by every message: {attempts}");
}

#[tokio::test]
async fn an_hour_in_which_nobody_listens_loses_nothing_and_the_queue_drains_in_order() {
    an_hour(Down::NobodyListens).await;
}

#[tokio::test]
async fn an_hour_in_which_the_server_says_that_it_is_down_loses_nothing() {
    an_hour(Down::SaysSo).await;
}

#[tokio::test]
async fn an_hour_in_which_the_server_accepts_and_is_silent_loses_nothing() {
    an_hour(Down::AcceptsAndIsSilent).await;
}
