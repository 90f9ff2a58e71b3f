//! The whole service in the test's own process, and a client.

use std::time::Duration;

use clap::Parser as _;
use reqwest::Method;
use serde_json::Value;
use testkit::wait::{SOON, wait_until};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use userlist::config::Config;

/// No program listens there.
pub(crate) const NO_REGISTRY: &str = "http://127.0.0.1:1";

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) client: Client,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// A client of one instance; every request is bounded, so that a hang is a failure.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    url: String,
    http: reqwest::Client,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: reqwest::header::HeaderMap,
}

// === impl Service ===

impl Service {
    /// Starts it, and does not wait for its database.
    pub(crate) async fn launch(database_url: &str, registry_url: &str) -> Self {
        Self::launch_with(database_url, registry_url, &[]).await
    }

    pub(crate) async fn launch_with(database_url: &str, registry_url: &str, more: &[&str]) -> Self {
        // Shown when the test fails.
        let log = service_kit::telemetry::init("info,userlist=debug", service_kit::telemetry::LogFormat::Text);
        let _writes_on_by_itself = log.unwrap();
        let args = ["userlist", "--database-url", database_url, "--registry", registry_url, "--let-go", "0s"];
        let config = Config::try_parse_from([&args, more].concat()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let running = userlist::run_on(listener, config, shutdown.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        Self { client, shutdown, task }
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(database_url: &str) -> Self {
        let service = Self::launch(database_url, NO_REGISTRY).await;
        service.client.wait_until_ready().await;
        service
    }

    /// Ends it in order.
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.task).await.expect("the service ends soon").unwrap();
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn new(url: String) -> Self {
        // Without a pool: a request to an instance that was killed must not fail for the connection's sake.
        let http = reqwest::Client::builder().timeout(Duration::from_secs(15)).pool_max_idle_per_host(0).build();
        Self { url, http: http.unwrap() }
    }

    /// A URL on this instance.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// `POST /` with a body.
    pub(crate) async fn plain(&self, body: &str) -> Reply {
        self.send(Method::POST, "/", body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Reply {
        self.try_send(method, path, body).await.expect("an answer")
    }

    pub(crate) async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Reply {
        self.try_send_with(method, path, headers, body).await.expect("an answer")
    }

    /// None when there is no answer.
    pub(crate) async fn try_send(&self, method: Method, path: &str, body: &str) -> Option<Reply> {
        self.try_send_with(method, path, &[], body.to_owned()).await
    }

    async fn try_send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Option<Reply> {
        let request = self.http.request(method, self.address(path)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = response.bytes().await.ok()?;
        Some(Reply { status, body: serde_json::from_slice(&body).unwrap_or(Value::Null), headers })
    }

    pub(crate) async fn wait_until_ready(&self) {
        let ready =
            || async { self.try_send(Method::GET, "/readyz", "").await.is_some_and(|reply| reply.status == 200) };
        wait_until("the service is ready", SOON, ready).await;
    }
}

// === impl Reply ===

impl Reply {
    /// The stable word of an error.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The fields that are wrong.
    pub(crate) fn fields(&self) -> Vec<&str> {
        self.body["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// That it is 503 with this code, and says when to come again.
    #[track_caller]
    pub(crate) fn assert_unavailable(&self, code: &str) {
        assert_eq!((self.status, self.code()), (503, code), "{:?}", self.body);
        let retry_after: u64 = self.header("retry-after").expect("Retry-After").parse().unwrap();
        assert!(retry_after >= 1);
    }
}
