//! The HTTP client of this workspace, plain or over TLS: heartbeats, alerts, webhooks, probes and the command line send
//! with it.
//!
//! It is HTTP/1.1 by hyper, follows no redirects, knows no proxies and no cookies: a request goes where its URL says,
//! or nowhere. Connections are kept for [`IDLE_MAX`], if at all. Every request has a deadline for all of it, and an
//! answer is read up to a bound. The files with certificates are read again for every connection over TLS, so that
//! renewed ones count from then on; a version that cannot be used changes nothing, and one warning says why. Why not
//! reqwest: `doc/decisions/0014-one-http-client.md`.

mod connector;
mod tls;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use url::Url;

pub use self::{
    connector::{AddressCheck, CONNECT_MAX, Connector},
    tls::{ClientTls, ClientTlsError, Renewing},
};
use crate::names::Names;

/// How long a connection waits for its next request: shorter than the 30 s of our servers, so that we close it.
pub const IDLE_MAX: Duration = Duration::from_secs(20);

/// Sends requests. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    inner: legacy::Client<Connector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, up to the bound.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection, so nothing was sent.
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke, or what came is no HTTP. The request may have been taken.
    #[error("the exchange broke off")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The deadline passed. The request may have been taken.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

// === impl HttpClient ===

impl HttpClient {
    /// For plain HTTP only.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(Connector::new(None, None), usize::MAX)
    }

    /// For probes over plain HTTP: every request has a connection of its own, which is closed behind it.
    #[must_use]
    pub fn probe() -> Self {
        Self::with(Connector::new(None, None), 0)
    }

    /// The same, with host names resolved by `names`.
    #[must_use]
    pub fn probe_by(names: &Names) -> Self {
        Self::with(Connector::new(None, None).resolved_by(names), 0)
    }

    /// For plain HTTP, and for https with `tls`.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(tls: &ClientTls) -> Result<Self, ClientTlsError> {
        Self::over_tls(tls, None)
    }

    /// As [`new`](Self::new), with connections only to addresses that pass `check`, whatever name they have.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn checked(tls: &ClientTls, check: AddressCheck) -> Result<Self, ClientTlsError> {
        Self::over_tls(tls, Some(check))
    }

    /// As [`new`](Self::new), with host names resolved by `names`, and a connection of its own for every request.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn resolved_by(tls: &ClientTls, names: &Names) -> Result<Self, ClientTlsError> {
        let tls = Arc::new(Renewing::new(tls)?);
        Ok(Self::with(Connector::new(Some(tls), None).resolved_by(names), 0))
    }

    fn over_tls(tls: &ClientTls, check: Option<AddressCheck>) -> Result<Self, ClientTlsError> {
        let tls = Arc::new(Renewing::new(tls)?);
        Ok(Self::with(Connector::new(Some(tls), check), usize::MAX))
    }

    fn with(connector: Connector, kept_max: usize) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(kept_max)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { inner }
    }

    /// Sends a request and reads the whole answer within `deadline`, its body up to `max_bytes`; the rest is left.
    ///
    /// # Errors
    /// There is none; see [`ClientError::is_connect`] for whether the request may have been taken.
    ///
    /// Boxed, so that the client is compiled here and not once more in every crate that waits for an answer.
    pub fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Answer, ClientError>> {
        let exchange = async move {
            let response =
                self.inner.request(request.map(Full::new)).await.map_err(|error| match error.is_connect() {
                    true => ClientError::Connect(error.into()),
                    false => ClientError::Exchange(error.into()),
                })?;
            let (head, mut incoming) = response.into_parts();
            let mut body = Vec::new();
            while body.len() < max_bytes
                && let Some(frame) = incoming.frame().await
            {
                let frame = frame.map_err(|error| ClientError::Exchange(error.into()))?;
                let data = frame.into_data().unwrap_or_default();
                body.extend_from_slice(&data[..data.len().min(max_bytes - body.len())]);
            }
            Ok(Answer { status: head.status, headers: head.headers, body: body.into() })
        };
        Box::pin(async move {
            tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(ClientError::TimedOut(deadline)))
        })
    }
}

// === impl Answer ===

impl Answer {
    /// Reads the body as JSON, whatever its content type.
    ///
    /// # Errors
    /// It is none, or was cut off at the bound.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }

