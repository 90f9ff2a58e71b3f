//! `POST /v1/batch`: many messages in one request, each accepted or not on its own.

use serde_json::{Value, json};
use testkit::{
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::service::{Answer, Mail};

async fn batch(mail: &Mail, messages: &Value) -> Answer {
    mail.call("POST", "/v1/batch", &json!({ "messages": messages })).await
}

fn statuses(answer: &Answer) -> Vec<i64> {
    answer.body["messages"].as_array().unwrap().iter().map(|one| one["status"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn each_message_has_an_answer_of_its_own_in_the_order_of_the_request() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    mail.call("PUT", "/v1/suppressions/gone@b.c", &json!({})).await;
    let answer = batch(
        &mail,
        &json!([
            { "to": "a@b.c", "text": "hello" },
            { "to": "nobody", "text": "hello" },
            { "to": "gone@b.c", "text": "hello" },
            { "to": "d@e.f", "text": "hello", "colour": "red" },
            { "to": "d@e.f", "text": "hello", "attachments": [{ "filename": "a", "content": "aGVsbG8=" }] },
            7,
            { "to": "d@e.f", "template": "none" },
        ]),
    )
    .await;
    assert_eq!((answer.status, statuses(&answer)), (207, vec![202, 422, 422, 422, 202, 422, 422]), "{answer:?}");
    let messages = &answer.body["messages"];
    assert_eq!((&messages[0]["recipients"], &messages[2]["code"]), (&json!(1), &json!("suppressed")));
    assert_eq!(messages[1]["errors"][0]["field"], "to");
    assert_eq!(messages[3]["errors"][0]["field"], "colour");
    for index in [0, 4] {
        mail.until(messages[index]["id"].as_str().unwrap(), "delivered").await;
    }
    assert_eq!(sink.messages().len(), 2);
    let all = batch(&mail, &json!([{ "to": "a@b.c", "text": "hello" }])).await;
    assert_eq!(all.status, 202, "all of them: {all:?}");
}

#[tokio::test]
async fn the_same_batch_again_accepts_what_was_not_accepted_before_and_nothing_twice() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let body = json!({ "messages": [
        { "to": "a@b.c", "text": "hello" },
        { "to": "d@e.f", "template": "t" },
        { "to": "g@h.i", "text": "hello", "idempotency_key": "own" },
    ] });
    let first = mail.post_as("k", "/v1/batch", &body).await;
    assert_eq!((first.status, statuses(&first)), (207, vec![202, 422, 202]), "{first:?}");
    mail.call("PUT", "/v1/templates/t", &json!({ "subject": "x", "text": "x" })).await;
    let again = mail.post_as("k", "/v1/batch", &body).await;
    assert_eq!((again.status, statuses(&again)), (202, vec![202, 202, 202]), "{again:?}");
    for index in [0, 2] {
        assert_eq!(again.body["messages"][index]["id"], first.body["messages"][index]["id"]);
        assert_eq!(again.body["messages"][index]["replayed"], true);
    }
    let moved = json!({ "messages": [{ "to": "g@h.i", "text": "hello", "idempotency_key": "own" }] });
    let moved = mail.post_as("k2", "/v1/batch", &moved).await;
    assert_eq!(moved.body["messages"][0]["id"], first.body["messages"][2]["id"], "a key of its own goes along");
    wait_until("three", SOON, || async { sink.messages().len() == 3 }).await;
    let other = json!({ "messages": [{ "to": "x@y.z", "text": "hello" }] });
    let other = mail.post_as("k", "/v1/batch", &other).await;
    assert_eq!((other.status, statuses(&other)), (207, vec![409]), "{other:?}");
}

#[tokio::test]
async fn a_batch_is_bounded_and_one_that_cannot_be_read_accepts_nothing() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let message = json!({ "to": "a@b.c", "text": "hello" });
    let many = batch(&mail, &json!(vec![message.clone(); 101])).await;
    assert_eq!((many.status, many.field()), (422, "messages"), "{many:?}");
    assert_eq!(batch(&mail, &json!([])).await.status, 422);
    let large = json!({ "to": "a@b.c", "text": "x".repeat(5 << 20) });
    batch(&mail, &json!([message.clone(), large])).await.assert(413, "body_too_large");
    let cut = mail.request(
        axum::http::Request::post("/v1/batch").body(r#"{"messages":[{"to":"a@b.c","text":"x"},"#.into()).unwrap(),
    );
    cut.await.assert(400, "malformed_json");
    assert_eq!(mail.get("/v1/messages").await.body["messages"], json!([]));
    let all = batch(&mail, &json!(vec![message; 100])).await;
    assert_eq!((all.status, statuses(&all)), (202, vec![202; 100]));
}

#[tokio::test]
async fn an_outbox_that_cannot_be_used_is_said_for_each_message() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.accepted("a@b.c").await;
    mail.outbox.close().await;
    let answer = batch(&mail, &json!([{ "to": "a@b.c", "text": "x" }, { "to": "a@b.c" }])).await;
    assert_eq!((answer.status, statuses(&answer)), (207, vec![503, 422]), "{answer:?}");
}
