//! What a web page may make a browser send here.
//!
//! A page from anywhere can have its reader's browser send requests to whatever the browser reaches: a service on the
//! reader's own machine, or behind their firewall. Two refusals keep such pages out; programs (curl, other services)
//! send nothing that either of them looks for.
//!
//! | what came | status | code |
//! |---|---|---|
//! | a request that changes something, from a page of another site | 403 | `cross_site` |
//! | a request for a host name that is none of ours | 403 | `host_not_allowed` |
//!
//! *Another site* (cross-site request forgery): a browser says where a request comes from, in `Sec-Fetch-Site` (Fetch
//! Metadata; only towards https and loopback) and in `Origin` (Fetch, section 3.2), and no script can change either.
//! Pages behind the same gateway have the same origin, whatever their prefix. GET, HEAD and OPTIONS pass: they change
//! nothing, and what they answer is kept from pages of other origins by the browser.
//!
//! *A host name of ours* (DNS rebinding): a page of `evil.example` whose name server says after a while that
//! `evil.example` is 127.0.0.1 has the same origin as what answers there, and may read and send everything. What it
//! cannot change is `Host`. So a request that comes in over loopback must name an IP address, `localhost`, a name that
//! `/etc/hosts` gives to this machine's loopback, the name that is announced, or one of
//! [`allowed_hosts`](BrowserOptions::allowed_hosts). With such names configured, this holds on every address.
//!
//! *Behind a gateway*, `Host` is what the user asked the gateway for, and may be any public name. A request that a
//! proxy has forwarded (`Via`, which no script can send) is judged only when its client was on this machine itself, as
//! `X-Forwarded-For` says: then the browser in question is the one here.

mod host_name;
mod names;
mod origin;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{
        HeaderMap, HeaderName, Method, StatusCode,
        header::{HOST, ORIGIN, VIA},
    },
};

pub use self::host_name::HostName;
use self::{names::Names, origin::Authority};
use crate::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is configured about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct BrowserOptions {
    /// Host names by which this service may be asked for, and whose pages may change something here, separated by
    /// commas; `*` for any. Default: over loopback the names of this machine, elsewhere any name, and no page of
    /// another site.
    #[arg(long, env = "ALLOWED_HOSTS", value_name = "NAMES", value_delimiter = ',')]
    pub allowed_hosts: Vec<HostName>,
}

/// The local address of the connection that a request came over, as an extension of the request.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddr(pub SocketAddr);

/// Judges requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Names,
    /// Patterns of routes that pages of other sites may change something at.
    open: Vec<&'static str>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    /// It comes from a page of this origin, as far as that is known.
    CrossSite(Option<String>),
    /// It asks for this host.
    Host(String),
}

// === impl Guard ===

impl Guard {
    /// By configuration. `announced` is the host name by which others are told to reach this service, if it has one.
    #[must_use]
    pub fn new(options: &BrowserOptions, announced: Option<&str>) -> Self {
        Self(Arc::new(Inner { names: Names::new(&options.allowed_hosts, announced), open: Vec::new() }))
    }

    /// Lets pages of any site change something at these routes, because their paths prove who asks.
    #[must_use]
    pub fn open_to_pages(self, routes: &[&'static str]) -> Self {
        let Inner { names, .. } = &*self.0;
        Self(Arc::new(Inner { names: names.clone(), open: routes.to_vec() }))
    }

    /// Lets `request` pass unless another site's page makes a browser send it.
    ///
    /// # Errors
    ///
    /// 403 `cross_site`, `host_not_allowed`.
    pub fn judge(&self, request: &Request) -> Result<(), Problem> {
        self.check(request).map_err(|refusal| {
            tracing::debug!(?refusal, "refused a cross-site request");
            refusal.into()
        })
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let host = request.uri().authority().map(|authority| authority.as_str()).or_else(|| text(headers, &HOST));
        if let Some(host) = host.filter(|_| self.judges_host(request)) {
            let name = Authority::of(host).host;
            if !self.0.names.are_ours(name) {
                return Err(Refusal::Host(name.to_owned()));
            }
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) || self.is_open(request) {
            return Ok(());
        }
        self.check_origin(headers, host)
    }

    /// Whether a page with a name that is not ours could be behind this request.
    fn judges_host(&self, request: &Request) -> bool {
        let local = request.extensions().get::<LocalAddr>();
        let is_local = local.is_some_and(|LocalAddr(local)| local.ip().to_canonical().is_loopback());
        let is_through_gateway = || request.headers().contains_key(VIA) && !is_client_local(request.headers());
        self.0.names.are_configured() || is_local && !is_through_gateway()
    }

    fn is_open(&self, request: &Request) -> bool {
        let route = request.extensions().get::<MatchedPath>();
        route.is_some_and(|route| self.0.open.contains(&route.as_str()))
    }

    fn check_origin(&self, headers: &HeaderMap, host: Option<&str>) -> Result<(), Refusal> {
        let site = text(headers, &SEC_FETCH_SITE);
        let origin = headers.get(ORIGIN);
        let origin = origin.map(|origin| origin.to_str().unwrap_or("null"));
        let is_same = match (site, origin) {
            (Some("same-origin" | "none"), _) | (None, None) => true,
            (Some(_), _) => false,
            (None, Some(origin)) => self.is_same_origin(headers, origin, host),
        };
        let is_allowed = || origin.and_then(Authority::of_origin).is_some_and(|page| self.0.names.admit(page.host));
        if is_same || is_allowed() { Ok(()) } else { Err(Refusal::CrossSite(origin.map(str::to_owned))) }
    }

    /// Whether a page of `origin` has asked for its own host; behind a proxy, for the one that the proxy was asked for.
    fn is_same_origin(&self, headers: &HeaderMap, origin: &str, host: Option<&str>) -> bool {
        let Some(page) = Authority::of_origin(origin) else { return false };
        let asked_of_proxy = text(headers, &X_FORWARDED_HOST).filter(|_| headers.contains_key(VIA));
        host.into_iter().chain(asked_of_proxy).any(|host| page.is(host))
    }
}

/// Whether a proxy's client was on this machine.
fn is_client_local(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().map(|line| line.to_str().unwrap_or_default());
    let mut clients = lines.flat_map(|line| line.split(',')).map(|client| client.trim().parse::<IpAddr>()).peekable();
    clients.peek().is_some() && clients.all(|client| client.is_ok_and(|ip| ip.to_canonical().is_loopback()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = match refusal {
            Refusal::CrossSite(origin) => {
                let from = origin.map_or_else(|| "another site".to_owned(), |origin| format!("the origin {origin}"));
                let detail = format!(
                    "the request comes from a page of {from}; if that page may change something here, name its host with \
                     --allowed-hosts (ALLOWED_HOSTS)"
                );
                ("cross_site", detail)
            }
            Refusal::Host(host) => {
                let detail = format!(
                    "{host:?} is not a name of this service; ask by an IP address or localhost, or allow the name with \
                     --allowed-hosts (ALLOWED_HOSTS)"
                );
                ("host_not_allowed", detail)
            }
        };
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }
}

#[cfg(test)]
mod tests;