    /// The body as text, whatever its content type.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

// === impl ClientError ===

impl ClientError {
    /// Whether nothing was sent.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Connect(_))
    }
}

/// Begins a request. A user and a password in the URL become `Authorization: Basic` (RFC 7617).
pub fn request(method: Method, url: &Url) -> request::Builder {
    let builder = Request::builder().method(method).uri(url.as_str());
    if url.username().is_empty() && url.password().is_none() {
        return builder;
    }
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let pair = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
    let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
    let mut value = value.expect("Base64 is ASCII");
    value.set_sensitive(true);
    builder.header(header::AUTHORIZATION, value)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn get(url: String) -> Request<Bytes> {
        Request::get(url).body(Bytes::new()).unwrap()
    }

    #[tokio::test]
    async fn a_name_and_an_address_that_are_refused_are_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let refusing = HttpClient::checked(&ClientTls::default(), |_| Err("is never used")).unwrap();
        for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"] {
            for scheme in ["http", "https"] {
                let error = refusing.send(get(format!("{scheme}://{host}:{port}/")), DEADLINE, 0).await.unwrap_err();
                let chain = crate::chain(&error).to_string();
                assert!(error.is_connect() && chain.contains("is never used"), "{scheme} {host}: {chain}");
            }
        }
        let client = HttpClient::checked(&ClientTls::default(), |_| Ok(())).unwrap();
        let asking =
            tokio::spawn(async move { client.send(get(format!("http://localhost:{port}/")), DEADLINE, 0).await });
        assert!(listener.accept().await.is_ok(), "one that passes is connected to");
        asking.abort();
    }

    #[tokio::test]
    async fn a_name_is_resolved_by_the_resolver_that_is_given() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nothing listens there; the names of /etc/hosts need no name server.
        let names = Names::new(vec!["127.0.0.1:1".parse().unwrap()]);
        let client = HttpClient::resolved_by(&ClientTls::default(), &names).unwrap();
        let unknown = client.send(get(format!("http://a.name.test:{port}/")), DEADLINE, 0).await.unwrap_err();
        let chain = crate::chain(&unknown).to_string();
        assert!(unknown.is_connect() && chain.contains("cannot be resolved for now"), "{chain}");
        let asking =
            tokio::spawn(async move { client.send(get(format!("http://localhost:{port}/")), DEADLINE, 0).await });
        assert!(listener.accept().await.is_ok());
        asking.abort();
    }

    #[tokio::test]
    async fn https_without_certificates_is_an_error_before_anything_is_sent() {
        let error = HttpClient::plain().send(get("https://127.0.0.1:1/".to_owned()), DEADLINE, 0).await.unwrap_err();
        assert!(error.is_connect() && crate::chain(&error).to_string().contains("https is not configured here"));
    }

    #[tokio::test]
    async fn an_answer_ends_at_the_deadline_or_at_the_bound() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = HttpClient::probe();
        let silent = client.send(get(url.clone()), Duration::from_millis(50), 10).await.unwrap_err();
        assert!(matches!(silent, ClientError::TimedOut(_)), "it accepts and never answers: {silent:?}");
        let (mut first, _) = listener.accept().await.unwrap();
        let answering = tokio::spawn(async move { client.send(get(url), DEADLINE, 10).await });
        let (mut second, _) = listener.accept().await.unwrap();
        let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n".to_owned() + &"x".repeat(32);
        second.write_all(endless.as_bytes()).await.unwrap();
        assert_eq!(answering.await.unwrap().unwrap().body, "xxxxxxxxxx");
        for stream in [&mut first, &mut second] {
            let mut rest = Vec::new();
            tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("the connection is closed").ok();
        }
    }

    #[test]
    fn a_user_and_a_password_of_the_url_are_sent_as_credentials() {
        let authorization = |url: &str| {
            let request = request(Method::GET, &url.parse().unwrap()).body(()).unwrap();
            let value = request.headers().get(header::AUTHORIZATION);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        // RFC 7617, section 2.
        let expected = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!(authorization("http://Aladdin:open%20sesame@127.0.0.1/"), expected);
        assert_eq!(authorization("http://127.0.0.1/"), None);
    }
}
