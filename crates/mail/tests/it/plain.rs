//! `POST /` keeps every promise of the others: record, key, suppression; and its own, that 200 means that the server
//! has it.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{
    database::Database,
    smtp_sink::{Behaviour, SmtpSink, Step},
    wait::{SOON, wait_for, wait_until},
};

use crate::{
    process::Program,
    service::{Answer, Mail},
};

fn message() -> Value {
    json!({ "address": "a@b.c", "message": "hello" })
}

/// The record of the message that an answer is about.
async fn record(mail: &Mail, answer: &Answer) -> Value {
    let id = answer.header("x-message-id").unwrap().trim_start_matches('<').split('@').next().unwrap().to_owned();
    mail.get(&format!("/v1/messages/{id}")).await.body
}

#[tokio::test]
async fn a_message_has_a_record_like_any_other() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let sent = mail.send().await;
    assert_eq!((sent.status, sent.body.to_string().as_str()), (200, r#"{"message":"success"}"#));
    let found = record(&mail, &sent).await;
    assert_eq!((&found["state"], &found["recipients"][0]["log"][0]["outcome"]), (&json!("delivered"), &json!("sent")));
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 unknown"));
    let refused = mail.send().await;
    refused.assert(502, "smtp_refused");
    let found = record(&mail, &refused).await;
    assert_eq!(
        (&found["state"], &found["recipients"][0]["log"][0]["outcome"]),
        (&json!("failed"), &json!("smtp_refused"))
    );
    assert!(found["recipients"][0]["log"][0]["reply"].as_str().unwrap().contains("5.1.1"), "{found}");
}

#[tokio::test]
async fn nothing_goes_to_an_address_on_the_suppression_list() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let bounce = json!({ "address": "A@b.c", "type": "hard", "detail": "550 unknown" });
    assert_eq!(mail.call("POST", "/v1/bounces", &bounce).await.status, 204);
    let answer = mail.send().await;
    answer.assert(422, "suppressed");
    assert_eq!(answer.field(), "address");
    assert_eq!(record(&mail, &answer).await["state"], "suppressed");
    assert_eq!(mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await.status, 204);
    mail.send().await.assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn a_key_goes_on_when_its_address_is_taken_off_the_suppression_list() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    assert_eq!(mail.call("PUT", "/v1/suppressions/a@b.c", &json!({})).await.status, 204);
    for _ in 0..2 {
        mail.post_as("k", "/", &message()).await.assert(422, "suppressed");
    }
    assert_eq!(mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await.status, 204);
    mail.post_as("k", "/", &message()).await.assert(200, "success");
    mail.post_as("k", "/", &message()).await.assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn the_same_key_is_one_message_and_the_same_answer() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let first = mail.post_as("k", "/", &message()).await;
    let again = mail.post_as("k", "/", &message()).await;
    first.assert(200, "success");
    again.assert(200, "success");
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(first.header("x-message-id"), again.header("x-message-id"));
    let other = json!({ "address": "a@b.c", "message": "something else" });
    mail.post_as("k", "/", &other).await.assert(409, "idempotency_key_reused");
    sink.once(Step::Recipient, Behaviour::reply("550 5.1.1 unknown"));
    let refused = mail.post_as("refused", "/", &message()).await;
    refused.assert(502, "smtp_refused");
    let again = mail.post_as("refused", "/", &message()).await;
    again.assert(502, "smtp_refused");
    assert!(again.detail().contains("5.1.1 unknown"), "{again:?}");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn a_repeated_request_waits_for_the_first_one_and_is_told_the_same() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::EndOfData, Behaviour::Hold);
    let ask = || {
        let mail = mail.clone();
        tokio::spawn(async move { mail.post_as("k", "/", &message()).await })
    };
    let first = ask();
    wait_until("the final dot", SOON, || async { sink.held() == 1 }).await;
    let second = ask();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!first.is_finished() && !second.is_finished());
    sink.release();
    let first = first.await.unwrap();
    let second = second.await.unwrap();
    first.assert(200, "success");
    second.assert(200, "success");
    assert_eq!(first.header("x-message-id"), second.header("x-message-id"));
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn what_failed_for_the_moment_is_tried_again_as_the_same_message() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    let first = mail.post_as("k", "/", &message()).await;
    first.assert(503, "smtp_deferred");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sink.messages().is_empty(), "nothing is sent later by itself");
    let again = mail.post_as("k", "/", &message()).await;
    again.assert(200, "success");
    assert_eq!(first.header("x-message-id"), again.header("x-message-id"));
    assert_eq!(sink.messages()[0].header("Message-ID").as_deref(), first.header("x-message-id"));
    let found = record(&mail, &again).await;
    assert_eq!(found["recipients"][0]["log"].as_array().map(Vec::len), Some(2), "{found}");
}

#[tokio::test]
async fn an_address_that_came_onto_the_list_meanwhile_gets_no_second_attempt() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    mail.post_as("k", "/", &message()).await.assert(503, "smtp_deferred");
    mail.call("PUT", "/v1/suppressions/a@b.c", &json!({})).await;
    let again = mail.post_as("k", "/", &message()).await;
    again.assert(422, "suppressed");
    assert_eq!(record(&mail, &again).await["state"], "suppressed");
    assert!(sink.messages().is_empty());
}

