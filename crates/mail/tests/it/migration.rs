//! Messages that the version before accepted are delivered by this one: its database, filled by its schema, is opened.

use std::collections::BTreeSet;

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use service_kit::time::UnixMillis;
use sqlx::{ConnectOptions as _, Executor as _, any::AnyConnectOptions};
use testkit::{
    database::Database,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_until},
};

use crate::service::Mail;

const SQLITE: &str = include_str!("../outbox/sqlite-0.1.0.sql");
const MYSQL: &str = include_str!("../outbox/mysql-0.1.0.sql");
/// More than a version before kept in one row.
const LARGE_BYTES: usize = 700_000;
const CHUNK_BYTES: usize = 256 * 1024;

/// A message as it was stored; `deliveries` are address, kind, bulk, state, claim and until when that holds.
struct Stored<'a> {
    id: &'a str,
    content: String,
    broadcast: &'a str,
    due: i64,
    deliveries: &'a [(&'a str, &'a str, i64, &'a str, &'a str, i64)],
}

fn letter(id: &str, text: &str) -> String {
    format!(
        "From: post@example.com\r\nTo: a@b.c\r\nSubject: {id}\r\nMessage-ID: <{id}@example.com>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n{text}\r\n"
    )
}

async fn store(database: &mut sqlx::AnyConnection, message: &Stored<'_>, now: i64) {
    let is_large = message.content.len() > CHUNK_BYTES;
    let content = if is_large { Vec::new() } else { message.content.clone().into_bytes() };
    let insert = "INSERT INTO messages (id, message_id, sender, subject, content, created_ms, broadcast) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(insert).bind(message.id).bind(format!("<{}@example.com>", message.id));
    query
        .bind("post@example.com")
        .bind(message.id)
        .bind(content)
        .bind(now)
        .bind(message.broadcast)
        .execute(&mut *database)
        .await
        .unwrap();
    if is_large {
        let insert = "INSERT INTO large_contents (message, length) VALUES (?, ?)";
        let length = i64::try_from(message.content.len()).unwrap();
        sqlx::query(insert).bind(message.id).bind(length).execute(&mut *database).await.unwrap();
        for (position, chunk) in (0_i64..).zip(message.content.as_bytes().chunks(CHUNK_BYTES)) {
            let insert = "INSERT INTO content_blocks (message, position, bytes) VALUES (?, ?, ?)";
            sqlx::query(insert).bind(message.id).bind(position).bind(chunk).execute(&mut *database).await.unwrap();
        }
    }
    for (address, kind, bulk, state, claim, claimed_until) in message.deliveries {
        let insert = "INSERT INTO deliveries (message, recipient, domain, kind, bulk, state, due_ms, expires_ms, claim, \
                      claimed_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let query = sqlx::query(insert).bind(message.id).bind(*address).bind(address.split('@').nth(1)).bind(*kind);
        let query = query.bind(*bulk).bind(*state).bind(message.due).bind(now + 86_400_000).bind(*claim);
        query.bind(*claimed_until).execute(&mut *database).await.unwrap();
    }
}

