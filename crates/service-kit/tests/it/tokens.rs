use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, http::Request, middleware::from_fn_with_state, routing::put};
use prometheus_client::registry::Registry;
use reqwest::{Method, StatusCode};
use ring::hmac;
use serde_json::Value;
use service_kit::{
    Problem, app,
    browser::{BrowserOptions, Guard},
    health::Readiness,
    serve::{ServeOptions, serve},
    signature::SigningKey,
    tokens::{Action, Caller, NewToken, Tokens, authenticate},
};
use tokio::net::TcpListener;

/// A service with one path that needs `mail:register`, and says who came and what.
async fn start(file: Option<&Path>) -> String {
    let tokens = Tokens::load(file).unwrap();
    let mut registry = Registry::default();
    tokens.register(&mut registry);
    let hello = async |body: String| {
        let caller = Caller::current().expect("the layer has settled it");
        caller.require("mail", Action::Register)?;
        Ok::<_, Problem>(format!("{} {body}", caller.name().unwrap_or("anybody")))
    };
    let api = Router::new().route("/mail", put(hello)).layer(from_fn_with_state(tokens, authenticate));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = app::assemble(api, Guard::new(&BrowserOptions::default(), None), Readiness::new(), registry);
    tokio::spawn(serve(listener, router, ServeOptions::default(), tokio_util::sync::CancellationToken::new()));
    url
}

struct Answer {
    status: StatusCode,
    challenge: String,
    text: String,
}

async fn send(url: &str, authorization: Option<&str>, body: &str) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(Method::PUT, format!("{url}/mail")).body(body.to_owned());
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    read(request.send().await.unwrap()).await
}

async fn read(response: reqwest::Response) -> Answer {
    let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    Answer { status: response.status(), challenge: challenge.unwrap_or_default(), text: response.text().await.unwrap() }
}

fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.text).unwrap();
    body["code"].as_str().unwrap().to_owned()
}

fn token(name: &str, scope: &str, is_signing: bool) -> NewToken {
    NewToken::random(name, &[scope.parse().unwrap()], is_signing).unwrap()
}

#[tokio::test]
async fn without_a_file_every_caller_may_do_everything() {
    let url = start(None).await;
    let answer = send(&url, None, "x").await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "anybody x"));
}

#[tokio::test]
async fn a_token_opens_what_its_scope_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let mail = token("mail-ci", "mail:register", false);
    let web = token("web-ci", "web:register", false);
    std::fs::write(&file, format!("{}\n{}\n", mail.line, web.line)).unwrap();
    let url = start(Some(&file)).await;
    let answer = send(&url, Some(&format!("Bearer {}", mail.secret)), "x").await;
    assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, "mail-ci x"));
    let answer = send(&url, Some(&format!("Bearer {}", web.secret)), "x").await;
    assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (403, "out_of_scope"));
    for (header, expected) in [
        (None, "token_missing"),
        (Some("Basic YTpi".to_owned()), "token_missing"),
        (Some("Bearer".to_owned()), "token_missing"),
        (Some("Bearer nonsense".to_owned()), "token_unknown"),
        (Some(format!("Bearer {}x", mail.secret)), "token_unknown"),
        (Some("Bearer ".to_owned() + &"x".repeat(4000)), "token_unknown"),
    ] {
        let answer = send(&url, header.as_deref(), "x").await;
        assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (401, expected), "{header:?}");
        assert!(answer.challenge.starts_with("Bearer realm="), "{}", answer.challenge);
    }
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("auth_refused_total{reason=\"Missing\"} 3"), "{metrics}");
}

/// A write to `/mail` with these fields, signed.
fn signed(secret: &str, fields: &[(&'static str, &'static str)], body: &str) -> Request<String> {
    let mut request = Request::builder().method(Method::PUT).uri("/mail");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body.to_owned()).unwrap();
    SigningKey::parse(&secret.to_owned().into()).unwrap().sign(&mut request);
    request
}

/// The same in the form before RFC 9421.
fn signed_of_old(secret: &str, fields: &[(&'static str, &'static str)], body: &str) -> Request<String> {
    let (name, key) = secret.split_once(':').unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let nonce = format!("{:032x}", now.as_nanos());
    let now = now.as_secs();
    let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, body.as_bytes()));
    let text = format!("MUSTER1\n{name}\n{now}\n{nonce}\nPUT\n/mail\n{digest}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &hex::decode(key).unwrap());
    let signature = hex::encode(hmac::sign(&key, text.as_bytes()));
    let proof = format!("Muster-HMAC-SHA256 name={name},ts={now},nonce={nonce},signature={signature}");
    let mut request = Request::builder().header("authorization", proof);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body.to_owned()).unwrap()
}

