//! Connections of the client: to an address that passes the check, plain or over TLS with the certificates as they are
//! now.

use std::{
    future, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use axum::http::{
    self, Uri,
    uri::{self, Scheme},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::rustls::ClientConfig;
use tower::Service;

use super::tls::{ClientTls, ClientTlsError, Renewing};
use crate::{names::Names, tls::HTTP2};

/// How long a TCP connection may take, for all addresses of a name together.
///
/// One lost packet is survived, which Linux repeats after 1 s. A name server and a handshake of TLS have the whole
/// deadline of the request.
pub const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Says why nothing is sent to an address; it completes the sentence "10.0.0.5 …".
pub type AddressCheck = fn(IpAddr) -> Result<(), &'static str>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Opens connections: a service for whatever speaks over them.
#[derive(Debug, Clone)]
pub struct Connector {
    tcp: HttpConnector<CheckedResolver>,
    /// `None`: for plain HTTP only.
    tls: Option<Arc<Renewing>>,
    check: Option<AddressCheck>,
    protocol: Protocol,
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    /// Over TLS where the URL says `https`.
    Http1,
    /// Over TLS if there is any, whatever the URL says.
    Http2,
}

/// The addresses of a name that pass the check; at least one.
#[derive(Debug, Clone)]
struct CheckedResolver {
    check: Option<AddressCheck>,
    /// Who resolves; `None`: the operating system.
    names: Option<Names>,
}

// === impl Connector ===

impl Connector {
    pub(super) fn new(tls: Option<Arc<Renewing>>, check: Option<AddressCheck>) -> Self {
        let tcp = connector(CheckedResolver { check, names: None });
        Self { tcp, tls, check, protocol: Protocol::Http1 }
    }

    /// The same, with host names resolved by `names` beside what connects: no thread is blocked for each, and the last
    /// good answer counts while name servers fail.
    #[must_use]
    pub fn resolved_by(self, names: &Names) -> Self {
        let resolver = CheckedResolver { check: self.check, names: Some(names.clone()) };
        Self { tcp: connector(resolver), ..self }
    }

    /// For clients that speak HTTP/2 alone, and leave TLS to this: with `tls` over TLS, otherwise plainly.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn http2(tls: Option<&ClientTls>) -> Result<Self, ClientTlsError> {
        let tls = tls.map(Renewing::new).transpose()?.map(Arc::new);
        Ok(Self { protocol: Protocol::Http2, ..Self::new(tls, None) })
    }

    /// The certificates as they are now.
    fn tls_config(&self, tls: &Renewing) -> Arc<ClientConfig> {
        let mut config = tls.config();
        if let Protocol::Http2 = self.protocol {
            Arc::make_mut(&mut config).alpn_protocols = vec![HTTP2.to_vec()];
        }
        config
    }

    /// Where to connect, with the scheme that tells TLS from none.
    fn target(&self, uri: Uri) -> Result<Uri, http::Error> {
        match self.protocol {
            Protocol::Http1 => Ok(uri),
            Protocol::Http2 => {
                let scheme = if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
                uri::Builder::from(uri).scheme(scheme).build()
            }
        }
    }
}

fn connector(resolver: CheckedResolver) -> HttpConnector<CheckedResolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    tcp
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // An IP address is not resolved, so it is checked here.
        let literal = uri.host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if let Some(Err(why)) = self.check.zip(literal).map(|(check, ip)| check(ip)) {
            return Box::pin(future::ready(Err(refused(why).into())));
        }
        let uri = match self.target(uri) {
            Ok(uri) => uri,
            Err(error) => return Box::pin(future::ready(Err(error.into()))),
        };
        let mut tcp = self.tcp.clone();
        match &self.tls {
            Some(tls) => Box::pin(HttpsConnector::from((tcp, self.tls_config(tls))).call(uri)),
            None if uri.scheme_str() == Some("https") => {
                Box::pin(future::ready(Err("https is not configured here".into())))
            }
            None => Box::pin(async move { Ok(MaybeHttpsStream::Http(tcp.call(uri).await?)) }),
        }
    }
}

// === impl CheckedResolver ===

impl Service<Name> for CheckedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let check = self.check.unwrap_or(|_| Ok(()));
        let names = self.names.clone();
        Box::pin(async move {
            let found = match &names {
                Some(names) => followed(names, name.as_str()).await?,
                None => lookup_host((name.as_str(), 0)).await?.collect(),
            };
            allowed(found, check).map(Vec::into_iter)
        })
    }
}

async fn followed(names: &Names, host: &str) -> io::Result<Vec<SocketAddr>> {
    let found = names.follow(host).addresses().await.map_err(io::Error::other)?;
    Ok(found.iter().map(|ip| SocketAddr::new(*ip, 0)).collect())
}

fn allowed(found: Vec<SocketAddr>, check: AddressCheck) -> io::Result<Vec<SocketAddr>> {
    let mut allowed = Vec::new();
    let mut reason = None;
    for address in found {
        match check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(why) => reason = Some(why),
        }
    }
    match (allowed.is_empty(), reason) {
        (false, _) => Ok(allowed),
        (true, Some(why)) => Err(refused(why)),
        (true, None) => Err(io::Error::other("it has no address")),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::other(format!("its address {why}"))
}
