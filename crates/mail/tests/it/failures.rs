//! A server that refuses, puts off, falls silent, leaves or talks nonsense, at every step of a conversation.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use testkit::smtp_sink::{Behaviour, SmtpSink, Step};

use crate::service::{Answer, Mail};

const SESSION: [Step; 2] = [Step::Greeting, Step::Ehlo];
const MESSAGE: [Step; 3] = [Step::Sender, Step::Recipient, Step::Data];

/// Sends one message to a server that does this once, and then another: the failure must not outlive its conversation.
async fn misbehaving(step: Step, behaviour: Behaviour, args: &[&str]) -> (Answer, SmtpSink) {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, args);
    sink.once(step, behaviour.clone());
    let answer = mail.send().await;
    let taken = sink.messages().len();
    // A server that calls the address none puts it on the list.
    mail.call("DELETE", "/v1/suppressions/a@b.c", &serde_json::Value::Null).await;
    mail.send().await.assert(200, "success");
    assert_eq!(sink.messages().len(), taken + 1, "after {behaviour:?} at {step:?}");
    assert_eq!(sink.violations(), Vec::<String>::new(), "after {behaviour:?} at {step:?}");
    (answer, sink)
}

async fn check(steps: &[Step], behaviour: Behaviour, status: u16, code: &str) {
    let behaviour = &behaviour;
    join_all(steps.iter().map(|step| async move {
        let (answer, sink) = misbehaving(*step, behaviour.clone(), &[]).await;
        answer.assert(status, code);
        assert_eq!(sink.messages().len(), 1, "nothing was taken before: {behaviour:?} at {step:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
        if let Behaviour::Reply(text) = behaviour
            && code != "smtp_nonsense"
        {
            assert!(answer.detail().contains(text), "the answer must carry the server's words: {answer:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn a_permanent_refusal_is_502_with_the_servers_words() {
    let no = Behaviour::reply("550 5.1.1 no such user here");
    check(&MESSAGE, no.clone(), 502, "smtp_refused").await;
    check(&[Step::EndOfData], no.clone(), 502, "smtp_refused").await;
    check(&SESSION, no, 502, "smtp_session_refused").await;
}

#[tokio::test]
async fn a_temporary_refusal_is_503_with_the_servers_words() {
    let later = Behaviour::reply("451 4.3.0 try again later");
    check(&SESSION, later.clone(), 503, "smtp_deferred").await;
    check(&MESSAGE, later.clone(), 503, "smtp_deferred").await;
    check(&[Step::EndOfData], later, 503, "smtp_deferred").await;
    check(&MESSAGE, Behaviour::reply("421 4.4.2 closing"), 503, "smtp_deferred").await;
}

#[tokio::test]
async fn a_reply_of_several_lines_arrives_whole() {
    let reply = Behaviour::reply("550-5.7.1 not today\r\n550 5.7.1 nor tomorrow");
    let (answer, _) = misbehaving(Step::Recipient, reply, &[]).await;
    assert!(answer.detail().ends_with("550 5.7.1 not today nor tomorrow"), "{answer:?}");
}

#[tokio::test]
async fn a_connection_lost_before_the_final_dot_is_503_and_nothing_was_delivered() {
    check(&SESSION, Behaviour::Drop, 503, "smtp_unreachable").await;
    check(&MESSAGE, Behaviour::Drop, 503, "smtp_connection_lost").await;
}

#[tokio::test]
async fn nonsense_before_the_final_dot_is_502() {
    for nonsense in ["hello", "999 what", "25", "", "\u{fffd}"] {
        check(&[Step::Sender], Behaviour::reply(nonsense), 502, "smtp_nonsense").await;
    }
    // Positive, but not what belongs there.
    check(&[Step::Sender, Step::Recipient], Behaviour::reply("354 go ahead"), 502, "smtp_nonsense").await;
    check(&[Step::Data], Behaviour::reply("250 ok"), 502, "smtp_nonsense").await;
}

#[tokio::test]
async fn replies_that_are_off_by_one_never_make_a_message_look_accepted() {
    // The first reply comes twice, so that every later one is taken for the one before it.
    let (answer, _) = misbehaving(Step::Sender, Behaviour::reply("250 ok\r\n250 ok"), &[]).await;
    answer.assert(502, "smtp_nonsense");
}

#[tokio::test]
async fn a_silent_server_is_504_within_the_deadline_at_every_step() {
    let steps = [SESSION.as_slice(), &MESSAGE].concat();
    join_all(steps.iter().map(|step| async move {
        let sink = SmtpSink::start().await;
        let mail = Mail::over(&sink, &["--smtp-deadline", "6s"]);
        sink.once(*step, Behaviour::Hang);
        let started = Instant::now();
        let answer = mail.send().await;
        answer.assert(504, "smtp_timeout");
        assert!(answer.detail().contains("nothing was delivered"), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{step:?} took {:?}", started.elapsed());
        mail.send().await.assert(200, "success");
        assert_eq!(sink.messages().len(), 1, "{step:?}");
        assert_eq!(sink.connections_accepted(), 2, "a conversation that was broken off is not used again");
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_stops_reading_is_504_within_the_deadline() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--smtp-deadline", "6s"]);
    sink.once(Step::Text, Behaviour::Hang);
    let answer = mail.post(&json!({ "address": "a@b.c", "message": "x".repeat(250_000) })).await;
    // The kernel may have taken all of it, final dot included.
    assert!(matches!((answer.status, answer.code()), (504, "smtp_timeout" | "outcome_unknown")), "{answer:?}");
    mail.send().await.assert(200, "success");
}

#[tokio::test]
async fn no_reply_to_the_final_dot_is_an_unknown_outcome_with_the_message_id() {
    let deadline = ["--smtp-deadline", "6s"];
    let unanswered = [
        (Behaviour::Drop, false),
        (Behaviour::DoAndDrop, true),
        (Behaviour::Hang, false),
        (Behaviour::DoAndHang, true),
        (Behaviour::reply("what?"), false),
        (Behaviour::reply("354 more"), false),
        (Behaviour::reply("250-half an answer"), false),
    ];
    join_all(unanswered.into_iter().map(|(behaviour, was_taken)| async move {
        let (answer, sink) = misbehaving(Step::EndOfData, behaviour.clone(), &deadline).await;
        answer.assert(504, "outcome_unknown");
        let id = answer.header("x-message-id").unwrap();
        assert!(answer.detail().contains(id), "{answer:?}");
        let found = sink.messages().iter().any(|message| message.header("Message-ID").as_deref() == Some(id));
        assert_eq!(found, was_taken, "{behaviour:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_refusal_is_reported_even_when_the_server_never_answers_quit() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.always(Step::Quit, Behaviour::Hang);
    sink.once(Step::Recipient, Behaviour::reply("421 4.3.2 going down"));
    mail.send().await.assert(503, "smtp_deferred");
}

#[tokio::test]
async fn nobody_listening_is_503_and_the_same_service_sends_when_somebody_does() {
    let mut sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.send().await.assert(200, "success");
    sink.down().await;
    let answer = mail.send().await;
    answer.assert(503, "smtp_unreachable");
    assert!(answer.detail().contains("refused"), "{answer:?}");
    assert_eq!(mail.get("/readyz").await.status, 503);
    sink.up();
    mail.send().await.assert(200, "success");
    assert_eq!(mail.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn failures_are_counted_by_outcome() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("550 no"));
    mail.send().await.assert(502, "smtp_refused");
    mail.send().await.assert(200, "success");
    let metrics = mail.get("/metrics").await.body.as_str().unwrap().to_owned();
    for line in [
        "mail_sends_total{outcome=\"smtp_refused\"} 1",
        "mail_sends_total{outcome=\"sent\"} 1",
        "mail_send_duration_seconds_count 2",
        "mail_sends_under_way 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}
