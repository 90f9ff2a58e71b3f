//! Templates, suppression, users by name and broadcasts, with a userlist behind a gateway that is a stand-in here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
    routing::get,
};
use serde_json::{Value, json};
use testkit::{
    smtp_sink::SmtpSink,
    wait::{SOON, wait_for, wait_until},
};

use crate::{process::Program, service::Mail};

/// What `GET /userlist/v1/users` and `…/{name}` answer through the gateway.
pub(crate) struct Gateway {
    pub(crate) url: String,
    down: Arc<AtomicBool>,
    /// Refuses to go on behind the first page.
    refuses_cursors: Arc<AtomicBool>,
}

const USERS: usize = 250;

fn user(index: usize) -> Value {
    let status = if index == 3 { "unsubscribed" } else { "active" };
    json!({ "id": index, "name": format!("user{index}"), "email": format!("u{index}@b.c"), "status": status,
            "tags": [], "attributes": { "city": format!("<Town {index}>") } })
}

type Shown = State<(Arc<AtomicBool>, Arc<AtomicBool>, usize)>;
type Parameters = Query<std::collections::HashMap<String, String>>;

async fn page(State((down, refuses_cursors, users)): Shown, Query(query): Parameters) -> axum::response::Response {
    if down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if refuses_cursors.load(Ordering::SeqCst) && query.contains_key("cursor") {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    assert_eq!(query["status"], "active");
    let (start, limit): (usize, usize) =
        (query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap()), query["limit"].parse().unwrap());
    let end = users.min(start + limit);
    let next = (end < users).then(|| end.to_string());
    Json(json!({ "users": (start..end).map(user).collect::<Vec<_>>(), "next_cursor": next, "total": users }))
        .into_response()
}

impl Gateway {
    async fn start() -> Self {
        Self::of(USERS).await
    }

    /// In front of so many users.
    pub(crate) async fn of(users: usize) -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let refuses_cursors = Arc::new(AtomicBool::new(false));
        let one = async |Path(name): Path<String>| match name.as_str() {
            "dong" => Json(json!({ "id": 1, "name": "dong", "email": "dong@b.c", "status": "active" })).into_response(),
            "gone" => Json(json!({ "id": 2, "name": "gone", "email": "g@b.c", "status": "bounced" })).into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        };
        let router = Router::new()
            .route("/userlist/v1/users", get(page))
            .route("/userlist/v1/users/{name}", get(one))
            .with_state((Arc::clone(&down), Arc::clone(&refuses_cursors), users));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, down, refuses_cursors }
    }
}

pub(crate) async fn upload(mail: &Mail) {
    let template = json!({
        "subject": "News for {{ user.name }}",
        "text": "{{ greeting }} {{ user.attributes.city }} {{ unsubscribe_url }}",
        "html": "<p>{{ user.attributes.city }}</p>",
        "sample": { "greeting": "Hello", "unsubscribe_url": "http://x", "user": { "name": "x", "attributes": { "city": "y" } } },
    });
    let answer = mail.call("PUT", "/v1/templates/news", &template).await;
    assert_eq!((answer.status, &answer.body["name"]), (200, &json!("news")), "{answer:?}");
}

fn link(text: &str) -> String {
    let start = text.find("/v1/unsubscribe/").unwrap();
    text[start..].chars().take_while(|c| !c.is_whitespace() && *c != '>').collect()
}

