//! API tokens: who may send, who may look.

use axum::{body::Body, http::Request};
use service_kit::tokens::NewToken;
use testkit::smtp_sink::SmtpSink;

use crate::service::Mail;

#[tokio::test]
async fn with_a_tokens_file_only_those_may_send_who_may() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let token = |name, scope: &str| NewToken::random(name, &[scope.parse().unwrap()], false).unwrap();
    let reader = token("reader", "mail:read");
    let writer = token("writer", "mail:write");
    std::fs::write(&file, format!("{}\n{}\n", reader.line, writer.line)).unwrap();
    let reader = reader.secret;
    let writer = writer.secret;
    let sink = SmtpSink::start().await;
    let mail = Mail::over(&sink, &["--tokens-file", file.to_str().unwrap()]);
    let status = async |method: &str, path: &str, token: Option<&str>, body: &str| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        mail.request(request.body(Body::from(body.to_owned())).unwrap()).await.status
    };
    let plain = r#"{"address":"a@b.c","message":"hello"}"#;
    let full = r#"{"to":"a@b.c","text":"hello"}"#;
    assert_eq!(status("POST", "/", None, plain).await, 401);
    assert_eq!(status("POST", "/", Some(&reader), plain).await, 403);
    assert_eq!(status("POST", "/", Some(&writer), plain).await, 200);
    assert_eq!(status("POST", "/v1/messages", None, full).await, 401);
    assert_eq!(status("POST", "/v1/messages", Some(&reader), full).await, 403);
    assert_eq!(status("POST", "/v1/messages", Some(&writer), full).await, 202);
    assert_eq!(status("GET", "/v1/messages", Some(&writer), "").await, 403);
    assert_eq!(status("GET", "/v1/messages", Some(&reader), "").await, 200);
    assert_eq!(status("GET", "/healthz", None, "").await, 200, "probes have no token");
    assert_eq!(sink.messages().len(), 1);
}
