//! `POST /v1/messages` and what can be asked about a message afterwards.

use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::{Value, json};
use testkit::smtp_sink::SmtpSink;

use crate::service::Mail;

#[tokio::test]
async fn a_full_message_arrives_at_everybody_with_everything() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &["--from", "Post <post@example.com>", "--senders", "@shop.example"]);
    let answer = mail
        .submit(&json!({
            "to": ["Dong <dong@example.com>", {"email": "zoe@bücher.example", "name": "Zoë, the \"Z\""}],
            "cc": "cc@example.com",
            "bcc": ["bcc@example.com", "DONG@example.com"],
            "from": "Läden <no-reply@shop.example>",
            "reply_to": "help@shop.example",
            "subject": "Größe",
            "text": "hello\n.\nend",
            "html": "<p>hello</p>",
            "headers": {"X-Campaign": "autumn"},
            "attachments": [{"filename": "büro.txt", "content_type": "text/plain", "content": "aGVsbG8="}],
        }))
        .await;
    assert_eq!((answer.status, &answer.body["recipients"]), (202, &json!(4)), "{answer:?}");
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/v1/messages/{id}").as_str()));
    let message = mail.until(id, "delivered").await;
    assert_eq!(message["recipients"][0]["log"][0]["outcome"], "sent", "{message}");
    assert_eq!(message["recipients"][0]["log"][0]["reply"], "250 2.0.0 taken", "{message}");

    let received = sink.messages();
    let mut recipients: Vec<String> = received.iter().flat_map(|message| message.recipients.clone()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["bcc@example.com", "cc@example.com", "dong@example.com", "zoe@xn--bcher-kva.example"]);
    assert!(
        received.iter().all(|message| message.data == received[0].data && message.sender == "no-reply@shop.example")
    );
    assert!(!String::from_utf8_lossy(&received[0].data).contains("bcc@example.com"), "nobody learns of a bcc");
    let parsed = MessageParser::default().parse(&received[0].data).unwrap();
    assert_eq!((parsed.subject(), parsed.attachment_count()), (Some("Größe"), 1));
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n").trim_end(), "hello\n.\nend");
    assert_eq!(parsed.body_html(0).unwrap().trim_end(), "<p>hello</p>");
    let attachment = parsed.attachment(0).unwrap();
    assert_eq!((attachment.attachment_name(), attachment.contents()), (Some("büro.txt"), &b"hello"[..]));
    assert_eq!(parsed.to().unwrap().last().unwrap().name(), Some("Zoë, the \"Z\""));
    assert_eq!(parsed.header("X-Campaign").and_then(|value| value.as_text()), Some("autumn"));
    assert_eq!(received[0].header("Message-ID").as_deref(), answer.body["message_id"].as_str());
    assert_eq!(sink.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_message_is_refused_under_the_name_of_its_field_and_nothing_is_kept() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let with = |field: &str, value: Value| {
        let mut message = json!({ "to": "a@b.c", "text": "hello" });
        message[field] = value;
        message
    };
    for (message, field) in [
        (json!({ "text": "hello" }), "to"),
        (with("to", json!([])), "to"),
        (with("to", json!(["a@b.c", "b@[127.0.0.1]"])), "to[1]"),
        (with("cc", json!("A\r\nBcc: x@y.z <a@b.c>")), "cc"),
        (with("bcc", json!([{"email": 1}])), "bcc[0]"),
        (with("from", json!("boss@bank.example")), "from"),
        (with("from", json!("A\nB <muster@localhost>")), "from"),
        (with("reply_to", json!({"user": "dong"})), "reply_to"),
        (with("subject", json!("a\r\nBcc: x@y.z")), "subject"),
        (with("text", json!("")), "text"),
        (with("text", Value::Null), "text"),
        (with("html", json!("a\u{0}")), "html"),
        (with("headers", json!({"Bcc": "x@y.z"})), "headers"),
        (with("headers", json!({"X-A": "a\r\nBcc: x@y.z"})), "headers.X-A"),
        (with("attachments", json!([{"filename": "a", "content": "?"}])), "attachments[0].content"),
        (with("attachments", json!([{"filename": "a"}])), "attachments[0].content"),
        (with("send_at", json!("tomorrow")), "send_at"),
        (with("send_at", json!("2999-01-01T00:00:00Z")), "send_at"),
        (with("colour", json!("red")), "colour"),
    ] {
        let answer = mail.submit(&message).await;
        assert_eq!((answer.status, answer.field()), (422, field), "{message}: {answer:?}");
    }
    assert_eq!(mail.get("/v1/messages").await.body["messages"], json!([]));
}

