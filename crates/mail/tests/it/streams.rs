//! Two streams: leaving a newsletter stops no password reset. And the suppression list is asked again when a message
//! leaves.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use sqlx::Connection as _;
use testkit::{
    database::Database,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_for, wait_until},
};

use crate::{
    process::Program,
    service::Mail,
    userlist_sync::{Users, bounce, updates_waiting},
};

fn recipients(sink: &SmtpSink) -> Vec<String> {
    let mut recipients: Vec<String> = sink.messages().into_iter().flat_map(|message| message.recipients).collect();
    recipients.sort_unstable();
    recipients
}

async fn suppress(mail: &Mail, address: &str, entry: &Value) {
    let answer = mail.call("PUT", &format!("/v1/suppressions/{address}"), entry).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

async fn upload(mail: &Mail) {
    let template = json!({ "subject": "News", "text": "hello {{ user.name }}", "sample": { "user": { "name": "x" } } });
    assert_eq!(mail.call("PUT", "/v1/templates/news", &template).await.status, 200);
}

/// A broadcast, once all of its messages are in the outbox.
async fn broadcast(mail: &Mail) -> Value {
    let answer = mail.call("POST", "/v1/broadcasts", &json!({ "template": "news" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/v1/broadcasts/{}", answer.body["id"].as_str().unwrap());
    wait_for("the broadcast", SOON, || async {
        let broadcast = mail.get(&path).await.body;
        (broadcast["state"] == "done").then_some(broadcast)
    })
    .await
}

/// Waits until an attempt has failed: from then on nothing leaves before the server is back.
pub(crate) async fn paused(mail: &Mail) {
    wait_until("the first attempt", SOON, || async {
        let messages = mail.get("/v1/messages").await.body;
        messages["messages"][0]["recipients"][0]["attempts"].as_i64() >= Some(1)
    })
    .await;
}

async fn withheld(outbox: &str) {
    let mut sink = SmtpSink::start().await;
    sink.down().await;
    let mail = Mail::working(&sink, &["--outbox-url", outbox]);
    let gone = mail.accepted("Gone@b.c").await;
    paused(&mail).await;
    let here = mail.accepted("here@b.c").await;
    let both = mail.submit(&json!({ "to": ["here@b.c", "gone@b.c"], "text": "hello" })).await;
    bounce(&mail, "gone@b.c", "hard").await;
    sink.up();
    mail.until(&here, "delivered").await;
    let message = mail.until(&gone, "suppressed").await;
    assert_eq!(message["recipients"][0]["reason"], "bounce", "{message}");
    mail.until(both.body["id"].as_str().unwrap(), "partial").await;
    assert_eq!(recipients(&sink), ["here@b.c", "here@b.c"]);
}

#[tokio::test]
async fn who_bounces_while_a_message_waits_gets_nothing_when_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    withheld(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn who_bounces_while_a_message_waits_gets_nothing_when_it_leaves_an_outbox_in_mysql() {
    withheld(&Database::start().await.create("mail")).await;
}

#[tokio::test]
async fn many_who_are_suppressed_hold_nobody_up() {
    let mut sink = SmtpSink::start().await;
    sink.down().await;
    let mail = Mail::working(&sink, &["--sends-max", "1"]);
    let first = mail.accepted("first@b.c").await;
    paused(&mail).await;
    mail.call("POST", &format!("/v1/messages/{first}/cancel"), &Value::Null).await;
    for index in 0..60 {
        mail.accepted(&format!("gone{index}@b.c")).await;
        suppress(&mail, &format!("gone{index}@b.c"), &json!({})).await;
    }
    let here = mail.accepted("here@b.c").await;
    sink.up();
    mail.until(&here, "delivered").await;
    assert_eq!(recipients(&sink), ["here@b.c"]);
    let left = mail.get("/v1/messages?state=queued").await.body;
    assert_eq!(left["messages"], json!([]), "{left}");
}

#[tokio::test]
async fn leaving_a_newsletter_does_not_stop_a_password_reset() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    suppress(&mail, "left@b.c", &json!({ "reason": "unsubscribe" })).await;
    suppress(&mail, "bounced@b.c", &json!({ "reason": "bounce" })).await;
    suppress(&mail, "no-alerts@b.c", &json!({ "stream": "transactional" })).await;
    let answer = mail.submit(&json!({ "to": ["left@b.c", "bounced@b.c", "no-alerts@b.c"], "text": "reset" })).await;
    assert_eq!((&answer.body["recipients"], &answer.body["suppressed"]), (&json!(1), &json!(2)), "{answer:?}");
    mail.until(answer.body["id"].as_str().unwrap(), "partial").await;
    assert_eq!(recipients(&sink), ["left@b.c"]);
    let list = mail.get("/v1/suppressions").await.body;
    let streams: Vec<_> =
        list["suppressions"].as_array().unwrap().iter().map(|entry| entry["stream"].clone()).collect();
    assert_eq!(streams, ["all", "broadcast", "transactional"], "{list}");
    let all = json!({ "reason": "unsubscribe", "stream": "all" });
    mail.call("PUT", "/v1/suppressions/x@b.c", &all).await.assert(422, "invalid_field");
}

#[tokio::test]
async fn a_bounce_after_an_unsubscription_stops_all_mail_and_removing_it_removes_both() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    suppress(&mail, "a@b.c", &json!({ "reason": "unsubscribe" })).await;
    let message = json!({ "to": "a@b.c", "text": "hello" });
    assert_eq!(mail.submit(&message).await.status, 202);
    bounce(&mail, "a@b.c", "hard").await;
    mail.submit(&message).await.assert(422, "suppressed");
    let list = mail.get("/v1/suppressions").await.body;
    assert_eq!(list["suppressions"].as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(mail.call("DELETE", "/v1/suppressions/A@b.c", &Value::Null).await.status, 204);
    assert_eq!(mail.get("/v1/suppressions").await.body["suppressions"], json!([]));
    mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await.assert(404, "not_found");
    assert_eq!(mail.submit(&message).await.status, 202);
}

#[tokio::test]
async fn a_message_for_which_nobody_is_left_is_refused_and_nothing_is_kept() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    bounce(&mail, "a@b.c", "hard").await;
    bounce(&mail, "d@e.f", "complaint").await;
    for to in [json!("A@b.c"), json!(["a@b.c", "d@e.f"])] {
        let answer = mail.submit_as("k", &json!({ "to": to, "text": "hello" })).await;
        answer.assert(422, "suppressed");
        assert!(answer.detail().contains("suppression list"), "{answer:?}");
    }
    assert_eq!(mail.get("/v1/messages").await.body["messages"], json!([]));
    mail.call("DELETE", "/v1/suppressions/a@b.c", &Value::Null).await;
    let answer = mail.submit_as("k", &json!({ "to": "a@b.c", "text": "hello" })).await;
    assert_eq!(answer.status, 202, "a refusal keeps no key: {answer:?}");
}

#[tokio::test]
async fn the_suppression_list_is_shown_page_by_page_each_entry_once() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let mut expected = Vec::new();
    for index in 0..150 {
        let address = format!("u{index:03}@b.c");
        mail.outbox.suppress(&address, mail::outbox::store::suppression::Reason::Manual, "").await.unwrap();
        mail.outbox.suppress(&address, mail::outbox::store::suppression::Reason::Unsubscribe, "").await.unwrap();
        expected.extend([(address.clone(), "all"), (address, "broadcast")]);
    }
    let mut listed = Vec::new();
    let mut path = "/v1/suppressions".to_owned();
    loop {
        let page = mail.get(&path).await.body;
        let entries = page["suppressions"].as_array().unwrap().clone();
        listed.extend(entries.iter().map(|entry| (entry["address"].clone(), entry["stream"].clone())));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/suppressions?cursor={}", cursor.replace(' ', "%20"));
    }
    let expected: Vec<_> = expected.into_iter().map(|(address, stream)| (json!(address), json!(stream))).collect();
    assert_eq!(listed, expected);
    let after = mail.get("/v1/suppressions?cursor=u148@b.c").await.body;
    assert_eq!(after["suppressions"].as_array().map(Vec::len), Some(2), "as cursors were before: {after}");
}

async fn lifted(outbox: &str) {
    let (sink, (users, gateway)) = (SmtpSink::start().await, Users::start().await);
    let mail = Mail::working(&sink, &["--gateway-url", &gateway, "--outbox-url", outbox]);
    upload(&mail).await;
    // Userlist cannot be told yet, and says "active" because it does not know.
    users.contended.store(usize::MAX, Ordering::SeqCst);
    suppress(&mail, "d@e.f", &json!({ "reason": "unsubscribe" })).await;
    let first = broadcast(&mail).await;
    assert_eq!((&first["queued"], &first["skipped_by"]), (&json!(3), &json!({ "unsubscribe": 1 })), "{first}");
    users.contended.store(0, Ordering::SeqCst);
    users.until(["active", "active", "unsubscribed", "active"]).await;
    updates_waiting(&mail, 0).await;
    assert_eq!(broadcast(&mail).await["queued"], 3);
    users.set_status(3, "active");
    wait_until("the newsletter again", SOON, || async { broadcast(&mail).await["queued"] == 4 }).await;
    let list = mail.get("/v1/suppressions").await.body;
    assert_eq!(list["suppressions"], json!([]), "{list}");
    wait_until("the newsletter", SOON, || async { recipients(&sink).contains(&"d@e.f".to_owned()) }).await;
}

#[tokio::test]
async fn who_is_active_again_in_userlist_gets_broadcasts_again_and_nobody_whom_it_does_not_know_to_have_left() {
    let dir = tempfile::tempdir().unwrap();
    lifted(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn who_is_active_again_in_userlist_gets_broadcasts_again_from_an_outbox_in_mysql() {
    lifted(&Database::start().await.create("mail")).await;
}

#[tokio::test]
async fn what_an_operator_entered_is_not_lifted_also_when_the_user_had_left_before() {
    let (sink, (users, gateway)) = (SmtpSink::start().await, Users::start().await);
    let mail = Mail::working(&sink, &["--gateway-url", &gateway]);
    upload(&mail).await;
    let unsubscribe = json!({ "reason": "unsubscribe" });
    suppress(&mail, "d@e.f", &unsubscribe).await;
    suppress(&mail, "d@e.f", &json!({ "stream": "broadcast", "detail": "asked by phone" })).await;
    suppress(&mail, "D@e.f", &unsubscribe).await;
    let entry = mail.get("/v1/suppressions").await.body["suppressions"][0].clone();
    assert_eq!((&entry["reason"], &entry["detail"]), (&json!("manual"), &json!("asked by phone")), "{entry}");
    users.until(["active", "active", "unsubscribed", "active"]).await;
    updates_waiting(&mail, 0).await;
    users.set_status(3, "active");
    // Longer than clocks may be apart.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let done = broadcast(&mail).await;
    assert_eq!((&done["queued"], &done["skipped_by"]), (&json!(3), &json!({ "manual": 1 })), "{done}");
}

#[tokio::test]
async fn a_user_who_left_the_newsletter_still_gets_what_is_for_them_alone() {
    let user = async || axum::Json(json!({ "id": 1, "name": "left", "email": "left@b.c", "status": "unsubscribed" }));
    let router = axum::Router::new().route("/userlist/v1/users/left", axum::routing::get(user));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--gateway-url", &gateway]);
    let answer = mail.submit(&json!({ "to": { "user": "left" }, "text": "reset" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    mail.until(answer.body["id"].as_str().unwrap(), "delivered").await;
}

#[tokio::test]
async fn without_a_public_url_there_are_no_broadcasts_and_no_links_to_localhost() {
    let mail = Program::start(&[]).await;
    let client = reqwest::Client::new();
    let template = json!({ "subject": "x", "text": "hello", "sample": {} });
    client.put(format!("{}/v1/templates/news", mail.url)).json(&template).send().await.unwrap();
    let asking = client.post(format!("{}/v1/broadcasts", mail.url)).json(&json!({ "template": "news" }));
    let answer = asking.send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("public_url_missing") && body.contains("MAIL_PUBLIC_URL"), "{body}");
}

/// Suppressions and queued messages as the version before there were streams wrote them.
const BEFORE: &str = "INSERT INTO suppressions (address, reason, detail, created_ms) VALUES
    ('left@b.c', 'unsubscribe', 'broadcast x', 1), ('bounced@b.c', 'bounce', '550', 2),
    ('complained@b.c', 'complaint', '', 3), ('manual@b.c', 'manual', '', 4);
INSERT INTO messages (id, message_id, sender, subject, content, created_ms, broadcast) VALUES
    ('0a', '<0a@localhost>', 'muster@localhost', 'one', x'5375626a6563743a206f6e650d0a0d0a68656c6c6f0d0a', 1, ''),
    ('0b', '<0b@localhost>', 'muster@localhost', 'two', x'5375626a6563743a2074776f0d0a0d0a68656c6c6f0d0a', 2, 'x');
INSERT INTO deliveries (message, recipient, domain, kind, bulk, state, due_ms, expires_ms) VALUES
    ('0a', 'left@b.c', 'b.c', 'to', 0, 'queued', 1, 9000000000000),
    ('0a', 'bounced@b.c', 'b.c', 'to', 0, 'queued', 1, 9000000000000),
    ('0b', 'left@b.c', 'b.c', 'to', 1, 'queued', 1, 9000000000000),
    ('0b', 'here@b.c', 'b.c', 'to', 1, 'queued', 1, 9000000000000)";

async fn kept_from_before(outbox: &str) {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--outbox-url", outbox]);
    for id in ["0a", "0b"] {
        mail.until(id, "partial").await;
    }
    assert_eq!(recipients(&sink), ["here@b.c", "left@b.c"], "a reset to who left, a newsletter to who did not");
    let to = json!(["left@b.c", "bounced@b.c", "complained@b.c", "manual@b.c"]);
    let answer = mail.submit(&json!({ "to": to, "text": "hello" })).await;
    assert_eq!((&answer.body["recipients"], &answer.body["suppressed"]), (&json!(1), &json!(3)), "{answer:?}");
    let list = mail.get("/v1/suppressions").await.body;
    let streams: Vec<_> =
        list["suppressions"].as_array().unwrap().iter().map(|entry| entry["stream"].clone()).collect();
    assert_eq!(streams, ["all", "all", "broadcast", "all"], "{list}");
    bounce(&mail, "left@b.c", "hard").await;
    mail.submit(&json!({ "to": "left@b.c", "text": "hello" })).await.assert(422, "suppressed");
    let list = mail.get("/v1/suppressions").await.body;
    assert_eq!(list["suppressions"].as_array().map(Vec::len), Some(5), "that they left is not forgotten: {list}");
}

#[tokio::test]
async fn suppressions_and_messages_of_before_there_were_streams_keep_their_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("outbox.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    for statements in [include_str!("../outbox/sqlite-0.1.0.sql"), BEFORE] {
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    kept_from_before(&url).await;
}

#[tokio::test]
async fn suppressions_and_messages_of_before_in_mysql_keep_their_meaning() {
    let database = Database::start().await;
    let url = database.create("mail");
    for statements in [include_str!("../outbox/mysql-0.1.0.sql"), BEFORE] {
        database.sql(&format!("USE mail; {statements}"));
    }
    kept_from_before(&url).await;
}