async fn send_signed(url: &str, request: &Request<String>) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let put = client.put(format!("{url}/mail")).headers(request.headers().clone());
    read(put.body(request.body().clone()).send().await.unwrap()).await
}

#[tokio::test]
async fn a_signed_request_counts_once_and_only_as_it_was_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let signer = token("shop", "mail:register", true);
    let stranger = token("shop", "mail:register", true);
    std::fs::write(&file, &signer.line).unwrap();
    let url = start(Some(&file)).await;
    let request = signed(&signer.secret, &[], "hello");
    let mut changed = request.clone();
    *changed.body_mut() = "hullo".to_owned();
    let changed = send_signed(&url, &changed).await;
    assert_eq!((changed.status.as_u16(), code(&changed).as_str()), (401, "signature_refused"));
    let first = send_signed(&url, &request).await;
    assert_eq!((first.status, first.text.as_str()), (StatusCode::OK, "shop hello"), "a refused copy spends nothing");
    let replayed = send_signed(&url, &request).await;
    assert_eq!((replayed.status.as_u16(), code(&replayed).as_str()), (401, "signature_refused"));
    let stranger = signed(&stranger.secret, &[], "");
    assert_eq!(send_signed(&url, &stranger).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_signed_condition_is_part_of_what_was_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let signer = token("shop", "mail:register", true);
    std::fs::write(&file, &signer.line).unwrap();
    let url = start(Some(&file)).await;
    for condition in [("if-match", "\"7\""), ("if-none-match", "*"), ("idempotency-key", "1")] {
        let request = signed(&signer.secret, &[condition, ("content-type", "application/json")], "hello");
        let mut stripped = request.clone();
        stripped.headers_mut().remove(condition.0);
        let mut changed = request.clone();
        changed.headers_mut().insert(condition.0, "\"8\"".parse().unwrap());
        for other in [stripped, changed] {
            let answer = send_signed(&url, &other).await;
            assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (401, "signature_refused"), "{condition:?}");
        }
        assert_eq!(send_signed(&url, &request).await.status, StatusCode::OK, "{condition:?}");
    }
    let mut added = signed(&signer.secret, &[], "hello");
    added.headers_mut().insert("if-match", "\"7\"".parse().unwrap());
    let answer = send_signed(&url, &added).await;
    assert!(answer.status == 401 && answer.text.contains("it must cover"), "{}", answer.text);
}

#[tokio::test]
async fn the_older_form_counts_without_conditions_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let signer = token("shop", "mail:register", true);
    std::fs::write(&file, &signer.line).unwrap();
    let url = start(Some(&file)).await;
    let plain = signed_of_old(&signer.secret, &[], "hello");
    assert_eq!(send_signed(&url, &plain).await.text, "shop hello");
    assert_eq!(send_signed(&url, &plain).await.status, StatusCode::UNAUTHORIZED, "a replay");
    let conditional = signed_of_old(&signer.secret, &[("if-match", "\"7\"")], "hello");
    let refused = send_signed(&url, &conditional).await;
    assert!(refused.status == 401 && refused.text.contains("covers no conditions"), "{}", refused.text);
    let mut stripped = conditional;
    stripped.headers_mut().remove("if-match");
    assert_eq!(send_signed(&url, &stripped).await.status, StatusCode::UNAUTHORIZED, "its nonce is spent");
}

#[tokio::test]
async fn a_new_file_counts_without_a_restart_and_a_broken_one_keeps_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let old = token("old", "mail:register", false);
    let new = token("new", "mail:register", false);
    std::fs::write(&file, &old.line).unwrap();
    let url = start(Some(&file)).await;
    let status = async |token: &NewToken| send(&url, Some(&format!("Bearer {}", token.secret)), "").await.status;
    assert_eq!((status(&old).await.as_u16(), status(&new).await.as_u16()), (200, 401));
    std::fs::write(&file, &new.line).unwrap();
    let reached = async {
        while status(&new).await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the new file counts");
    assert_eq!(status(&old).await.as_u16(), 401, "and what it no longer has is withdrawn");
    std::fs::write(&file, "nonsense").unwrap();
    tokio::time::sleep(service_kit::reload::INTERVAL + Duration::from_millis(500)).await;
    assert_eq!(status(&new).await.as_u16(), 200);
}