#[tokio::test]
async fn the_same_key_and_body_is_one_message_and_another_body_is_a_conflict() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let body = json!({ "to": "a@b.c", "text": "hello" });
    let first = mail.submit_as("k1", &body).await;
    let again = mail.submit_as("k1", &body).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, None));
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
    assert_eq!(first.body, again.body);
    let other = mail.submit_as("k1", &json!({ "to": "a@b.c", "text": "something else" })).await;
    other.assert(409, "idempotency_key_reused");
    mail.submit_as("a key with spaces", &body).await.assert(422, "invalid_field");
    let many = futures::future::join_all((0..20).map(|_| mail.submit_as("k2", &body))).await;
    assert!(many.iter().all(|answer| answer.body == many[0].body), "{many:?}");
    mail.until(many[0].body["id"].as_str().unwrap(), "delivered").await;
    mail.until(first.body["id"].as_str().unwrap(), "delivered").await;
    assert_eq!(sink.messages().len(), 2);
}

#[tokio::test]
async fn a_message_for_later_waits_can_be_cancelled_and_can_be_sent_after_all() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let at = service_kit::time::UnixMillis::now() + std::time::Duration::from_secs(86_400);
    let answer = mail.submit(&json!({ "to": "a@b.c", "text": "hello", "send_at": at.to_string() })).await;
    let id = answer.body["id"].as_str().unwrap();
    let now = mail.accepted("now@b.c").await;
    mail.until(&now, "delivered").await;
    let waiting = mail.until(id, "queued").await;
    assert_eq!(waiting["recipients"][0]["next_attempt_at"], at.to_string());
    let cancelled = mail.call("POST", &format!("/v1/messages/{id}/cancel"), &Value::Null).await;
    assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));
    mail.call("POST", &format!("/v1/messages/{id}/cancel"), &Value::Null).await.assert(409, "conflict");
    assert_eq!(mail.call("POST", &format!("/v1/messages/{id}/requeue"), &Value::Null).await.status, 200);
    mail.until(id, "delivered").await;
    mail.call("POST", &format!("/v1/messages/{id}/requeue"), &Value::Null).await.assert(409, "conflict");
    mail.call("POST", "/v1/messages/nothing/cancel", &Value::Null).await.assert(404, "not_found");
    assert_eq!(sink.messages().len(), 2);
}

#[tokio::test]
async fn messages_are_listed_by_state_and_recipient_page_by_page() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let mut ids = Vec::new();
    for index in 0..5 {
        ids.push(mail.accepted(&format!("a{index}@b.c")).await);
    }
    mail.call("POST", &format!("/v1/messages/{}/cancel", ids[1]), &Value::Null).await;
    ids.reverse();
    let mut listed = Vec::new();
    let mut path = "/v1/messages?limit=2".to_owned();
    loop {
        let page = mail.get(&path).await.body;
        listed.extend(page["messages"].as_array().unwrap().iter().map(|message| message["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/messages?limit=2&cursor={cursor}");
    }
    assert_eq!(listed, ids, "the newest first, each once");
    for (query, count) in
        [("state=cancelled", 1), ("state=queued", 4), ("state=sending", 0), ("to=a3@b.c", 1), ("to=x", 0)]
    {
        let page = mail.get(&format!("/v1/messages?{query}")).await;
        assert_eq!(page.body["messages"].as_array().map(Vec::len), Some(count), "{query}: {page:?}");
    }
    for bad in ["state=lost", "limit=0", "limit=201", "limit=x", "color=red"] {
        mail.get(&format!("/v1/messages?{bad}")).await.assert(422, "invalid_field");
    }
}

#[tokio::test]
async fn messages_become_files_where_there_is_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let mail = Mail::into_folder(dir.path());
    let answer = mail.submit(&json!({ "to": ["a@b.c", "d@e.f"], "text": "hello" })).await;
    let id = answer.body["id"].as_str().unwrap();
    mail.until(id, "delivered").await;
    assert!(dir.path().join(format!("{id}.eml")).exists());
}

#[tokio::test]
async fn a_closed_outbox_is_503_and_never_a_success() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.accepted("a@b.c").await;
    mail.outbox.close().await;
    let answer = mail.submit(&json!({ "to": "a@b.c", "text": "hello" })).await;
    answer.assert(503, "outbox_unavailable");
    assert!(answer.header("retry-after").is_some());
    mail.send().await.assert(503, "outbox_unavailable");
    assert!(sink.messages().is_empty(), "nor is anything sent that would have no record");
}
