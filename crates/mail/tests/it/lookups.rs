//! Finding messages again, by tag and metadata, and reading what they say.

use axum::{body::Body, http::Request};
use mail_parser::MessageParser;
use serde_json::{Value, json};
use service_kit::tokens::NewToken;
use testkit::{database::Database, smtp_sink::SmtpSink};

use crate::service::Mail;

fn ids(page: &Value) -> Vec<Value> {
    page["messages"].as_array().unwrap().iter().map(|message| message["id"].clone()).collect()
}

async fn labelled(outbox: &str) {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--outbox-url", outbox]);
    let mut accepted = Vec::new();
    for (tag, order) in [("welcome", "17"), ("shipped", "17"), ("shipped", "18")] {
        let metadata = json!({ "order": order, "shop": "a: b" });
        let message = json!({ "to": "a@b.c", "text": "hello", "tag": tag, "metadata": metadata });
        let answer = mail.submit(&message).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        accepted.push(answer.body["id"].clone());
    }
    let without = mail.accepted("a@b.c").await;
    let [welcome, shipped_17, shipped_18] = accepted.try_into().unwrap();
    for (query, found) in [
        ("tag=shipped", vec![&shipped_18, &shipped_17]),
        ("tag=welcome", vec![&welcome]),
        ("tag=none", vec![]),
        ("metadata=order:17", vec![&shipped_17, &welcome]),
        ("tag=shipped&metadata=order:17", vec![&shipped_17]),
        ("metadata=order:17&metadata=shop:a:%20b", vec![&shipped_17, &welcome]),
        ("metadata=order:17&metadata=shop:b", vec![]),
        ("metadata=order:17&state=delivered", vec![]),
    ] {
        let page = mail.get(&format!("/v1/messages?{query}")).await.body;
        assert_eq!(ids(&page).iter().collect::<Vec<_>>(), found, "{query}: {page}");
    }
    let first = mail.get("/v1/messages?tag=shipped&limit=1").await.body;
    let next = format!("/v1/messages?tag=shipped&limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(ids(&mail.get(&next).await.body), [shipped_17]);
    let shown = mail.get(&format!("/v1/messages/{}", welcome.as_str().unwrap())).await.body;
    assert_eq!((&shown["tag"], &shown["metadata"]), (&json!("welcome"), &json!({ "order": "17", "shop": "a: b" })));
    let shown = mail.get(&format!("/v1/messages/{without}")).await.body;
    assert_eq!((&shown["tag"], &shown["metadata"]), (&Value::Null, &Value::Null), "{shown}");
    mail.call("POST", &format!("/v1/messages/{}/cancel", welcome.as_str().unwrap()), &Value::Null).await;
    mail.outbox.forget(service_kit::time::UnixMillis(i64::MAX)).await.unwrap();
    assert_eq!(ids(&mail.get("/v1/messages?metadata=order:17").await.body).len(), 1, "the settled one is forgotten");
}

#[tokio::test]
async fn messages_are_found_by_tag_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    labelled(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn messages_are_found_by_tag_and_metadata_in_mysql() {
    labelled(&Database::start().await.create("mail")).await;
}

#[tokio::test]
async fn a_wrong_tag_or_name_is_refused_under_its_field() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for (more, field) in [
        (json!({ "tag": "two words" }), "tag"),
        (json!({ "tag": "" }), "tag"),
        (json!({ "metadata": { "a:b": "x" } }), "metadata"),
        (json!({ "metadata": { "a": "" } }), "metadata"),
        (json!({ "metadata": { "a": "x\ny" } }), "metadata"),
    ] {
        let mut message = json!({ "to": "a@b.c", "text": "hello" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = mail.submit(&message).await;
        assert_eq!((answer.status, answer.field()), (422, field), "{message}: {answer:?}");
    }
    for bad in ["tag=two%20words", "metadata=order", "metadata=order:", "metadata=:x"] {
        mail.get(&format!("/v1/messages?{bad}")).await.assert(422, "invalid_field");
    }
}

async fn found_by_address(outbox: &str) {
    let mail = Mail::over(&SmtpSink::start().await, &["--outbox-url", outbox]);
    let id = json!(mail.accepted("Zoe@bücher.example").await);
    mail.accepted("other@b.c").await;
    for spelling in ["Zoe@xn--bcher-kva.example", "zoe@b%C3%BCcher.example", "ZOE@B%C3%9CCHER.example"] {
        let page = mail.get(&format!("/v1/messages?to={spelling}&state=queued")).await.body;
        assert_eq!(ids(&page), std::slice::from_ref(&id), "{spelling}: {page}");
    }
    assert_eq!(ids(&mail.get("/v1/messages?to=nobody").await.body), Vec::<Value>::new());
}

#[tokio::test]
async fn messages_are_found_by_address_however_it_is_spelt() {
    let dir = tempfile::tempdir().unwrap();
    found_by_address(&format!("sqlite:{}", dir.path().join("outbox.db").display())).await;
}

#[tokio::test]
async fn messages_are_found_by_address_however_it_is_spelt_in_mysql() {
    found_by_address(&Database::start().await.create("mail")).await;
}

#[tokio::test]
async fn more_metadata_than_a_message_has_is_refused() {
    let mail = Mail::over(&SmtpSink::start().await, &[]);
    let query = |count: usize| vec!["metadata=a:b"; count].join("&");
    assert_eq!(mail.get(&format!("/v1/messages?{}", query(20))).await.status, 200);
    let answer = mail.get(&format!("/v1/messages?{}", query(2000))).await;
    assert_eq!((answer.status, answer.field()), (422, "metadata"), "{answer:?}");
}

async fn raw(mail: &Mail, id: &str) -> (u16, Vec<u8>) {
    let answer = mail.bytes(Request::get(format!("/v1/messages/{id}/raw")).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.1.get("content-type").unwrap(), "message/rfc822");
    (answer.0, answer.2)
}

#[tokio::test]
async fn the_text_of_a_message_can_be_read_again_as_it_was_sent_and_as_text() {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let answer = mail
        .submit(&json!({
            "to": "a@b.c", "bcc": "secret@b.c", "subject": "Größe", "text": "hello\nworld", "html": "<p>hällo</p>",
            "attachments": [{ "filename": "a.txt", "content_type": "text/plain", "content": "aGVsbG8=" }],
        }))
        .await;
    let id = answer.body["id"].as_str().unwrap().to_owned();
    mail.until(&id, "delivered").await;
    let (status, bytes) = raw(&mail, &id).await;
    let sent = &sink.messages()[0].data;
    assert_eq!((status, String::from_utf8_lossy(&bytes).trim_end()), (200, String::from_utf8_lossy(sent).trim_end()));
    let shown = mail.get(&format!("/v1/messages/{id}/content")).await;
    let expected = json!({
        "subject": "Größe", "text": "hello\nworld", "html": "<p>hällo</p>", "is_complete": true,
        "attachments": [{ "filename": "a.txt", "content_type": "text/plain", "bytes": 5 }],
    });
    assert_eq!((shown.status, &shown.body), (200, &expected));
    assert_eq!(shown.header("cache-control"), Some("no-store"));
    let plain = mail.accepted("a@b.c").await;
    let shown = mail.get(&format!("/v1/messages/{plain}/content")).await.body;
    assert_eq!((&shown["text"], &shown["html"]), (&json!("hello"), &Value::Null), "{shown}");
    for path in ["/v1/messages/none/content", "/v1/messages/none/raw"] {
        mail.get(path).await.assert(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_can_be_read_again_block_by_block() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let file = json!({ "filename": "a.bin", "content": "QUJD".repeat(2_400_000) });
    let message = json!({ "to": "a@b.c", "text": "hello", "attachments": [file] });
    let id = mail.submit(&message).await.body["id"].as_str().unwrap().to_owned();
    let (status, bytes) = raw(&mail, &id).await;
    assert_eq!(status, 200);
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.attachment(0).unwrap().contents().len(), 7_200_000);
    let shown = mail.get(&format!("/v1/messages/{id}/content")).await.body;
    assert_eq!((&shown["text"], &shown["is_complete"]), (&json!("hello"), &json!(false)), "{shown}");
    let file = json!({ "filename": "a.bin", "content_type": "application/octet-stream", "bytes": null });
    assert_eq!(shown["attachments"], json!([file]), "how large it is was not read");
}

#[tokio::test]
async fn only_who_may_read_reads_what_a_message_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let token = |name, scope: &str| NewToken::random(name, &[scope.parse().unwrap()], false).unwrap();
    let reader = token("reader", "mail:read");
    let writer = token("writer", "mail:write");
    std::fs::write(&file, format!("{}\n{}\n", reader.line, writer.line)).unwrap();
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--tokens-file", file.to_str().unwrap()]);
    let asking = |method: &str, path: &str, token: &str, body: &str| {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        mail.request(request.body(Body::from(body.to_owned())).unwrap())
    };
    let accepted = asking("POST", "/v1/messages", &writer.secret, r#"{"to":"a@b.c","text":"hello"}"#).await;
    for part in ["content", "raw"] {
        let path = format!("/v1/messages/{}/{part}", accepted.body["id"].as_str().unwrap());
        assert_eq!(asking("GET", &path, &writer.secret, "").await.status, 403);
        assert_eq!(asking("GET", &path, &reader.secret, "").await.status, 200);
        assert_eq!(mail.get(&path).await.status, 401);
    }
}
