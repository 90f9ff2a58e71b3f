//! A registry in this process, and questions to it and to its etcd.

use std::{collections::BTreeMap, time::Duration};

use crate::stream::EventStream;
use clap::Parser;
use discovery_etcd::{Etcd, EtcdOptions};
use registry::{config::Config, dns::DnsListen};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_for, wait_for_eq, wait_until},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A registry on a port of its own. Dropping it ends it.
pub(crate) struct Registry {
    pub(crate) url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), service_kit::service::Failure>>,
}

/// What a registry answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Registry {
    /// A heartbeat that is taken. One that is answered with 503 is sent again, as any sender would: on a busy machine etcd may
    /// need longer than a registry waits.
    pub(crate) async fn beat(&self, key: &str, body: &str) -> Value {
        let taken = wait_for("a heartbeat that is taken", SOON, async || {
            let answer = self.heartbeat(key, body).await;
            (answer.status != 503).then_some(answer)
        });
        taken.await.accepted()
    }

    /// [`Registry::ask`], again while the answer is 503, as any client would.
    pub(crate) async fn ask_until_answered(&self, method: Method, path: &str, body: &str) -> Answer {
        let answered = wait_for("an answer other than 503", SOON, async || {
            let answer = self.ask(method.clone(), path, body.to_owned()).await;
            (answer.status != 503).then_some(answer)
        });
        answered.await
    }

    /// Starts one and waits until it is ready.
    pub(crate) async fn start(etcd: &EtcdCluster) -> Self {
        Self::start_with(etcd, |_| {}).await
    }

    /// [`Registry::start`], configured otherwise.
    pub(crate) async fn start_with(etcd: &EtcdCluster, configure: impl FnOnce(&mut Config)) -> Self {
        let registry = Self::launch(etcd.endpoints(), configure).await;
        registry.wait_until_ready().await;
        registry
    }

    /// Starts one for an etcd that is not there.
    pub(crate) async fn without_etcd() -> Self {
        Self::launch(vec![format!("http://127.0.0.1:{}", free_ports(1)[0])], |_| {}).await
    }

    /// Starts one and waits for nothing.
    pub(crate) async fn launch(endpoints: Vec<String>, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::try_parse_from(["registry"]).unwrap();
        // More patience than by default: etcd shares this machine with other tests.
        config.etcd = EtcdOptions {
            etcd_timeout: Duration::from_millis(500),
            etcd_deadline: Duration::from_millis(1500),
            ..EtcdOptions::at(endpoints)
        };
        config.dns_listen = DnsListen::Off;
        configure(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(registry::run_on(listener, config, shutdown.clone()));
        Self { url, http: reqwest::Client::builder().no_proxy().build().unwrap(), shutdown, task }
    }

    pub(crate) async fn wait_until_ready(&self) {
        wait_until("the registry is ready", SOON, async || self.get("/readyz").await.status == 200).await;
    }

    /// Ends it in order, as SIGTERM does.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, &mut self.task).await.expect("it ends soon").unwrap().unwrap();
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.ask_within(SOON, method, path, None, body).await
    }

    /// [`Registry::ask`] with one header field more.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        self.ask_within(SOON, method, path, header, body).await
    }

    /// Sends a request as it is, with all its fields.
    pub(crate) async fn send(&self, request: &axum::http::Request<String>) -> Answer {
        let fields = request.headers().clone();
        let builder = self.http.request(request.method().clone(), format!("{}{}", self.url, request.uri()));
        self.answer(SOON, builder.headers(fields).body(request.body().clone())).await
    }

    /// [`Registry::ask_with`] more, or less, patience.
    pub(crate) async fn ask_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.answer(limit, request).await
    }

    async fn answer(&self, limit: Duration, request: reqwest::RequestBuilder) -> Answer {
        let response = tokio::time::timeout(limit, request.send()).await.expect("no request hangs").unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Answer { status, headers, body }
    }

    /// [`Registry::ask`] for a path that a client would tidy up before sending it.
    pub(crate) async fn ask_unchanged(&self, method: &Method, path: &str, body: &str) -> Answer {
        self.ask_raw(&format!("{method} {path} HTTP/1.1"), body).await
    }

    /// Asks with a request line, and perhaps header fields, as they are.
    pub(crate) async fn ask_raw(&self, start: &str, body: &str) -> Answer {
        let authority = self.url.strip_prefix("http://").unwrap();
        let length = body.len();
        let head = format!("{start}\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {length}");
        let answer = exchange(authority, format!("{head}\r\n\r\n{body}").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a complete answer");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).expect("a status line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer { status, headers, body: serde_json::from_str(body).unwrap_or_else(|_| body.into()) }
    }

    /// Follows a service as an event stream.
    pub(crate) async fn follow(&self, service: &str, last_event_id: Option<&str>) -> EventStream {
        let mut request = self.http.get(format!("{}/v1/watch?service={service}", self.url));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        EventStream::new(tokio::time::timeout(SOON, request.send()).await.expect("no request hangs").unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, "").await
    }

    /// A heartbeat in the full form: `mail/a`, `{"address":"10.0.0.5:7070"}`.
    pub(crate) async fn heartbeat(&self, key: &str, body: &str) -> Answer {
        self.ask(Method::PUT, &instance_path(key), body.to_owned()).await
    }

    /// The instances of a service by their ids.
    pub(crate) async fn instances(&self, service: &str) -> BTreeMap<String, Value> {
        let answer = self.get(&format!("/v1/services/{service}/instances")).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let instances = answer.body["instances"].as_array().expect("a list").clone();
        instances.into_iter().map(|one| (one["id"].as_str().unwrap_or_default().to_owned(), one)).collect()
    }

    /// Waits until the mirror has (or no longer has) the instance.
    pub(crate) async fn wait_for_instance(&self, service: &str, id: &str, is_there: bool) {
        wait_until(&format!("{service}/{id} listed: {is_there}"), SOON, async || {
            self.instances(service).await.contains_key(id) == is_there
        })
        .await;
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Answer {
    /// The answer was 200.
    #[track_caller]
    pub(crate) fn accepted(self) -> Value {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.body
    }

    /// The `code` of a problem.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The field that a problem names.
    pub(crate) fn field(&self) -> &str {
        self.body["errors"][0]["field"].as_str().unwrap_or_default()
    }
}

/// Sends bytes as they are, and reads until the other end closes; empty when it closed at once.
pub(crate) async fn exchange(authority: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let mut answer = Vec::new();
    let exchanged = tokio::time::timeout(SOON, async {
        // Whoever refuses early may close while we still write.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut answer).await;
    });
    exchanged.await.expect("every request is answered or refused");
    String::from_utf8_lossy(&answer).into_owned()
}

/// `mail/a` → `/v1/services/mail/instances/a`
pub(crate) fn instance_path(key: &str) -> String {
    let (service, instance) = key.split_once('/').unwrap();
    format!("/v1/services/{service}/instances/{instance}")
}

/// Every key in etcd.
pub(crate) fn keys(etcd: &EtcdCluster) -> Vec<String> {
    let listed = etcd.etcdctl(&["get", "", "--prefix", "--keys-only"]);
    listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The value of a key; `None` when it is not there.
pub(crate) fn value(etcd: &EtcdCluster, key: &str) -> Option<String> {
    let printed = etcd.etcdctl(&["get", key, "--print-value-only"]);
    printed.strip_suffix('\n').map(str::to_owned)
}

/// The leases in etcd, in hexadecimal.
pub(crate) fn leases(etcd: &EtcdCluster) -> Vec<String> {
    let listed = etcd.etcdctl(&["lease", "list"]);
    let mut leases: Vec<String> = listed.lines().skip(1).map(|line| format!("{:0>16}", line.trim())).collect();
    leases.sort();
    leases
}

/// Waits until etcd has so many leases: those that were not needed are revoked in the background.
pub(crate) async fn wait_for_leases(etcd: &EtcdCluster, count: usize) {
    wait_for_eq("the number of leases", SOON, count, async || leases(etcd).len()).await;
}

/// The length of etcd's raft log, once it is settled: a young cluster writes its own version into it.
pub(crate) async fn raft_index(etcd: &EtcdCluster) -> u64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let client = Etcd::new(&EtcdOptions::at(etcd.endpoints())).unwrap();
    wait_for("etcd has settled on a version", SOON, async || {
        let answer = http.get(format!("{}/version", etcd.endpoint(0))).send().await.ok()?;
        let version: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        let minor = |field: &str| version[field].as_str()?.rsplit_once('.').map(|(minor, _)| minor.to_owned());
        (minor("etcdserver")? == minor("etcdcluster")?).then_some(())
    })
    .await;
    let members = etcd.endpoints().len();
    wait_for("every member tells its raft index", SOON, async || {
        let status = client.status().await;
        (status.reachable().count() == members).then(|| status.raft_index()).flatten()
    })
    .await
}

/// One metric of a registry.
pub(crate) async fn metric(registry: &Registry, name: &str) -> f64 {
    let text = registry.get("/metrics").await.body.as_str().expect("text").to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}
