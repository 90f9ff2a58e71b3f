//! What arrives is what was meant: headers, names, texts and moments in all the forms in which programs write them.

use mail_parser::{MessageParser, MimeHeaders as _};
use serde_json::{Value, json};
use testkit::{
    smtp_sink::{Received, SmtpSink},
    wait::{SOON, wait_until},
};

use crate::service::Mail;

/// The message as it arrives.
async fn arrived(message: &Value) -> Received {
    let sink = SmtpSink::start().await;
    let mail = Mail::working(&sink, &[]);
    let answer = mail.submit(message).await;
    assert_eq!(answer.status, 202, "{message}: {answer:?}");
    wait_until("the message", SOON, || async { sink.messages().len() == 1 }).await;
    assert_eq!(sink.violations(), Vec::<String>::new());
    sink.messages().remove(0)
}

fn with(field: &str, value: Value) -> Value {
    let mut message = json!({ "to": "a@b.c", "text": "hello" });
    message[field] = value;
    message
}

#[tokio::test]
async fn references_of_any_length_arrive_folded_and_whole() {
    let ids: Vec<String> = (0..200).map(|index| format!("<{index}.{}@example.com>", "x".repeat(30))).collect();
    let message = arrived(&with("headers", json!({ "References": ids.join(" "), "In-Reply-To": ids[199] }))).await;
    assert_eq!(message.header("References").map(|value| value.replace("\r\n", "")), Some(ids.join(" ")));
    let text = String::from_utf8(message.data).unwrap();
    assert!(text.split("\r\n").all(|line| line.len() <= 78), "{text}");
}

#[tokio::test]
async fn a_header_that_programs_read_is_never_an_encoded_word() {
    let link = "<https://shop.example/leave/=?utf-8?q?a?=>";
    let message = arrived(&with("headers", json!({ "List-Unsubscribe": link }))).await;
    assert_eq!(message.header("List-Unsubscribe").as_deref(), Some(link));
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let answer = mail.submit(&with("headers", json!({ "List-Unsubscribe": "<https://bücher.example/>" }))).await;
    assert_eq!((answer.status, answer.field()), (422, "headers.List-Unsubscribe"), "{answer:?}");
    assert!(answer.detail().contains("ASCII"), "{answer:?}");
}

#[tokio::test]
async fn a_quoted_name_is_unescaped_and_may_hold_what_an_address_is_made_of() {
    for (written, name) in [
        (r#""A <b> C" <a@b.c>"#, "A <b> C"),
        (r#""the \"Z\"" <a@b.c>"#, "the \"Z\""),
        (r#""back\\slash" <a@b.c>"#, "back\\slash"),
        (r#""Dong, A." <a@b.c>"#, "Dong, A."),
    ] {
        let message = arrived(&json!({ "to": written, "text": "hello" })).await;
        assert_eq!(message.recipients, ["a@b.c"], "{written}");
        let parsed = MessageParser::default().parse(&message.data).unwrap();
        assert_eq!(parsed.to().unwrap().first().unwrap().name(), Some(name), "{written}");
    }
}

#[tokio::test]
async fn an_empty_list_or_text_is_an_absent_one() {
    let message = json!({ "to": "a@b.c", "cc": "", "bcc": "", "reply_to": "", "text": "", "html": "<p>hello</p>" });
    let message = arrived(&message).await;
    assert!(message.header("Cc").is_none() && message.header("Reply-To").is_none());
    let parsed = MessageParser::default().parse(&message.data).unwrap();
    assert_eq!((parsed.parts.len(), parsed.body_html(0).unwrap().trim_end()), (1, "<p>hello</p>"));
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let answer = mail.submit(&json!({ "to": "", "text": "hello" })).await;
    assert_eq!((answer.status, answer.field()), (422, "to"), "{answer:?}");
    let answer = mail.submit(&json!({ "to": "a@b.c", "text": "", "html": " " })).await;
    assert_eq!((answer.status, answer.field()), (422, "text"), "{answer:?}");
    let template = json!({ "subject": "x", "text": "hello" });
    assert_eq!(mail.call("PUT", "/v1/templates/t", &template).await.status, 200);
    let answer = mail.submit(&json!({ "to": "a@b.c", "template": "t", "text": "", "html": "" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = mail.submit(&json!({ "to": "a@b.c", "template": "t", "text": "own" })).await;
    assert_eq!((answer.status, answer.field()), (422, "template"), "{answer:?}");
}

#[tokio::test]
async fn send_at_may_have_an_offset_from_utc() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    let utc = service_kit::time::UnixMillis::now() + std::time::Duration::from_secs(7200);
    let local = (utc + std::time::Duration::from_secs(5400)).to_string().replace('Z', "+01:30");
    let answer = mail.submit(&with("send_at", json!(local))).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let message = mail.get(&format!("/v1/messages/{}", answer.body["id"].as_str().unwrap())).await.body;
    assert_eq!(message["recipients"][0]["next_attempt_at"], utc.to_string());
    let answer = mail.submit(&with("send_at", json!("2026-11-21T12:00:00"))).await;
    assert!(answer.status == 422 && answer.detail().contains("offset"), "{answer:?}");
}

#[tokio::test]
async fn a_mistake_in_an_address_is_called_what_it_is() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for (to, cause) in [
        ("a@b.c, d@e.f", "several addresses"),
        ("A <a@b.c>, D <d@e.f>", "several addresses"),
        ("\"A <a@b.c>", "quotation mark"),
        ("A <a@b.c> and more", "follows the >"),
    ] {
        let answer = mail.submit(&json!({ "to": to, "text": "hello" })).await;
        assert!(answer.status == 422 && answer.detail().contains(cause), "{to}: {answer:?}");
    }
}

#[tokio::test]
async fn the_name_of_an_attachment_has_the_forms_of_old_readers_and_of_new_ones() {
    let files = json!([
        { "filename": "büro.txt", "content_type": "text/plain", "content": "aGVsbG8=" },
        { "filename": "plain.txt", "content_type": "text/plain", "content": "aGVsbG8=" },
    ]);
    let message = arrived(&with("attachments", files)).await;
    let text = String::from_utf8(message.data.clone()).unwrap();
    for form in [
        " filename=\"=?utf-8?q?b=C3=BCro=2Etxt?=\"",
        " filename*=utf-8''b%C3%BCro.txt",
        " name=\"=?utf-8?q?b=C3=BCro=2Etxt?=\"",
        " filename=\"plain.txt\"",
        " name=\"plain.txt\"",
    ] {
        assert!(text.contains(form), "{form} in\n{text}");
    }
    let parsed = MessageParser::default().parse(&message.data).unwrap();
    let names: Vec<_> = parsed.attachments().map(|file| file.attachment_name().unwrap()).collect();
    assert_eq!(names, ["büro.txt", "plain.txt"]);
}
