//! By which address others reach this instance.
//!
//! 1. `--advertise` is the answer, if it is given.
//! 2. A service that listens on one address only (`127.0.0.1`, `10.0.0.5`) is reached by that and nothing else.
//! 3. One that listens on all of them (`0.0.0.0`, `::`) takes the address of the interface that reaches the registry: a
//!    UDP socket that is connected to it, which sends no packet, knows the address that a packet would come from. An
//!    address that is not loopback is preferred when there are several registries, since others must reach it too.
//!
//! An answer of the third kind is kept for as long as it is an address of this machine, so that changing to another
//! registry over another interface does not change who we are. When it is gone (a laptop that moved, a new DHCP lease,
//! a container that was connected to another network) it is asked anew before the next heartbeat, and the instance
//! that had the old address is deregistered.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use discovery::{Address, FieldError};

use crate::{HeartbeatOptions, RegistryUrl};

/// The longest to wait for the names of the registries to resolve.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(1);

/// Why it is not known by which address others reach this instance.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdvertiseError {
    /// The address that is listened on cannot be announced.
    #[error("the address listened on cannot be announced; give --advertise HOST:PORT")]
    Listen(#[source] FieldError),
    /// No registry can be reached from any of our addresses, or none of their names resolves.
    #[error("no interface reaches a registry; give --advertise HOST:PORT, or check --registry")]
    NoRoute(#[source] Option<Arc<io::Error>>),
}

/// The address that is announced, now and after the network changed.
#[derive(Debug)]
pub(crate) enum Advertise {
    /// It never changes.
    Fixed(Result<Address, AdvertiseError>),
    /// It is that of the interface that reaches one of the registries.
    Interface {
        /// What is listened on: all addresses of this family, one port.
        listen: SocketAddr,
        /// Who must be reached.
        registries: Vec<RegistryUrl>,
        /// The last answer.
        last: Option<Found>,
    },
}

/// The address that [`Heartbeat::start`](crate::Heartbeat::start) would announce, for who wants to try it before.
#[derive(Debug)]
pub struct AnnouncedAddress(Advertise);

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    ip: IpAddr,
    /// Whether every registry was taken into account; otherwise a better answer may turn up.
    is_final: bool,
}

// === impl AdvertiseError ===

impl AdvertiseError {
    /// Whether waiting may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Listen(_) => false,
            Self::NoRoute(_) => true,
        }
    }
}

// === impl AnnouncedAddress ===

impl AnnouncedAddress {
    /// Of an instance that listens on `listen`.
    #[must_use]
    pub fn new(listen: SocketAddr, options: &HeartbeatOptions) -> Self {
        Self(Advertise::new(listen, options.advertise.as_ref(), &options.registries))
    }

    /// The address to announce now: it may change with the network. May take a second, for the names of registries.
    ///
    /// # Errors
    /// It cannot be told, or not now.
    pub async fn get(&mut self) -> Result<Address, AdvertiseError> {
        self.0.address().await
    }
}

// === impl Advertise ===

impl Advertise {
    /// What to announce for a socket bound to `listen`, given `--advertise`.
    pub(crate) fn new(listen: SocketAddr, advertise: Option<&Address>, registries: &[RegistryUrl]) -> Self {
        if let Some(address) = advertise {
            return Self::Fixed(Ok(address.clone()));
        }
        if listen.ip().is_unspecified() && listen.port() != 0 {
            return Self::Interface { listen, registries: registries.to_vec(), last: None };
        }
        let listen = SocketAddr::new(listen.ip().to_canonical(), listen.port());
        Self::Fixed(Address::try_from(listen).map_err(AdvertiseError::Listen))
    }

    /// As if `ip` had been found before, whether it is an address of this machine or not.
    #[cfg(test)]
    pub(crate) fn pretend(&mut self, ip: IpAddr) {
        if let Self::Interface { last, .. } = self {
            *last = Some(Found { ip, is_final: true });
        }
    }

    /// The address to announce now.
    pub(crate) async fn address(&mut self) -> Result<Address, AdvertiseError> {
        let (listen, registries, last) = match self {
            Self::Fixed(address) => return address.clone(),
            Self::Interface { listen, registries, last } => (listen, registries, last),
        };
        let found = match last {
            Some(found) if found.is_final && is_ours(found.ip) => *found,
            _ => *last.insert(find(listen.ip(), registries).await?),
        };
        Address::try_from(SocketAddr::new(found.ip, listen.port())).map_err(AdvertiseError::Listen)
    }
}

