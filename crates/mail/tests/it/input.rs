//! Bad requests: refused with the name of the field, before anything is sent.

use serde_json::json;
use testkit::smtp_sink::SmtpSink;

use crate::service::Mail;

#[tokio::test]
async fn a_bad_request_is_refused_under_the_name_of_its_field_and_nothing_is_sent() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    for (body, status, field) in [
        (String::new(), 400, ""),
        ("hello".to_owned(), 400, ""),
        (r#"{"address":"a@b.c","message":"hello"#.to_owned(), 400, ""),
        (json!([]).to_string(), 422, "body"),
        (json!({}).to_string(), 422, "address"),
        (json!({ "address": "a@b.c" }).to_string(), 422, "message"),
        (json!({ "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": 1, "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": ["a@b.c", "d@e.f"], "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "a@b.c", "message": null }).to_string(), 422, "message"),
        (json!({ "address": "a@b.c", "message": "hello", "cc": "d@e.f" }).to_string(), 422, "cc"),
        (r#"{"address":"a@b.c","address":"d@e.f","message":"hello"}"#.to_owned(), 422, "address"),
        (json!({ "address": "", "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "nobody", "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "a@b.c,d@e.f", "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "b@[169.254.169.254]", "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "a@b.c\r\nRCPT TO:<d@e.f>", "message": "hello" }).to_string(), 422, "address"),
        (json!({ "address": "a@b.c", "message": "" }).to_string(), 422, "message"),
        (json!({ "address": "a@b.c", "message": "a\u{0}b" }).to_string(), 422, "message"),
        (json!({ "address": "a@b.c", "message": "hello", "subject": "" }).to_string(), 422, "subject"),
        (json!({ "address": "a@b.c", "message": "hello", "subject": "a\nBcc: d@e.f" }).to_string(), 422, "subject"),
    ] {
        let answer = mail.post_bytes(body.clone()).await;
        assert_eq!((answer.status, answer.field()), (status, field), "{body}: {answer:?}");
    }
    assert_eq!((sink.connections_accepted(), sink.messages().len()), (0, 0));
}

#[tokio::test]
async fn null_is_the_default_subject() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--subject", "Default"]);
    mail.post(&json!({ "address": "a@b.c", "message": "hello", "subject": null })).await.assert(200, "success");
    assert_eq!(sink.messages()[0].header("Subject").as_deref(), Some("Default"));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &[]);
    mail.get("/").await.assert(405, "method_not_allowed");
    mail.get("/nowhere").await.assert(404, "no_such_path");
}
