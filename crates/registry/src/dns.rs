//! Who is there, in DNS: for everything that can resolve a name and knows nothing of registries.
//!
//! | name (below the domain `muster`) | answers |
//! |---|---|
//! | `mail.service.muster` | `A`, `AAAA`: the addresses of the passing instances; `SRV`: with their ports |
//! | `eu.mail.service.muster` | the same, of those with the tag `eu` |
//! | `_mail._tcp.service.muster` | `SRV`, as RFC 2782 writes it; `_mail._eu.service.muster`: of those with the tag `eu`, as Consul has it |
//! | `0a000005.addr.muster` | the address that the name spells: what a `SRV` record of an IP address points to |
//! | `muster` | `SOA`, `NS` |
//!
//! *No false NXDOMAIN.* Resolvers cache it and clients act on it, so an empty answer must be true: it is given only while
//! the catalog is fresh. Before anything has been read from etcd, and for whatever is not found while etcd is silent, the
//! answer is `SERVFAIL`, on which a resolver asks the next registry. What is known is told even then: the death of etcd
//! stops nobody. That an instance that is told has no IPv6 address is as well known as its IPv4 address: `NODATA`, because
//! musl's resolver takes neither when one of the two answers is `SERVFAIL`.
//!
//! *Host names.* The addresses of an instance that announced a name are told at the service's own name (`hosts`); an alias only
//! if it does not resolve here.
//!
//! *Time to live.* [`TTL_SECS`] is one second. A lease outlives its instance by seconds anyway, so a second more does
//! not matter, while it keeps a busy resolver to one question a second for each name. Zero would be legal, and is what
//! some caches mistreat. Negative answers live as long (RFC 2308).
//!
//! *Load.* Answers come in random order; `SRV` records carry the instance's weight (RFC 2782).
//!
//! *Rate limit.* A client that forges the address of a victim could have us send it long answers to short questions. So one client (an
//! IPv4 address, an IPv6 /64) gets `--dns-client-rate` answers a second over UDP, and for what is beyond that an empty one
//! with `TC`, no longer than the question: a real client comes again over TCP, where its address cannot be forged. It is
//! what BIND's response rate limiting calls to slip, without the drops. The table is bounded ([`Rates`]).
//!
//! *Bounds.* One datagram is answered before the next one is read, but for a few that wait for a look-up, so a flood fills
//! the kernel's buffer and nothing of ours. Over UDP an answer has at most [`message::UDP_MAX_BYTES`], and `TC` says when
//! that was not enough. TCP has limits in [`tcp`]. hickory's own server has no limit of connections, and a task for every
//! datagram; so only its codec is used.

pub mod answer;
mod hosts;
pub mod message;
pub mod tcp;
mod udp;
pub mod zone;

use std::{
    cell::RefCell,
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use discovery::{HostName, Revision, ServiceName};
use service_kit::{
    names::{Name, Names},
    serve::{self, BindError},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    time::Instant,
};

use self::{
    answer::InstanceSource,
    hosts::{Hosts, Known, looked_up},
    message::Transport,
    tcp::Limits,
    zone::Zone,
};
use crate::{admission::rate::Rates, catalog::Catalog, metrics::DnsMetrics, mirror::ServiceView};

/// How long an answer about a service may be kept, and that there is none.
pub const TTL_SECS: u32 = 1;

/// What both transports answer from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Dns {
    zone: Arc<Zone>,
    catalog: Catalog,
    hosts: Arc<Hosts>,
    /// How many answers each client gets over UDP.
    rates: Arc<Rates>,
    metrics: DnsMetrics,
}

/// What a question came to.
pub(crate) enum Answer {
    /// This; none to what is no question.
    Ready(Option<Vec<u8>>),
    /// These names have been asked for, for the first time.
    AfterLookUps(Vec<Arc<Name>>),
}

/// One question's look at what is known.
struct Asked<'dns> {
    dns: &'dns Dns,
    /// Names whose first look-up is under way.
    not_yet: RefCell<Vec<Arc<Name>>>,
}

/// Where questions are answered, if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsListen {
    /// Nowhere.
    Off,
    /// Here, over UDP and TCP.
    At(SocketAddr),
}