#[tokio::test]
async fn a_user_is_written_to_by_name_through_the_gateway() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::start().await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    let answer = mail.submit(&json!({ "to": { "user": "dong" }, "text": "hello" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
    assert_eq!(sink.messages()[0].recipients, ["dong@b.c"]);
    for name in ["nobody", "gone"] {
        let answer = mail.submit(&json!({ "to": { "user": name }, "text": "hello" })).await;
        assert_eq!((answer.status, answer.field()), (422, "to"), "{answer:?}");
    }
    let nowhere = Mail::working(&sink, &["--gateway-url", "http://127.0.0.1:1"]);
    let answer = nowhere.submit(&json!({ "to": { "user": "dong" }, "text": "hello" })).await;
    answer.assert(503, "userlist_unavailable");
}

#[tokio::test]
async fn userlist_is_asked_with_a_token_that_may_be_renewed_and_a_wrong_one_condemns_nobody() {
    let guarded = async |headers: HeaderMap| match headers.get("authorization") {
        Some(token) if token == "Bearer right" => Json(user(1)).into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    };
    let router = Router::new().route("/userlist/v1/users/user1", get(guarded));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let sink = SmtpSink::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let mail = Mail::working(&sink, &["--gateway-url", &url, "--userlist-token-file", file.to_str().unwrap()]);
    let message = json!({ "to": { "user": "user1" }, "text": "hello" });
    mail.submit(&message).await.assert(503, "userlist_unavailable");
    std::fs::write(&file, "wrong\n").unwrap();
    mail.submit(&message).await.assert(503, "userlist_unavailable");
    std::fs::write(&file, "right\n").unwrap();
    assert_eq!(mail.submit(&message).await.status, 202);
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
}

#[tokio::test]
async fn a_template_is_checked_at_upload_and_filled_at_sending() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let bad = json!({ "subject": "x", "text": "{{ nmae }}", "sample": { "name": "x" } });
    let answer = mail.call("PUT", "/v1/templates/t", &bad).await;
    assert_eq!((answer.status, answer.field()), (422, "sample"), "{answer:?}");
    let good = json!({ "subject": "Hi {{ name }}", "html": "<b>{{ name }}</b>", "sample": { "name": "x" } });
    assert_eq!(mail.call("PUT", "/v1/templates/t", &good).await.status, 200);
    let with = |data: Value| json!({ "to": "a@b.c", "template": "t", "data": data });
    let answer = mail.submit(&with(json!({ "nmae": "x" }))).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    mail.submit(&json!({ "to": "a@b.c", "template": "none" })).await.assert(422, "invalid_field");
    mail.submit(&json!({ "to": "a@b.c", "template": "t", "text": "both" })).await.assert(422, "invalid_field");
    assert_eq!(mail.submit(&with(json!({ "name": "<i>&" }))).await.status, 202);
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
    let message = &sink.messages()[0];
    assert!(message.body().contains("<b>&lt;i&gt;&amp;</b>"), "{}", message.body());
    assert_eq!(message.header("Subject").as_deref(), Some("Hi <i>&"));
    assert_eq!(mail.call("DELETE", "/v1/templates/t", &Value::Null).await.status, 204);
    mail.get("/v1/templates/t").await.assert(404, "not_found");
}

#[tokio::test]
async fn nothing_is_sent_to_whom_bounced_until_somebody_takes_them_off_the_list() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let bounce = |kind: &str, address: &str| json!({ "address": address, "type": kind, "detail": "550 unknown" });
    assert_eq!(mail.call("POST", "/v1/bounces", &bounce("hard", "A@b.c")).await.status, 204);
    assert_eq!(mail.call("POST", "/v1/bounces", &bounce("hard", "a@b.c")).await.status, 204, "twice is once");
    assert_eq!(mail.call("POST", "/v1/bounces", &bounce("soft", "soft@b.c")).await.status, 204);
    mail.call("POST", "/v1/bounces", &bounce("hard", "nobody")).await.assert(422, "invalid_field");
    let answer = mail.submit(&json!({ "to": ["a@B.C", "soft@b.c"], "text": "hello" })).await;
    assert_eq!((&answer.body["recipients"], &answer.body["suppressed"]), (&json!(1), &json!(1)), "{answer:?}");
    mail.until(answer.body["id"].as_str().unwrap(), "partial").await;
    let list = mail.get("/v1/suppressions").await.body;
    assert_eq!(list["suppressions"][0]["address"], "a@b.c", "{list}");
    assert_eq!(mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await.status, 204);
    let id = mail.accepted("a@b.c").await;
    mail.until(&id, "delivered").await;
    assert_eq!(sink.messages().len(), 2);
}

