//! Broadcasts before they are sent: whom they would reach, and what they look like; and one request that comes twice.

use axum::http::Request;
use serde_json::{Value, json};
use testkit::{
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::{
    broadcasts::{Gateway, upload},
    service::{Answer, Mail},
    userlist_sync::bounce,
};

fn request(more: &Value) -> Value {
    let mut request = json!({ "template": "news", "data": { "greeting": "Hello" } });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

async fn keyed(mail: &Mail, key: &str, body: &Value) -> Answer {
    let request = Request::post("/v1/broadcasts").header("idempotency-key", key);
    mail.request(request.body(body.to_string().into()).unwrap()).await
}

#[tokio::test]
async fn a_dry_run_says_what_the_broadcast_does_and_does_nothing() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(120).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    bounce(&mail, "U7@b.c", "hard").await;
    let answer = mail.call("POST", "/v1/broadcasts", &request(&json!({ "dry_run": true }))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let count = answer.body;
    assert_eq!(
        (&count["total"], &count["queued"], &count["skipped"], &count["is_complete"]),
        (&json!(120), &json!(118), &json!(2), &json!(true)),
        "{count}"
    );
    assert_eq!(count["skipped_by"], json!({ "inactive": 1, "bounce": 1 }));
    let nobody = request(&json!({ "dry_run": true, "data": {} }));
    let nobody = mail.call("POST", "/v1/broadcasts", &nobody).await.body;
    assert_eq!((&nobody["queued"], &nobody["skipped_by"]["invalid_template"]), (&json!(0), &json!(118)), "{nobody}");
    assert!(nobody["skips"][0]["detail"].as_str().unwrap().contains("cannot be filled"), "{nobody}");
    assert_eq!(mail.get("/v1/broadcasts").await.body["broadcasts"], json!([]));
    assert_eq!(mail.get("/v1/messages").await.body["messages"], json!([]));

    let answer = mail.call("POST", "/v1/broadcasts", &request(&json!({}))).await;
    let path = format!("/v1/broadcasts/{}", answer.body["id"].as_str().unwrap());
    wait_until("the broadcast", SOON, || async { mail.get(&path).await.body["state"] == "done" }).await;
    let done = mail.get(&path).await.body;
    for field in ["total", "queued", "skipped", "skipped_by"] {
        assert_eq!(done[field], count[field], "{field}: {done}");
    }
}

#[tokio::test]
async fn a_test_send_goes_to_those_it_names_and_to_no_user() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(10).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    let body = request(&json!({ "test_to": ["me@example.com", "Boss <boss@example.com>"], "tag": "autumn" }));
    let answer = keyed(&mail, "t", &body).await;
    assert_eq!((answer.status, &answer.body["recipients"]), (202, &json!(2)), "{answer:?}");
    assert_eq!(keyed(&mail, "t", &body).await.body, answer.body, "the same request is one test");
    mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
    let messages = sink.messages();
    assert_eq!((messages.len(), messages[0].recipients.len()), (1, 2), "in one transaction");
    let text = messages[0].body();
    assert!(text.contains("Town 0") && text.contains("https://mail.example/mail/v1/unsubscribe/"), "{text}");
    assert_eq!(mail.get("/v1/broadcasts").await.body["broadcasts"], json!([]));
    assert_eq!(mail.get("/v1/messages?tag=autumn").await.body["messages"].as_array().map(Vec::len), Some(1));
    for bad in [json!([]), json!({ "user": "dong" }), json!("nobody"), json!(vec!["a@b.c"; 11])] {
        let answer = mail.call("POST", "/v1/broadcasts", &request(&json!({ "test_to": bad }))).await;
        assert!(answer.status == 422 && answer.field().starts_with("test_to"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_test_send_that_comes_again_answers_the_same_also_when_its_template_is_gone() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(10).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    let body = request(&json!({ "test_to": "me@example.com" }));
    let answer = keyed(&mail, "t", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    mail.call("DELETE", "/v1/templates/news", &Value::Null).await;
    let again = keyed(&mail, "t", &body).await;
    assert_eq!((again.status, &again.body), (202, &answer.body), "{again:?}");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_broadcast_whose_filter_has_no_value_is_refused_and_not_sent_to_all() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(3).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    for value in ["", " "] {
        for more in [json!({}), json!({ "dry_run": true }), json!({ "test_to": "me@example.com" })] {
            let mut body = request(&more);
            body["filter"] = json!({ "q": "x", "tag": value });
            let answer = mail.call("POST", "/v1/broadcasts", &body).await;
            assert_eq!((answer.status, answer.field()), (422, "filter.tag"), "{answer:?}");
        }
    }
    let mut sorted = request(&json!({}));
    sorted["filter"] = json!({ "sort": "updated_at" });
    let answer = mail.call("POST", "/v1/broadcasts", &sorted).await;
    assert_eq!((answer.status, answer.field()), (422, "filter.sort"), "who is changed meanwhile would come twice");
    assert_eq!(mail.get("/v1/broadcasts").await.body["broadcasts"], json!([]));
}

#[tokio::test]
async fn a_broadcast_that_is_asked_for_twice_with_one_key_is_one() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(3).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    let body = request(&json!({}));
    let answers = futures::future::join_all((0..10).map(|_| keyed(&mail, "k", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body), "{answers:?}");
    let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed") == Some("true")).count();
    assert_eq!(replayed, 9);
    keyed(&mail, "k", &request(&json!({ "tag": "other" }))).await.assert(409, "idempotency_key_reused");
    assert_eq!(mail.get("/v1/broadcasts").await.body["broadcasts"].as_array().map(Vec::len), Some(1));
    wait_until("the messages", SOON, || async { sink.messages().len() == 3 }).await;
}

#[tokio::test]
async fn a_broadcast_s_messages_carry_its_tag_and_metadata() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(3).await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    let body = request(&json!({ "tag": "autumn", "metadata": { "team": "blue" } }));
    assert_eq!(mail.call("POST", "/v1/broadcasts", &body).await.status, 202);
    wait_until("the messages", SOON, || async {
        let found = mail.get("/v1/messages?tag=autumn&metadata=team:blue&state=delivered").await.body;
        found["messages"].as_array().map(Vec::len) == Some(3)
    })
    .await;
    let bad = request(&json!({ "tag": "two words" }));
    let answer = mail.call("POST", "/v1/broadcasts", &bad).await;
    assert_eq!((answer.status, answer.field()), (422, "tag"), "{answer:?}");
}