/// One of each kind: to several, large, of a broadcast, claimed by an instance that is gone, for later, suppressed,
/// done.
async fn fill(url: &str, schema: &str) {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_url(&url.parse().unwrap()).unwrap();
    let mut database = options.connect().await.unwrap();
    database.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(schema.to_owned()))).await.unwrap();
    let now = UnixMillis::now().0;
    let queued = |id, content, broadcast, deliveries| Stored { id, content, broadcast, due: now - 1000, deliveries };
    let dead = now - 1;
    for message in [
        queued(
            "several",
            letter("several", "x"),
            "",
            &[
                ("to@b.c", "to", 0, "queued", "", 0),
                ("cc@b.c", "cc", 0, "queued", "", 0),
                ("bcc@b.c", "bcc", 0, "queued", "", 0),
                ("gone@b.c", "to", 0, "suppressed", "", 0),
                ("done@b.c", "to", 0, "delivered", "", 0),
            ],
        ),
        queued("large", letter("large", &lines(LARGE_BYTES)), "", &[("large@b.c", "to", 0, "queued", "", 0)]),
        queued("bulk", letter("bulk", "x"), "b1", &[("bulk@b.c", "to", 1, "queued", "", 0)]),
        queued("claimed", letter("claimed", "x"), "", &[("claimed@b.c", "to", 0, "queued", "dead", dead)]),
        Stored {
            due: now + 2000,
            ..queued("later", letter("later", "x"), "", &[("later@b.c", "to", 0, "queued", "", 0)])
        },
    ] {
        store(&mut database, &message, now).await;
    }
    let template = json!({ "subject": "Hi {{ user.name }}", "text": "x", "sample": { "user": { "name": "x" } } });
    let broadcast = json!({ "request": { "template": "t" }, "template": template });
    let insert = "INSERT INTO broadcasts (id, body, state, created_ms, changed_ms) VALUES ('b2', ?, 'running', ?, ?)";
    sqlx::query(insert).bind(broadcast.to_string()).bind(now).bind(now).execute(&mut database).await.unwrap();
    let insert = "INSERT INTO templates (name, body, changed_ms) VALUES ('t', ?, ?)";
    sqlx::query(insert).bind(template.to_string()).bind(now).execute(&mut database).await.unwrap();
    let body = json!({ "to": "a@b.c", "text": "hello" }).to_string();
    let fingerprint = hex::encode(ring::digest::digest(&ring::digest::SHA256, body.as_bytes()));
    let answer = json!({ "id": "several", "message_id": "<several@example.com>", "recipients": 3, "suppressed": 1 });
    let insert = "INSERT INTO idempotency_keys (name, fingerprint, answer, created_ms) VALUES ('/k', ?, ?, ?)";
    sqlx::query(insert).bind(fingerprint).bind(answer.to_string()).bind(now).execute(&mut database).await.unwrap();
    let insert = "INSERT INTO suppressions (address, reason, detail, created_ms) VALUES ('left@b.c', 'bounce', 'x', ?)";
    sqlx::query(insert).bind(now).execute(&mut database).await.unwrap();
}

/// Lines of text, together about so many bytes.
fn lines(bytes: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(72));
    line.repeat(bytes / line.len())
}

/// Two active users, behind a gateway.
async fn gateway() -> String {
    let users = async || {
        let user = |name: &str| json!({ "id": 1, "name": name, "email": format!("{name}@b.c"), "status": "active", "attributes": {} });
        Json(json!({ "users": [user("ann"), user("left")], "next_cursor": null, "total": 2 }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/userlist/v1/users", get(users));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn everything_arrives(url: &str) {
    let sink = SmtpSink::start().await;
    let gateway = gateway().await;
    let mail = Mail::working(&sink, &["--outbox-url", url, "--gateway-url", &gateway]);
    let arrived =
        || -> BTreeSet<String> { sink.messages().iter().flat_map(|message| message.recipients.clone()).collect() };
    let expected = ["ann", "bcc", "bulk", "cc", "claimed", "large", "later", "to"];
    let expected: BTreeSet<String> = expected.iter().map(|name| format!("{name}@b.c")).collect();
    wait_until("all of them", SOON, || async { arrived() == expected }).await;
    let recipients: usize = sink.messages().iter().map(|message| message.recipients.len()).sum();
    assert_eq!(recipients, expected.len(), "each once");
    let large = sink.messages().into_iter().find(|message| message.recipients == ["large@b.c"]).unwrap();
    assert!(
        large.data.len() > LARGE_BYTES - 1000 && large.header("Message-ID").as_deref() == Some("<large@example.com>")
    );
    let again = mail.submit_as("k", &json!({ "to": "a@b.c", "text": "hello" })).await;
    assert_eq!((again.status, &again.body["id"]), (202, &json!("several")), "{again:?}");
    mail.submit_as("k", &json!({ "to": "a@b.c", "text": "other" })).await.assert(409, "idempotency_key_reused");
    let several = mail.get("/v1/messages/several").await.body;
    let states: Vec<&Value> = several["recipients"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["delivered", "delivered", "delivered", "suppressed", "delivered"]);
    let before = mail.post(&json!({ "address": "left@b.c", "message": "x" })).await;
    before.assert(422, "suppressed");
    mail.send().await.assert(200, "success");
}

#[tokio::test]
async fn what_the_version_before_accepted_into_sqlite_is_delivered_by_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outbox.db");
    fill(&format!("sqlite:{}?mode=rwc", file.display()), SQLITE).await;
    everything_arrives(&format!("sqlite:{}", file.display())).await;
}

#[tokio::test]
async fn what_the_version_before_accepted_into_mysql_is_delivered_by_this_one() {
    let database = Database::start().await;
    let url = database.create("mail");
    fill(&url, MYSQL).await;
    everything_arrives(&url).await;
}
