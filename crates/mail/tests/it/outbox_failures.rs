//! The outbox and a server that refuses, puts off, falls silent or leaves: every message ends in the right state.

use futures::future::join_all;
use serde_json::{Value, json};
use testkit::{
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

const STEPS: [Step; 6] = [Step::Greeting, Step::Ehlo, Step::Sender, Step::Recipient, Step::Data, Step::EndOfData];

fn outcomes(message: &Value) -> Vec<String> {
    let log = message["recipients"][0]["log"].as_array().unwrap();
    log.iter().map(|attempt| attempt["outcome"].as_str().unwrap().to_owned()).collect()
}

/// One message to a server that does this once: it ends in `state`, after these attempts.
async fn once(step: Step, behaviour: Behaviour, args: &[&str], state: &str) -> (Value, SmtpSink) {
    let sink = SmtpSink::start().await;
    sink.once(step, behaviour);
    let mail = Mail::working(&sink, args);
    let id = mail.accepted("a@b.c").await;
    let message = mail.until(&id, state).await;
    assert_eq!(sink.violations(), Vec::<String>::new());
    (message, sink)
}

#[tokio::test]
async fn a_temporary_failure_at_any_step_is_tried_again_and_delivered_once() {
    join_all(STEPS.map(|step| async move {
        let (message, sink) = once(step, Behaviour::reply("451 4.3.0 later"), &[], "delivered").await;
        assert_eq!(outcomes(&message), ["smtp_deferred", "sent"], "{step:?}");
        assert_eq!(message["recipients"][0]["log"][0]["reply"], "451 4.3.0 later");
        assert_eq!(sink.messages().len(), 1, "{step:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_permanent_refusal_stops_at_once() {
    join_all([Step::Sender, Step::Recipient, Step::Data, Step::EndOfData].map(|step| async move {
        let (message, sink) = once(step, Behaviour::reply("550 5.1.1 no"), &[], "failed").await;
        assert_eq!(outcomes(&message), ["smtp_refused"], "{step:?}");
        assert!(sink.messages().is_empty(), "{step:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_refusal_of_the_session_is_no_refusal_of_the_message() {
    let (message, _) = once(Step::Greeting, Behaviour::reply("554 5.7.1 not you"), &[], "delivered").await;
    assert_eq!(outcomes(&message), ["smtp_session_refused", "sent"]);
}

#[tokio::test]
async fn a_connection_dropped_at_any_step_is_tried_again_with_the_same_message_id() {
    join_all(STEPS.map(|step| async move {
        let (_, sink) = once(step, Behaviour::Drop, &[], "delivered").await;
        assert_eq!(sink.messages().len(), 1, "{step:?}");
    }))
    .await;
    let (message, sink) = once(Step::EndOfData, Behaviour::DoAndDrop, &[], "delivered").await;
    assert_eq!(outcomes(&message), ["outcome_unknown", "sent"]);
    let received = sink.messages();
    assert_eq!(received.len(), 2, "the one that nobody knew of, and the one that is certain");
    assert!(received[0].header("Message-ID").is_some() && received[0].data == received[1].data);
}

#[tokio::test]
async fn a_server_that_hangs_at_any_step_holds_nothing_up_for_ever() {
    let args = ["--smtp-step-max", "4s", "--smtp-patience", "4s"];
    join_all(STEPS.map(|step| async move {
        let (message, sink) = once(step, Behaviour::Hang, &args, "delivered").await;
        assert_eq!(outcomes(&message).len(), 2, "{step:?}: {message}");
        assert_eq!(sink.messages().len(), 1, "{step:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_final_reply_that_comes_late_is_waited_for_and_makes_no_duplicate() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--smtp-step-max", "4s", "--smtp-patience", "1m"]);
    sink.once(Step::EndOfData, Behaviour::Hold);
    let id = mail.accepted("a@b.c").await;
    wait_until("the final dot", SOON, || async { sink.held() == 1 }).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    sink.release();
    let message = mail.until(&id, "delivered").await;
    assert_eq!((outcomes(&message).len(), sink.messages().len()), (1, 1), "{message}");
}

#[tokio::test]
async fn each_recipient_has_a_fate_of_its_own() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--sends-max", "1"]);
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 unknown"));
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    let answer = mail.submit(&json!({ "to": ["a@b.c", "d@e.f", "g@h.i"], "text": "hello" })).await;
    let message = mail.until(answer.body["id"].as_str().unwrap(), "partial").await;
    let states: Vec<_> = message["recipients"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["failed", "delivered", "delivered"], "{message}");
    assert_eq!(sink.messages().len(), 2, "nobody got it twice");
}

#[tokio::test]
async fn a_message_is_given_up_when_its_time_is_over() {
    let sink = SmtpSink::start().await;
    sink.always(Step::Recipient, Behaviour::reply("450 4.2.1 mailbox full"));
    let mail = Mail::working(&sink, &["--retry-for", "5s"]);
    let id = mail.accepted("a@b.c").await;
    let message = mail.until(&id, "failed").await;
    assert!(outcomes(&message).len() >= 2 && sink.messages().is_empty(), "{message}");
}

#[tokio::test]
async fn an_outage_loses_nothing_and_the_queue_drains_in_order_when_it_is_over() {
    let mut sink = SmtpSink::start().await;
    sink.down().await;
    let mail = Mail::working(&sink, &["--sends-max", "1"]);
    let mut expected = Vec::new();
    for index in 0..30 {
        let to = format!("a{index}@b.c");
        mail.accepted(&to).await;
        expected.push(to);
    }
    wait_until("the first attempt", SOON, || async {
        mail.get("/v1/messages?limit=200").await.body["messages"][29]["recipients"][0]["attempts"].as_i64() >= Some(1)
    })
    .await;
    assert_eq!(mail.get("/readyz").await.status, 503);
    sink.up();
    wait_until("the drain", SOON, || async { sink.messages().len() == 30 }).await;
    let order: Vec<String> = sink.messages().iter().map(|message| message.recipients[0].clone()).collect();
    assert_eq!(order, expected);
    let page = mail.get("/v1/messages?limit=200").await.body;
    let attempts =
        page["messages"].as_array().unwrap().iter().map(|one| one["recipients"][0]["attempts"].as_i64().unwrap());
    assert!(attempts.sum::<i64>() < 40, "an outage is not paid for by every message: {page}");
}

#[tokio::test]
async fn a_domain_that_is_slow_does_not_hold_others_up() {
    let sink = SmtpSink::start().await;
    sink.once(Step::Sender, Behaviour::Hold);
    let mail = Mail::working(&sink, &["--sends-max", "4", "--domain-sends-max", "1"]);
    for _ in 0..8 {
        mail.accepted("a@slow.example").await;
    }
    wait_until("the slow one", SOON, || async { sink.held() == 1 }).await;
    let other = mail.accepted("a@quick.example").await;
    mail.until(&other, "delivered").await;
    assert_eq!(sink.messages().len(), 1, "one at a time to the slow domain");
    sink.release();
    wait_until("the rest", SOON, || async { sink.messages().len() == 9 }).await;
}