#[tokio::test]
async fn a_broadcast_reaches_everybody_once_except_those_who_left() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::start().await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    mail.call("PUT", "/v1/suppressions/u7@b.c", &json!({})).await;
    gateway.down.store(true, Ordering::SeqCst);
    let request = json!({ "template": "news", "filter": { "tag": "beta" }, "data": { "greeting": "Hello" } });
    let answer = mail.call("POST", "/v1/broadcasts", &request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/v1/broadcasts/{}", answer.body["id"].as_str().unwrap());
    wait_until("the reason why it waits", SOON, || async {
        mail.get(&path).await.body["error"].as_str().is_some_and(|error| error.contains("503"))
    })
    .await;
    gateway.down.store(false, Ordering::SeqCst);
    let done = wait_for("all messages", SOON, || async {
        let broadcast = mail.get(&path).await.body;
        (broadcast["deliveries"]["delivered"] == USERS - 2).then_some(broadcast)
    })
    .await;
    assert_eq!(
        (&done["state"], &done["total"], &done["skipped"]),
        (&json!("done"), &json!(USERS), &json!(2)),
        "{done}"
    );
    let messages = sink.messages();
    let recipients: std::collections::HashSet<_> =
        messages.iter().map(|message| message.recipients[0].clone()).collect();
    assert_eq!((messages.len(), recipients.len()), (USERS - 2, USERS - 2));
    assert!(!recipients.contains("u3@b.c") && !recipients.contains("u7@b.c"));
    assert_eq!(done["skipped_by"], json!({ "inactive": 1, "manual": 1 }), "{done}");
    let skipped = mail.get(&format!("{path}/skipped")).await.body;
    let expected = json!({ "next_cursor": null, "skipped": [
        { "user": "user3", "address": "u3@b.c", "reason": "inactive", "detail": "unsubscribed" },
        { "user": "user7", "address": "u7@b.c", "reason": "manual" },
    ] });
    assert_eq!(skipped, expected);
    mail.get("/v1/broadcasts/none/skipped").await.assert(404, "not_found");
    mail.get(&format!("{path}/skipped?cursor=x")).await.assert(422, "invalid_field");

    let message = &messages[0];
    assert_eq!(message.header("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let unsubscribe = message.header("List-Unsubscribe").unwrap();
    assert!(unsubscribe.starts_with("<https://mail.example/mail/v1/unsubscribe/"), "{unsubscribe}");
    let path = link(&unsubscribe);
    assert_eq!(mail.get(&path).await.status, 200, "looking at it changes nothing");
    assert_eq!(mail.get("/v1/suppressions").await.body["suppressions"].as_array().map(Vec::len), Some(1));
    assert_eq!(mail.call("POST", &path, &Value::Null).await.status, 200);
    let list = mail.get("/v1/suppressions").await.body;
    assert!(list["suppressions"].as_array().unwrap().iter().any(|entry| entry["reason"] == "unsubscribe"), "{list}");
    mail.call("POST", "/v1/unsubscribe/none", &Value::Null).await.assert(404, "not_found");
}

#[tokio::test]
async fn a_broadcast_whose_later_page_is_refused_waits_and_goes_on() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::start().await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url]);
    upload(&mail).await;
    gateway.refuses_cursors.store(true, Ordering::SeqCst);
    let request = json!({ "template": "news", "data": { "greeting": "Hello" } });
    let answer = mail.call("POST", "/v1/broadcasts", &request).await;
    let path = format!("/v1/broadcasts/{}", answer.body["id"].as_str().unwrap());
    let waiting = wait_for("the reason why it waits", SOON, || async {
        let broadcast = mail.get(&path).await.body;
        broadcast["error"].as_str().is_some_and(|error| error.contains("422")).then_some(broadcast)
    })
    .await;
    assert_eq!(waiting["state"], "running", "{waiting}");
    gateway.refuses_cursors.store(false, Ordering::SeqCst);
    wait_until("all messages", SOON, || async { mail.get(&path).await.body["deliveries"]["delivered"] == USERS - 1 })
        .await;
    let done = mail.get(&path).await.body;
    assert_eq!((&done["state"], done.get("error")), (&json!("done"), None), "{done}");
}

#[tokio::test]
async fn a_broadcast_of_large_letters_waits_for_their_folder_and_reaches_everybody() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::of(10).await;
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    // Something is in the way of the folder.
    std::fs::write(&spool, "").unwrap();
    let mail = Mail::working(&sink, &["--gateway-url", &gateway.url, "--spool-dir", spool.to_str().unwrap()]);
    let text = "{{ user.name }}{% for _ in lines %}{% for line in lines %}{{ line }}{% endfor %}{% endfor %}";
    let template = json!({ "subject": "x", "text": text, "sample": { "user": { "name": "x" }, "lines": ["x"] } });
    let uploaded = mail.call("PUT", "/v1/templates/t", &template).await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    let request = json!({ "template": "t", "data": { "lines": vec!["ü".repeat(1000); 17] } });
    let answer = mail.call("POST", "/v1/broadcasts", &request).await;
    let path = format!("/v1/broadcasts/{}", answer.body["id"].as_str().unwrap());
    wait_until("the reason why it waits", SOON, || async {
        mail.get(&path).await.body["error"].as_str().is_some_and(|error| error.contains("folder"))
    })
    .await;
    std::fs::remove_file(&spool).unwrap();
    wait_until("all messages", SOON, || async { mail.get(&path).await.body["deliveries"]["delivered"] == 9 }).await;
    assert_eq!(mail.get(&path).await.body["skipped"], 1);
    assert!(sink.messages().iter().all(|message| message.data.len() > 700_000));
}

#[tokio::test]
async fn a_broadcast_goes_on_where_a_killed_instance_stopped() {
    let sink = SmtpSink::start().await;
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = format!("sqlite:{}", dir.path().join("outbox.db").display());
    let smtp = sink.url();
    let public = "https://mail.example/mail";
    let args = ["--smtp-url", &smtp, "--outbox-url", &outbox, "--gateway-url", &gateway.url, "--public-url", public];
    let mut first = Program::start(&args).await;
    let client = reqwest::Client::new();
    let template = json!({ "subject": "x", "text": "{{ user.name }}", "sample": { "user": { "name": "x" } } });
    client.put(format!("{}/v1/templates/t", first.url)).json(&template).send().await.unwrap();
    let broadcast = client.post(format!("{}/v1/broadcasts", first.url)).json(&json!({ "template": "t" }));
    assert_eq!(broadcast.send().await.unwrap().status().as_u16(), 202);
    wait_until("the first messages", SOON, || async { !sink.messages().is_empty() }).await;
    first.process.kill();
    let _second = Program::start(&args).await;
    let recipients = || {
        sink.messages()
            .into_iter()
            .map(|message| message.recipients[0].clone())
            .collect::<std::collections::HashSet<_>>()
    };
    wait_until("the rest", SOON * 3, || async { recipients().len() == USERS - 1 }).await;
    assert!(sink.messages().len() <= USERS - 1 + 10, "at most those in flight came twice: {}", sink.messages().len());
}
