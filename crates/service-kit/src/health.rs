//! `/healthz` (the process is alive), `/readyz` (it can do its work, with reasons), `/metrics`.
//!
//! The two are different questions. A failing `/healthz` asks for a restart, so it depends on nothing but the process;
//! a failing `/readyz` asks for patience or for a look at a dependency.
//!
//! | every check | `/readyz` |
//! |---|---|
//! | passes | 200, `"status":"ready"` |
//! | passes or is degraded: a part of the work cannot be done | 200, `"status":"degraded"`, with the reason |
//! | one fails | 503, `"status":"not ready"`, with the reason |
//!
//! Degraded is 200 because a load balancer takes the service out of use otherwise, and with it what still works; all
//! its instances, if they need the same that is broken.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    sync::{Arc, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

use crate::{client::HttpClient, tls};

/// How long `--healthcheck` waits: for the connection, then for each answer.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

/// What a service depends on, and whether it has it. Cheap to clone; all clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<&'static str, Check>>>);

/// How one dependency is doing; the reasons are for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Passes,
    Degraded(String),
    Fails(String),
}

impl Readiness {
    /// No checks yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how the dependency `check` (`database`, `etcd`) is doing; the reason is for a person. Returns whether this
    /// changed from good to bad or back, which is the moment to log it.
    pub fn report(&self, check: &'static str, state: Result<(), String>) -> bool {
        self.enter(check, state.err().map_or(Check::Passes, Check::Fails))
    }

    /// Says whether a part of the work that needs `check` cannot be done now, and why; `None`: all of it can. Returns
    /// whether this changed.
    pub fn degrade(&self, check: &'static str, reason: Option<String>) -> bool {
        self.enter(check, reason.map_or(Check::Passes, Check::Degraded))
    }

    fn enter(&self, check: &'static str, state: Check) -> bool {
        let kind = std::mem::discriminant(&state);
        let mut checks = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        checks.insert(check, state).is_none_or(|before| std::mem::discriminant(&before) != kind)
    }

    /// The reasons why the service is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let checks = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failing = checks.iter().filter_map(|(name, check)| match check {
            Check::Fails(reason) => Some(format!("{name}: {reason}")),
            Check::Passes | Check::Degraded(_) => None,
        });
        failing.collect()
    }

    /// The reasons why a part of the work cannot be done; empty when all of it can.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        let checks = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let degraded = checks.iter().filter_map(|(name, check)| match check {
            Check::Degraded(reason) => Some(format!("{name}: {reason}")),
            Check::Passes | Check::Fails(_) => None,
        });
        degraded.collect()
    }

    /// Whether no check fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    fn to_json(&self) -> serde_json::Value {
        let checks = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let shown: BTreeMap<_, _> = checks.iter().map(|(name, check)| (*name, check.as_str())).collect();
        let status = match checks.values().map(Check::status).max() {
            None | Some(0) => "ready",
            Some(1) => "degraded",
            Some(_) => "not ready",
        };
        json!({ "status": status, "checks": shown })
    }
}

impl Check {
    fn as_str(&self) -> &str {
        match self {
            Self::Passes => "ok",
            Self::Degraded(reason) | Self::Fails(reason) => reason,
        }
    }

    /// The worst is the largest.
    fn status(&self) -> u8 {
        match self {
            Self::Passes => 0,
            Self::Degraded(_) => 1,
            Self::Fails(_) => 2,
        }
    }
}

/// The three routes.
pub fn routes(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "alive" }))))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness.to_json())).into_response()
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// `--healthcheck`: asks the service that listens at `address` on this host. For images that hold no shell and no curl.
#[must_use]
pub fn check(address: SocketAddr, is_tls: bool) -> ExitCode {
    let ask = if is_tls { greet } else { ask };
    match ask(reachable(address)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// A service that listens on every interface is asked over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CHECK_DEADLINE)?;
    stream.set_read_timeout(Some(CHECK_DEADLINE))?;
    stream.set_write_timeout(Some(CHECK_DEADLINE))?;
    Ok(stream)
}

/// Begins a TLS handshake. A service that answers with a record of its own (a hello, or an alert, because it wants a
/// certificate that we do not have) is alive; whose certificate it shows does not matter for that.
fn greet(address: SocketAddr) -> std::io::Result<bool> {
    const RECORDS: [u8; 2] = [21, 22];
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let mut hello = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    let mut stream = connect(address)?;
    while hello.wants_write() {
        hello.write_tls(&mut stream)?;
    }
    let mut record = [0];
    stream.read_exact(&mut record)?;
    Ok(RECORDS.contains(&record[0]))
}

fn ask(address: SocketAddr) -> std::io::Result<bool> {
    let request =
        Request::get(format!("http://{address}/healthz")).body(Bytes::new()).map_err(std::io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(HttpClient::probe().send(request, CHECK_DEADLINE, 0));
    Ok(answer.is_ok_and(|answer| answer.status == StatusCode::OK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_tells_when_a_check_changes_and_why() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        assert!(readiness.report("etcd", Err("no member answers".to_owned())));
        assert!(!readiness.report("etcd", Err("still none".to_owned())), "the same verdict again is not a change");
        assert_eq!(readiness.reasons(), ["etcd: still none"]);
        assert!(readiness.report("etcd", Ok(())));
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_degraded_service_is_ready_and_says_what_it_cannot_do() {
        let readiness = Readiness::new();
        readiness.report("etcd", Ok(()));
        assert!(readiness.degrade("writes", Some("etcd is full".to_owned())));
        assert!(!readiness.degrade("writes", Some("etcd is still full".to_owned())));
        assert!(readiness.is_ready());
        assert_eq!(readiness.degraded(), ["writes: etcd is still full"]);
        let shown = readiness.to_json();
        assert_eq!(
            (shown["status"].as_str(), shown["checks"]["writes"].as_str()),
            (Some("degraded"), Some("etcd is still full"))
        );
        readiness.report("etcd", Err("no member answers".to_owned()));
        assert_eq!(readiness.to_json()["status"], "not ready");
        assert!(readiness.degrade("writes", None));
    }

    #[test]
    fn a_service_on_every_interface_is_asked_over_loopback() {
        assert_eq!(reachable(([0, 0, 0, 0], 80).into()), ([127, 0, 0, 1], 80).into());
        assert_eq!(reachable(([10, 0, 0, 1], 80).into()), ([10, 0, 0, 1], 80).into());
    }
}
