//! The service inside the test's process, without its HTTP server and its heartbeat.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request},
};
use http_body_util::BodyExt as _;
use mail::{Service, config::Config, outbox::Outbox, transport::Transport};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use service_kit::config::ServiceConfig as _;
use tempfile::TempDir;
use testkit::{
    smtp_sink::SmtpSink,
    wait::{SOON, wait_for},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// Cheap to clone; all clones are one service.
#[derive(Clone)]
pub(crate) struct Mail {
    router: Router,
    pub(crate) transport: Arc<Transport>,
    pub(crate) outbox: Outbox,
    _dir: Arc<TempDir>,
    /// Ends the workers with the last clone.
    _working: Option<Arc<DropGuard>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Mail {
    /// A service that sends to `sink`, with a deadline that a hanging server reaches soon and a busy machine does not.
    pub(crate) fn over(sink: &SmtpSink, args: &[&str]) -> Self {
        let url = sink.url();
        Self::with(&[&["--smtp-url", &url, "--smtp-deadline", "30s"], args].concat(), false)
    }

    /// The same, with the workers of the outbox, and retries after a moment.
    pub(crate) fn working(sink: &SmtpSink, args: &[&str]) -> Self {
        let url = sink.url();
        let soon = ["--smtp-url", &url, "--smtp-deadline", "30s", "--retry-first", "50ms", "--retry-max", "200ms"];
        Self::with(&[&soon, args].concat(), true)
    }

    /// A service that writes files.
    pub(crate) fn into_folder(folder: &Path) -> Self {
        Self::with(&["--dir", folder.to_str().unwrap(), "--queue-wait", "60s", "--smtp-deadline", "60s"], true)
    }

    fn with(args: &[&str], works: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = format!("sqlite:{}", dir.path().join("outbox.db").display());
        let own = ["--open", "--outbox-url", &outbox, "--public-url", "https://mail.example/mail"];
        let own = [&own[..], &["--template-program", env!("CARGO_BIN_EXE_mail")]].concat();
        let args = [&own, args].concat();
        // Of two values for one option the test's own, which comes later, counts.
        let command = <Config as clap::CommandFactory>::command().args_override_self(true);
        let matches = command.try_get_matches_from([&["mail"], args.as_slice()].concat()).unwrap();
        let config = <Config as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        assert_eq!(config.mistakes(), Vec::<String>::new());
        let Service { transport, router, dispatcher, broadcaster, userlist_sync, webhook, outbox, .. } =
            Service::assemble(&config, Registry::default()).unwrap();
        let working = works.then(|| {
            let stop = CancellationToken::new();
            tokio::spawn(dispatcher.run(stop.clone()));
            tokio::spawn(broadcaster.run(stop.clone()));
            tokio::spawn(userlist_sync.run(stop.clone()));
            if let Some(webhook) = webhook {
                tokio::spawn(webhook.run(stop.clone()));
            }
            Arc::new(stop.drop_guard())
        });
        Self { router, transport, outbox, _dir: Arc::new(dir), _working: working }
    }

    /// `POST /` with an ordinary message.
    pub(crate) async fn send(&self) -> Answer {
        self.post(&json!({ "address": "a@b.c", "message": "hello" })).await
    }

    pub(crate) async fn post(&self, body: &Value) -> Answer {
        self.post_bytes(body.to_string()).await
    }

    pub(crate) async fn post_bytes(&self, body: impl Into<Body>) -> Answer {
        self.request(Request::post("/").body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// `POST /v1/messages`
    pub(crate) async fn submit(&self, body: &Value) -> Answer {
        self.request(Request::post("/v1/messages").body(body.to_string().into()).unwrap()).await
    }

    /// The same with an `Idempotency-Key`.
    pub(crate) async fn submit_as(&self, key: &str, body: &Value) -> Answer {
        self.post_as(key, "/v1/messages", body).await
    }

    /// `POST` with an `Idempotency-Key`.
    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("idempotency-key", key);
        self.request(request.body(body.to_string().into()).unwrap()).await
    }

    /// An ordinary message into the outbox; its id.
    pub(crate) async fn accepted(&self, to: &str) -> String {
        let answer = self.submit(&json!({ "to": to, "subject": to, "text": "hello" })).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the message is in this state; what is known of it.
    pub(crate) async fn until(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("{id} {state}"), SOON, || async {
            let message = self.get(&format!("/v1/messages/{id}")).await.body;
            (message["state"] == state).then_some(message)
        })
        .await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.request(Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Answer {
        let (status, headers, bytes) = self.bytes(request).await;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status, headers, body }
    }

    /// Status, header and body as they come.
    pub(crate) async fn bytes(&self, request: Request<Body>) -> (u16, HeaderMap, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }
}

impl Answer {
    /// The `code` of a problem, `success` of an accepted message.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().or(self.body["message"].as_str()).unwrap_or_default()
    }

    pub(crate) fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    /// The field that a problem blames.
    pub(crate) fn field(&self) -> &str {
        self.body["errors"][0]["field"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn assert(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{self:?}");
    }
}