/// Asks the kernel from which address each registry is reached.
async fn find(listen: IpAddr, registries: &[RegistryUrl]) -> Result<Found, AdvertiseError> {
    let lookups = futures::future::join_all(registries.iter().map(|registry| async {
        let lookup = tokio::net::lookup_host(registry.host_and_port());
        match tokio::time::timeout(LOOKUP_DEADLINE, lookup).await {
            Ok(Ok(addresses)) => local_address(listen, addresses),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }));
    choose(lookups.await)
}

/// The first that is not loopback, else the first; final unless it is loopback and another address could not be
/// determined.
fn choose(answers: Vec<io::Result<IpAddr>>) -> Result<Found, AdvertiseError> {
    let is_complete = answers.iter().all(Result::is_ok);
    let mut error = None;
    let mut addresses = Vec::new();
    for answer in answers {
        match answer {
            Ok(ip) => addresses.push(ip),
            Err(reason) => error = error.or(Some(Arc::new(reason))),
        }
    }
    let elsewhere = addresses.iter().find(|ip| !ip.is_loopback());
    match elsewhere.or(addresses.first()) {
        Some(&ip) => Ok(Found { ip, is_final: is_complete || !ip.is_loopback() }),
        None => Err(AdvertiseError::NoRoute(error)),
    }
}

/// The address from which a packet to the first reachable one of `peers` would come.
fn local_address(listen: IpAddr, peers: impl Iterator<Item = SocketAddr>) -> io::Result<IpAddr> {
    let mut last = io::ErrorKind::HostUnreachable.into();
    for peer in peers {
        // Who listens on 0.0.0.0 is not reached by IPv6; who listens on :: is reached by both (Linux, macOS).
        if listen.is_ipv4() && peer.is_ipv6() {
            continue;
        }
        match source_towards(peer) {
            Ok(ip) => return Ok(ip),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn source_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// Whether `ip` is still an address of this machine: only such can be bound. Any other trouble proves nothing.
fn is_ours(ip: IpAddr) -> bool {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(urls: &[&str]) -> Vec<RegistryUrl> {
        urls.iter().map(|url| url.parse().unwrap()).collect()
    }

    async fn advertised(listen: &str, advertise: Option<&str>, urls: &[&str]) -> Result<String, AdvertiseError> {
        let advertise = advertise.map(|address| address.parse().unwrap());
        let mut advertise = Advertise::new(listen.parse().unwrap(), advertise.as_ref(), &registries(urls));
        advertise.address().await.map(|address| address.to_string())
    }

    #[tokio::test]
    async fn what_was_configured_is_announced_as_it_is() {
        let address = advertised("0.0.0.0:7070", Some("mail.example:80"), &["http://127.0.0.1:8500"]).await;
        assert_eq!(address.unwrap(), "mail.example:80");
    }

    #[tokio::test]
    async fn who_listens_on_one_address_is_reached_by_that() {
        for (listen, expected) in [
            ("127.0.0.1:7070", "127.0.0.1:7070"),
            ("[::1]:7070", "[::1]:7070"),
            ("[::ffff:10.0.0.5]:7070", "10.0.0.5:7070"),
        ] {
            assert_eq!(advertised(listen, None, &["http://192.0.2.1:8500"]).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn who_listens_on_all_is_reached_by_the_interface_that_reaches_the_registry() {
        for listen in ["0.0.0.0:7070", "[::]:7070"] {
            for registry in ["http://127.0.0.1:8500", "http://localhost:8500"] {
                let address: Address = advertised(listen, None, &[registry]).await.unwrap().parse().unwrap();
                assert!(address.host.ip().unwrap().is_loopback(), "{listen} towards {registry}: {address}");
                assert_eq!(address.port.get(), 7070, "the port that is listened on");
            }
        }
    }

    #[tokio::test]
    async fn no_port_and_no_way_to_a_registry_are_errors() {
        let error = advertised("0.0.0.0:0", None, &["http://127.0.0.1:8500"]).await.unwrap_err();
        assert!(matches!(error, AdvertiseError::Listen(_)) && !error.is_transient(), "{error:?}");
        let error = advertised("0.0.0.0:80", None, &["http://[::1]:8500"]).await.unwrap_err();
        assert!(matches!(error, AdvertiseError::NoRoute(_)) && error.is_transient(), "{error:?}");
    }

    #[test]
    fn an_address_that_others_reach_is_preferred_to_loopback() {
        let ip = |ip: &str| Ok::<IpAddr, io::Error>(ip.parse().unwrap());
        let unresolved = || Err(io::ErrorKind::NotFound.into());
        let check = |answers, expected: &str, is_final| {
            assert_eq!(choose(answers).unwrap(), Found { ip: expected.parse().unwrap(), is_final });
        };
        check(vec![ip("127.0.0.1"), ip("10.0.0.5")], "10.0.0.5", true);
        check(vec![ip("127.0.0.1"), ip("::1")], "127.0.0.1", true);
        check(vec![unresolved(), ip("10.0.0.5")], "10.0.0.5", true);
        check(vec![ip("127.0.0.1"), unresolved()], "127.0.0.1", false);
        assert!(choose(vec![unresolved()]).is_err());
    }

    #[tokio::test]
    async fn the_answer_is_kept_while_it_is_ours_and_asked_anew_when_it_is_gone() {
        let listen = "0.0.0.0:7070".parse().unwrap();
        let mut advertise = Advertise::new(listen, None, &registries(&["http://127.0.0.1:8500"]));
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        for (was, is) in [("127.0.0.2", "127.0.0.2:7070"), ("192.0.2.1", "127.0.0.1:7070")] {
            advertise.pretend(was.parse().unwrap());
            assert_eq!(advertise.address().await.unwrap().to_string(), is);
        }
    }
}
