//! A request that comes again with its key gets the answer that it got, whatever has changed meanwhile.

use axum::{Json, Router, http::StatusCode, response::IntoResponse as _, routing::get};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use testkit::{
    database::Database,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::service::Mail;

const HERE: u8 = 0;
const LEFT: u8 = 1;
const DOWN: u8 = 2;

/// A gateway to a userlist whose one user is here, has left, or cannot be asked for.
async fn gateway() -> (String, Arc<AtomicU8>) {
    let state = Arc::new(AtomicU8::new(HERE));
    let user = {
        let state = Arc::clone(&state);
        async move || match state.load(Ordering::SeqCst) {
            HERE => Json(json!({ "id": 1, "name": "dong", "email": "dong@b.c", "status": "active" })).into_response(),
            LEFT => StatusCode::NOT_FOUND.into_response(),
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    };
    let router = Router::new().route("/userlist/v1/users/dong", get(user));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, state)
}

#[tokio::test]
async fn a_retry_is_answered_though_the_user_has_left_the_template_is_gone_or_userlist_is_down() {
    let (sink, (url, userlist)) = (SmtpSink::start().await, gateway().await);
    let mail = Mail::working(&sink, &["--gateway-url", &url]);
    let template = json!({ "subject": "x", "text": "{{ name }}", "sample": { "name": "x" } });
    assert_eq!(mail.call("PUT", "/v1/templates/t", &template).await.status, 200);
    let body = json!({ "to": { "user": "dong" }, "template": "t", "data": { "name": "y" } });
    let first = mail.submit_as("k", &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    for state in [LEFT, DOWN] {
        userlist.store(state, Ordering::SeqCst);
        let again = mail.submit_as("k", &body).await;
        assert_eq!((again.status, &again.body), (202, &first.body), "{state}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    assert_eq!(mail.call("DELETE", "/v1/templates/t", &Value::Null).await.status, 204);
    assert_eq!(mail.submit_as("k", &body).await.body, first.body);
    assert_eq!(mail.submit_as("other", &body).await.status, 422, "a new one is another matter");
    mail.until(first.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(sink.messages().len(), 1);
}

#[tokio::test]
async fn two_broadcasts_with_one_key_are_one() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let template = json!({ "subject": "x", "text": "x" });
    mail.call("PUT", "/v1/templates/t", &template).await;
    let body = json!({ "template": "t" });
    let first = mail.post_as("k", "/v1/broadcasts", &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    mail.call("DELETE", "/v1/templates/t", &Value::Null).await;
    let again = mail.post_as("k", "/v1/broadcasts", &body).await;
    assert_eq!((again.status, &again.body), (202, &first.body), "{again:?}");
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let list = mail.get("/v1/broadcasts").await.body;
    assert_eq!(list["broadcasts"].as_array().map(Vec::len), Some(1), "{list}");
    let other = json!({ "template": "t", "filter": { "tag": "x" } });
    mail.post_as("k", "/v1/broadcasts", &other).await.assert(409, "idempotency_key_reused");
}

#[tokio::test]
async fn two_broadcasts_at_two_instances_with_one_key_are_one() {
    let database = Database::start().await;
    let sink = SmtpSink::start().await;
    let url = database.create("mail");
    let one = Mail::over(&sink, &["--outbox-url", &url]);
    let other = Mail::over(&sink, &["--outbox-url", &url]);
    one.call("PUT", "/v1/templates/t", &json!({ "subject": "x", "text": "x" })).await;
    let body = json!({ "template": "t" });
    let asking = (0..10).map(|index| if index % 2 == 0 { &one } else { &other });
    let answers = futures::future::join_all(asking.map(|mail| mail.post_as("k", "/v1/broadcasts", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.body == answers[0].body), "{answers:?}");
    assert_eq!(one.get("/v1/broadcasts").await.body["broadcasts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_key_that_comes_at_another_path_is_another_request() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let first = mail.submit_as("k", &json!({ "to": "a@b.c", "text": "hello" })).await;
    assert_eq!(first.status, 202);
    let plain = json!({ "address": "a@b.c", "message": "hello" });
    mail.post_as("k", "/", &plain).await.assert(409, "idempotency_key_reused");
    wait_until("the first alone", SOON, || async { sink.messages().len() == 1 }).await;
}