#[tokio::test]
async fn an_unknown_outcome_is_never_tried_again_by_itself() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    sink.once(Step::EndOfData, Behaviour::DoAndDrop);
    let first = mail.post_as("k", "/", &message()).await;
    first.assert(504, "outcome_unknown");
    let again = mail.post_as("k", "/", &message()).await;
    again.assert(504, "outcome_unknown");
    assert!(again.detail().contains(first.header("x-message-id").unwrap()), "{again:?}");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn workers_leave_it_alone_until_somebody_puts_it_back_into_the_queue() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    sink.once(Step::Recipient, Behaviour::reply("450 4.2.0 greylisted"));
    let answer = mail.send().await;
    answer.assert(503, "smtp_deferred");
    let id = record(&mail, &answer).await["id"].as_str().unwrap().to_owned();
    let other = mail.accepted("d@e.f").await;
    mail.until(&other, "delivered").await;
    assert_eq!(sink.messages().len(), 1, "the other one alone");
    assert_eq!(mail.call("POST", &format!("/v1/messages/{id}/requeue"), &Value::Null).await.status, 200);
    mail.until(&id, "delivered").await;
}

#[tokio::test]
async fn a_client_who_leaves_does_not_take_the_outcome_along() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::Data, Behaviour::Hold);
    let caller = tokio::spawn({
        let mail = mail.clone();
        async move { mail.post_as("k", "/", &message()).await }
    });
    wait_until("DATA", SOON, || async { sink.held() == 1 }).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    sink.release();
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
    let again = mail.post_as("k", "/", &message()).await;
    again.assert(200, "success");
    assert_eq!(sink.messages().len(), 1, "and the key finds it");
}

#[tokio::test]
async fn a_key_finds_the_message_of_an_instance_that_was_killed() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let times = ["--queue-wait", "1s", "--smtp-deadline", "2s"];
    sink.once(Step::Data, Behaviour::Hang);
    let smtp = sink.url();
    let args = [&["--smtp-url", &smtp, "--outbox-url", &url], times.as_slice()].concat();
    let mut dying = Program::start(&args).await;
    let request = reqwest::Client::new().post(&dying.url).header("idempotency-key", "k").json(&message());
    let asking = tokio::spawn(request.send());
    wait_until("the conversation", SOON, || async { sink.commands().iter().any(|line| line == "DATA") }).await;
    dying.process.kill();
    assert!(asking.await.unwrap().is_err(), "nothing was answered");
    let other = Mail::working(&sink, &[&["--outbox-url", &url], times.as_slice()].concat());
    let answer = wait_for("the claim to lapse", SOON, || async {
        let answer = other.post_as("k", "/", &message()).await;
        (answer.status != 504).then_some(answer)
    })
    .await;
    answer.assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
    assert_eq!(sink.messages()[0].header("Message-ID").as_deref(), answer.header("x-message-id"));
}

#[tokio::test]
async fn what_a_killed_instance_left_and_nobody_asks_for_is_settled_as_unknown() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--queue-wait", "100ms", "--smtp-deadline", "60s"]);
    sink.once(Step::Data, Behaviour::Hang);
    let asking = tokio::spawn({
        let mail = mail.clone();
        async move { mail.send().await }
    });
    wait_until("the conversation", SOON, || async { sink.commands().iter().any(|line| line == "DATA") }).await;
    // As if hours had passed since the instance died.
    let later = service_kit::time::UnixMillis::now() + Duration::from_secs(7200);
    assert_eq!(
        mail.outbox.expire_immediate(service_kit::time::UnixMillis::now()).await.unwrap(),
        0,
        "its time has not come"
    );
    assert_eq!(mail.outbox.expire_immediate(later).await.unwrap(), 1);
    let found = mail.get("/v1/messages").await.body;
    assert_eq!(found["messages"][0]["state"], "failed", "{found}");
    asking.abort();
}

#[tokio::test]
async fn what_the_server_took_is_recorded_as_delivered_also_when_it_was_given_up_meanwhile() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    sink.once(Step::EndOfData, Behaviour::Hold);
    let asking = tokio::spawn({
        let mail = mail.clone();
        async move { mail.post_as("k", "/", &message()).await }
    });
    wait_until("the final dot", SOON, || async { sink.held() == 1 }).await;
    // As if the outbox had been away until now, and another instance were the first to use it again.
    let later = service_kit::time::UnixMillis::now() + Duration::from_secs(7200);
    assert_eq!(mail.outbox.expire_immediate(later).await.unwrap(), 1);
    sink.release();
    let answer = asking.await.unwrap();
    answer.assert(200, "success");
    assert_eq!(record(&mail, &answer).await["state"], "delivered");
    mail.post_as("k", "/", &message()).await.assert(200, "success");
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn a_signed_domain_is_signed_here_too() {
    let sink = SmtpSink::start().await;
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dkim/rsa.pem");
    let mail = Mail::over(&sink, &["--from", "post@example.com", "--dkim-key-file", key]);
    mail.send().await.assert(200, "success");
    assert!(sink.messages()[0].header("DKIM-Signature").is_some_and(|header| header.contains("d=example.com")));
}
