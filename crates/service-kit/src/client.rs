//! A small HTTP/1.1 client, plain or over TLS: what heartbeats and alerts are sent with.
//!
//! It follows no redirects, knows no proxies and no cookies: it asks whom it was told to ask. Connections are kept for
//! [`IDLE_MAX`]. Every request has a deadline for all of it, and an answer is read up to a bound. The files with certificates
//! are read again for every connection over TLS, so that renewed ones count from then on; a version that cannot be used
//! changes nothing, and one warning says why.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Request, StatusCode, Uri},
};
use http_body_util::{BodyExt as _, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
};

use crate::tls;

/// How long a connection waits for its next request: shorter than the 30 s of our servers, so that we close it.
pub const IDLE_MAX: Duration = Duration::from_secs(20);

/// Whom to trust, and what to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// Trust these authorities (PEM) only; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain to show and its private key, both in PEM, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Says why nothing is sent to an address; it completes the sentence "10.0.0.5 …".
pub type AddressCheck = fn(IpAddr) -> Result<(), &'static str>;

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
    Connect(#[source] legacy::Error),
    /// The connection broke, or what came is no HTTP. The request may have been taken.
    #[error("the exchange broke off")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The deadline passed. The request may have been taken.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// A file for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {reason}", .path.display())]
pub struct ClientTlsError {
    /// Which one.
    pub path: PathBuf,
    /// Why not.
    pub reason: String,
}

/// The configuration made of the files as they were last. Also for clients of other protocols than HTTP.
#[derive(Debug)]
pub struct Renewing {
    tls: ClientTls,
    state: Mutex<Made>,
}

#[derive(Debug)]
struct Made {
    contents: Vec<Option<Vec<u8>>>,
    config: Arc<ClientConfig>,
    complaint: Option<String>,
}

// === impl Renewing ===

impl Renewing {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(tls: &ClientTls) -> Result<Self, ClientTlsError> {
        // First of all, so that a change in between is seen as one.
        let contents = tls.contents();
        let made = Made { contents, config: Arc::new(tls.config()?), complaint: None };
        Ok(Self { tls: tls.clone(), state: Mutex::new(made) })
    }

    /// For the next connection: of the files as they are now, or as they were when they could last be used.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut made = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = self.tls.contents();
        if contents != made.contents {
            match self.tls.config() {
                Ok(config) => {
                    *made = Made { contents, config: Arc::new(config), complaint: None };
                    tracing::info!("certificates for connections have changed and are read again");
                }
                Err(error) if made.complaint.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(%error, "certificates have changed and cannot be used; the previous ones stay in use");
                    made.complaint = Some(error.to_string());
                }
                Err(_) => {}
            }
        }
        Arc::clone(&made.config)
    }
}

// === impl ClientTls ===

impl ClientTls {
    /// What is in the files; `None` for one that cannot be read now.
    fn contents(&self) -> Vec<Option<Vec<u8>>> {
        let identity = self.identity.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca_file.iter().chain(identity).map(|path| std::fs::read(path).ok()).collect()
    }

    fn config(&self) -> Result<ClientConfig, ClientTlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| refused(path, error.to_string()));
        let roots = match &self.ca_file {
            Some(path) => tls::authorities(&read(path)?).map_err(|reason| refused(path, reason))?,
            None => system_authorities(),
        };
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(roots);
        let Some((cert, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = tls::certificates(&read(cert)?).map_err(|reason| refused(cert, reason))?;
        let private = tls::private_key(&read(key)?).map_err(|reason| refused(key, reason))?;
        builder.with_client_auth_cert(chain, private).map_err(|error| refused(cert, error.to_string()))
    }
}

fn refused(path: &Path, reason: String) -> ClientTlsError {
    ClientTlsError { path: path.to_path_buf(), reason }
}

/// Whatever of the system's store makes sense.
fn system_authorities() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

// === impl HttpClient ===

impl HttpClient {
    /// For plain HTTP only.
    #[must_use]
    pub fn plain() -> Self {
        Self::with(None, None)
    }

    /// For plain HTTP, and for https with `tls`.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn new(tls: &ClientTls) -> Result<Self, ClientTlsError> {
        Renewing::new(tls).map(|tls| Self::with(Some(Arc::new(tls)), None))
    }

    /// As [`new`](Self::new), with connections only to addresses that pass `check`, whatever name they have.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn checked(tls: &ClientTls, check: AddressCheck) -> Result<Self, ClientTlsError> {
        Renewing::new(tls).map(|tls| Self::with(Some(Arc::new(tls)), Some(check)))
    }

    fn with(tls: Option<Arc<Renewing>>, check: Option<AddressCheck>) -> Self {
        let connector = Connector { tls, check };
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { inner }
    }

    /// Sends a request and reads the whole answer within `deadline`, its body up to `max_bytes`; the rest is left.
    ///
    /// # Errors
    /// There is none; see [`ClientError::is_connect`] for whether the request may have been taken.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<Answer, ClientError> {
        let exchange = async {
            let response =
                self.inner.request(request.map(Full::new)).await.map_err(|error| match error.is_connect() {
                    true => ClientError::Connect(error),
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
        tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(ClientError::TimedOut(deadline)))
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

/// Opens connections.
#[derive(Clone)]
struct Connector {
    /// `None`: for plain HTTP only.
    tls: Option<Arc<Renewing>>,
    check: Option<AddressCheck>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (tls, check) = (self.tls.clone(), self.check);
        Box::pin(async move {
            let is_tls = uri.scheme_str() == Some("https");
            let host = uri.host().ok_or_else(|| io::Error::other("the URL has no host"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
            let tcp = match check {
                None => TcpStream::connect((host.as_str(), port)).await?,
                Some(check) => TcpStream::connect(&*allowed(&host, port, check).await?).await?,
            };
            tcp.set_nodelay(true)?;
            if !is_tls {
                return Ok(Stream(Box::pin(TokioIo::new(tcp))));
            }
            let tls = tls.ok_or_else(|| io::Error::other("https is not configured here"))?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let tls = TlsConnector::from(tls.config());
            Ok(Stream(Box::pin(TokioIo::new(tls.connect(name, tcp).await?))))
        })
    }
}

/// The addresses of `host` that pass `check`; at least one.
async fn allowed(host: &str, port: u16, check: AddressCheck) -> io::Result<Vec<SocketAddr>> {
    let (mut allowed, mut reason) = (Vec::new(), None);
    for address in lookup_host((host, port)).await? {
        match check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(why) => reason = Some(format!("its address {why}")),
        }
    }
    match (allowed.is_empty(), reason) {
        (true, reason) => Err(io::Error::other(reason.unwrap_or_else(|| "it has no address".to_owned()))),
        (false, _) => Ok(allowed),
    }
}

trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// A connection of either kind.
struct Stream(Pin<Box<dyn Duplex>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_whose_addresses_are_all_refused_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = move || Request::get(format!("http://localhost:{port}/")).body(Bytes::new()).unwrap();
        let refused = HttpClient::checked(&ClientTls::default(), |_| Err("is never used")).unwrap();
        let error = refused.send(request(), Duration::from_secs(5), 0).await.unwrap_err();
        assert!(error.is_connect() && crate::chain(&error).to_string().contains("is never used"), "{error:?}");
        let client = HttpClient::checked(&ClientTls::default(), |_| Ok(())).unwrap();
        let asking = tokio::spawn(async move { client.send(request(), Duration::from_secs(5), 0).await });
        assert!(listener.accept().await.is_ok(), "one that passes is connected to");
        asking.abort();
    }
}
