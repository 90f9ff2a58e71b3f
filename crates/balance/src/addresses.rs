//! Where requests are never sent, whatever etcd says.
//!
//! An instance that is registered could otherwise make the gateway speak to a cloud's metadata service
//! (169.254.169.254), to etcd, or to the gateway's own admin side (server-side request forgery). The registry checks what
//! it writes, this checks what was read, because others write to etcd, too: both by the list in
//! [`discovery::forbidden`]. Loopback and private addresses are fine: services are there.

mod members;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use discovery::{Address, ForbiddenIp, Host};
use service_kit::names::Names;
use tokio_util::sync::CancellationToken;

use members::Members;
pub(crate) use members::Resolved;

/// The addresses of ourselves and of etcd. Cheap to clone; all clones learn what one learns about etcd's names.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    etcd: Arc<Members>,
    own: Vec<SocketAddr>,
    names: Names,
}

/// Why an address is not used. `Display` completes the sentence "10.0.0.5:7070 …".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// It is one of those that nothing is ever routed to.
    Ip(ForbiddenIp),
    /// An etcd member.
    Etcd,
    /// On the port of an etcd member whose name has not been resolved yet, so that it may be that member.
    PerhapsEtcd,
    /// The gateway or its admin side.
    Own,
}

// === impl AddressPolicy ===

impl AddressPolicy {
    /// `etcd`: the endpoints as configured (`http://host:2379`); `own`: where the gateway and its admin side listen.
    /// Endpoints with host names need [`Self::follow_etcd`] beside it; until it has an answer, their ports are refused.
    pub fn new<'a>(etcd: impl IntoIterator<Item = &'a str>, own: impl IntoIterator<Item = SocketAddr>) -> Self {
        let authority = |endpoint: &'a str| {
            let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
            rest.trim().trim_end_matches('/')
        };
        let etcd = etcd.into_iter().filter_map(|endpoint| authority(endpoint).parse().ok()).collect();
        Self { etcd: Arc::new(Members::new(etcd)), own: own.into_iter().collect(), names: Names::default() }
    }

    /// Resolves host names by `names` instead of the operating system's name servers.
    #[must_use]
    pub fn with_names(mut self, names: Names) -> Self {
        self.names = names;
        self
    }

    /// Where host names are resolved.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Resolves the names among etcd's endpoints until `shutdown`.
    pub async fn follow_etcd(self, shutdown: CancellationToken) {
        // `None` is the shutdown.
        let _ended = shutdown.run_until_cancelled(self.etcd.follow(&self.names)).await;
    }

    /// What is known about etcd's names. Another value when that has changed: judge again what was judged by it.
    pub(crate) fn resolved(&self) -> Arc<Resolved> {
        self.etcd.resolved()
    }

    /// Judges an address as it stands in etcd; a host name is judged again when it is resolved.
    ///
    /// # Errors
    ///
    /// The reason against it.
    pub fn check(&self, address: &Address) -> Result<(), Forbidden> {
        if self.etcd.contains(address) {
            return Err(Forbidden::Etcd);
        }
        match (address.socket_addr(), &address.host) {
            (Some(socket), _) => self.check_socket(socket),
            (None, Host::Name(name)) if name.as_str() == "localhost" || name.ends_with(".localhost") => {
                self.check_socket(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), address.port.get()))
            }
            (None, _) => Ok(()),
        }
    }

    /// Judges the address that is about to be connected to.
    ///
    /// # Errors
    ///
    /// The reason against it.
    pub fn check_socket(&self, socket: SocketAddr) -> Result<(), Forbidden> {
        let ip = socket.ip().to_canonical();
        ForbiddenIp::check(ip)?;
        if self.is_own(ip, socket.port()) { Err(Forbidden::Own) } else { self.etcd.check(ip, socket.port()) }
    }

    /// Whether a connection that stands is one to ourselves: both ends have the same address then, whatever the
    /// interfaces of this machine are called.
    pub(crate) fn is_loop(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        local.ip() == peer.ip() && self.own.iter().any(|own| own.ip().is_unspecified() && own.port() == peer.port())
    }

    fn is_own(&self, ip: IpAddr, port: u16) -> bool {
        self.own.iter().any(|own| {
            let is_here = own.ip() == ip || own.ip().is_unspecified() && ip.is_loopback();
            is_here && own.port() == port
        })
    }
}

// === impl Forbidden ===

impl Forbidden {
    /// The word for metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip(forbidden) => forbidden.as_str(),
            Self::Etcd | Self::PerhapsEtcd => "etcd",
            Self::Own => "own",
        }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip(forbidden) => forbidden.reason(),
            Self::Etcd => "is an etcd member, which is never used as a service",
            Self::PerhapsEtcd => {
                "has the port of an etcd member whose name is not resolved yet, and may be that member"
            }
            Self::Own => "is this gateway itself, which is never used as a service",
        })
    }
}

impl std::error::Error for Forbidden {}

impl From<ForbiddenIp> for Forbidden {
    fn from(forbidden: ForbiddenIp) -> Self {
        Self::Ip(forbidden)
    }
}

#[cfg(test)]
mod tests {
    use discovery::forbidden::samples::{ELSEWHERE, NEVER, PRIVATE};
    use service_kit::names::LookupError;

    use super::*;

    fn policy() -> AddressPolicy {
        let own = ["0.0.0.0:8080".parse().unwrap(), "127.0.0.1:8081".parse().unwrap()];
        AddressPolicy::new(["http://10.0.0.1:2379", "https://etcd-2:2379/"], own)
    }

    fn judge(address: &str) -> Result<(), Forbidden> {
        policy().check(&address.parse().unwrap())
    }