/// The address that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer DNS questions")]
pub struct DnsBindError(#[from] BindError);

/// A bound server: UDP and TCP on the same port.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Binds where it is asked to. The default address is not insisted on: a second registry on the same machine does
/// without DNS, and says so.
///
/// # Errors
///
/// Another address than the default one is taken, or may not be had.
pub async fn bind(listen: DnsListen) -> Result<Option<Server>, DnsBindError> {
    let DnsListen::At(address) = listen else { return Ok(None) };
    match Server::bind(address).await {
        Ok(server) => Ok(Some(server)),
        Err(error) if listen == DnsListen::default() => {
            let error = service_kit::chain(&error);
            tracing::warn!(%address, %error, "DNS is off: the default address is in use; set another with --dns-listen");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Answers for as long as it is polled.
pub(crate) async fn run(server: Option<Server>, dns: Dns) -> Infallible {
    match server {
        Some(server) => server.run(dns).await,
        None => std::future::pending().await,
    }
}

// === impl DnsListen ===

impl Default for DnsListen {
    /// 127.0.0.1:8600
    fn default() -> Self {
        Self::At(([127, 0, 0, 1], 8600).into())
    }
}

impl FromStr for DnsListen {
    type Err = String;

    fn from_str(listen: &str) -> Result<Self, String> {
        match listen {
            "off" => Ok(Self::Off),
            address => match address.parse() {
                Ok(address) => Ok(Self::At(address)),
                Err(_) => Err(format!("{}; or off", service_kit::config::about_socket_address(address))),
            },
        }
    }
}

impl fmt::Display for DnsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

// === impl Dns ===

impl Dns {
    /// Answers for `zone` with what `catalog` knows, and with the addresses of host names that `names` finds; over UDP,
    /// `client_rate` times a second to each client.
    pub(crate) fn new(zone: Zone, catalog: Catalog, names: Names, client_rate: u32, metrics: DnsMetrics) -> Self {
        let zone = Arc::new(zone);
        let hosts = Arc::new(Hosts::new(names));
        let rates = Arc::new(Rates::new(client_rate));
        Self { zone, catalog, hosts, rates, metrics }
    }

    /// The answer to a datagram; one with nothing in it for a client that asks too often.
    fn answer_datagram(&self, request: &[u8], client: IpAddr) -> Answer {
        if self.rates.take(client, Instant::now()).is_ok() {
            return self.look(request, Transport::Udp);
        }
        let answer = message::truncated(request);
        if answer.is_some() {
            self.metrics.truncated.inc();
        }
        Answer::Ready(answer)
    }

    /// The answer to one message; none to what is no question. Waits for the first look-up of a host name.
    pub(crate) async fn answer(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.look(request, transport) {
            Answer::Ready(answer) => answer,
            Answer::AfterLookUps(names) => {
                looked_up(names).await;
                self.answer_from_memory(request, transport)
            }
        }
    }

    /// The answer with what is known now, whatever is being looked up.
    fn answer_from_memory(&self, request: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = Asked { dns: self, not_yet: RefCell::default() };
        let (answer, code) = message::answer(&self.zone, &asked, request, transport)?;
        self.metrics.count(code);
        Some(answer)
    }

    fn look(&self, request: &[u8], transport: Transport) -> Answer {
        let asked = Asked { dns: self, not_yet: RefCell::default() };
        let answer = message::answer(&self.zone, &asked, request, transport);
        let not_yet = asked.not_yet.into_inner();
        if !not_yet.is_empty() {
            return Answer::AfterLookUps(not_yet);
        }
        Answer::Ready(answer.map(|(answer, code)| {
            self.metrics.count(code);
            answer
        }))
    }
}

// === impl Asked ===

impl InstanceSource for Asked<'_> {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        self.dns.catalog.service(name)
    }

    fn is_fresh(&self) -> bool {
        self.dns.catalog.sync().is_fresh()
    }

    fn revision(&self) -> Revision {
        self.dns.catalog.revision()
    }

    fn addresses(&self, host: &HostName) -> Vec<IpAddr> {
        match self.dns.hosts.known(host) {
            Known::Addresses(addresses) => addresses,
            Known::NotYet(name) => {
                self.not_yet.borrow_mut().push(name);
                Vec::new()
            }
        }
    }
}

// === impl Server ===

impl Server {
    async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let tcp = serve::bind(address).await?;
        // Port 0 becomes a port with TCP; UDP takes the same.
        let address = tcp.local_addr().unwrap_or(address);
        let udp = UdpSocket::bind(address).await.map_err(|source| BindError::new(address, source))?;
        Ok(Self { udp, tcp })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    async fn run(self, dns: Dns) -> Infallible {
        tokio::select! {
            never = udp::run(Arc::new(self.udp), &dns) => never,
            never = tcp::run(self.tcp, dns.clone(), Limits::default()) => never,
        }
    }
}