    #[test]
    fn private_and_loopback_addresses_are_where_services_live() {
        for address in ["10.0.0.5:7070", "127.0.0.1:7070", "192.168.1.1:80", "[::1]:7070", "mail:7070", "10.0.0.1:80"] {
            assert_eq!(judge(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn metadata_etcd_and_ourselves_are_refused_however_they_are_written() {
        for (address, reason) in [
            ("169.254.169.254:80", Forbidden::Ip(ForbiddenIp::LinkLocal)),
            ("[::ffff:169.254.169.254]:80", Forbidden::Ip(ForbiddenIp::LinkLocal)),
            ("[fe80::1]:80", Forbidden::Ip(ForbiddenIp::LinkLocal)),
            ("0.0.0.0:80", Forbidden::Ip(ForbiddenIp::ThisHost)),
            ("[::]:80", Forbidden::Ip(ForbiddenIp::ThisHost)),
            ("224.0.0.1:80", Forbidden::Ip(ForbiddenIp::Multicast)),
            ("255.255.255.255:80", Forbidden::Ip(ForbiddenIp::Reserved)),
            ("10.0.0.1:2379", Forbidden::Etcd),
            ("[::ffff:10.0.0.1]:2379", Forbidden::Etcd),
            ("etcd-2:2379", Forbidden::Etcd),
            ("127.0.0.1:8081", Forbidden::Own),
            ("localhost:8081", Forbidden::Own),
            ("127.0.0.1:8080", Forbidden::Own),
            ("[::1]:8080", Forbidden::Own),
        ] {
            assert_eq!(judge(address), Err(reason), "{address}");
        }
    }

    #[test]
    fn the_gateway_refuses_what_the_registry_refuses() {
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
        for ip in NEVER {
            assert!(matches!(policy().check_socket(at(ip)), Err(Forbidden::Ip(_))), "{ip}");
            assert!(policy().check(&at(ip).try_into().unwrap()).is_err(), "{ip}");
        }
        for ip in PRIVATE.into_iter().chain(ELSEWHERE) {
            assert_eq!(policy().check_socket(at(ip)), Ok(()), "{ip}");
        }
    }

    #[test]
    fn etcd_is_refused_by_the_addresses_behind_its_name() {
        let policy = policy();
        let name = "etcd-2:2379".parse().unwrap();
        let check = |address: &str| policy.check(&address.parse().unwrap());
        let before = policy.resolved();
        assert_eq!(check("10.0.0.2:2379"), Err(Forbidden::PerhapsEtcd), "any machine may be etcd-2");
        assert_eq!(check("10.0.0.2:7070"), Ok(()), "but not on another port");
        policy.etcd.learn(&name, Err(&LookupError::NoSuchName));
        policy.etcd.learn(&name, Ok(&[]));
        assert_eq!(check("10.0.0.2:2379"), Err(Forbidden::PerhapsEtcd));

        policy.etcd.learn(&name, Ok(&["10.0.0.2".parse().unwrap()]));
        assert!(!Arc::ptr_eq(&before, &policy.clone().resolved()), "all clones learn it");
        assert_eq!(check("10.0.0.2:2379"), Err(Forbidden::Etcd));
        assert_eq!(check("[::ffff:10.0.0.2]:2379"), Err(Forbidden::Etcd));
        assert_eq!(check("ETCD-2:2379"), Err(Forbidden::Etcd));
        assert_eq!(check("10.0.0.3:2379"), Ok(()), "somebody else's");

        policy.etcd.learn(&name, Ok(&["10.0.0.3".parse().unwrap()]));
        policy.etcd.learn(&name, Err(&LookupError::NoSuchName));
        assert_eq!(check("10.0.0.3:2379"), Err(Forbidden::Etcd));
        assert_eq!(check("10.0.0.2:2379"), Err(Forbidden::Etcd), "it may only be left out of one answer");
    }

    #[test]
    fn etcd_on_this_machine_is_refused_at_every_address_of_the_machine_itself() {
        for endpoint in ["http://127.0.0.1:2379", "http://0.0.0.0:2379", "http://[::ffff:127.0.0.1]:2379"] {
            let policy = AddressPolicy::new([endpoint], []);
            for address in ["127.0.0.1:2379", "127.0.0.2:2379", "[::1]:2379", "localhost:2379"] {
                assert_eq!(policy.check(&address.parse().unwrap()), Err(Forbidden::Etcd), "{endpoint} {address}");
            }
        }
    }

    #[tokio::test]
    async fn names_of_etcd_are_resolved_in_the_background() {
        let policy = AddressPolicy::new(["http://localhost:2379"], []);
        let end = CancellationToken::new();
        let following = tokio::spawn(policy.clone().follow_etcd(end.clone()));
        let judged = || policy.check(&"127.0.0.1:2379".parse().unwrap());
        assert!(judged().is_err(), "before there is an answer, too");
        let known = async {
            while judged() != Err(Forbidden::Etcd) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), known).await.expect("an answer");
        assert_eq!(policy.check(&"10.0.0.1:2379".parse().unwrap()), Ok(()), "the port alone is no reason any more");
        end.cancel();
        following.await.unwrap();
    }

    #[test]
    fn a_connection_to_our_own_port_on_any_interface_is_a_loop() {
        let policy = policy();
        let at = |address: &str| address.parse().unwrap();
        assert!(policy.is_loop(at("10.9.9.9:50000"), at("10.9.9.9:8080")));
        assert!(!policy.is_loop(at("10.9.9.9:50000"), at("10.9.9.8:8080")), "another machine may use the same port");
        assert!(!policy.is_loop(at("10.9.9.9:50000"), at("10.9.9.9:7070")));
    }
}
