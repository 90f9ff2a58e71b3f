//! Addresses of the infrastructure, which are no instances of a service.
//!
//! An instance at etcd's address would have the gateway send its users' requests to etcd; one at a registry's, or at a gateway's
//! admin side, would open to users what is meant for operators. What is known here:
//!
//! | address | known from |
//! |---|---|
//! | this registry, its DNS | where it listens |
//! | etcd's members | `--etcd-endpoints` |
//! | the gateways' admin sides, the other registries | `--refuse-addresses`; `muster up` and the Compose file give it |
//!
//! The gateway refuses itself, its own admin side and etcd once more, whatever wrote them to etcd.
//!
//! An endpoint with a host name is the addresses behind it now. While it does not resolve, it is only its name: the gateway
//! judges again before it connects.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use discovery::{Address, Host};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use service_kit::names::Names as Lookups;

use super::denied::Denied;

/// How long the name of a part may take to resolve: a heartbeat waits for it, if it announces the same port.
const DEADLINE: Duration = Duration::from_millis(500);

/// What must not be announced.
#[derive(Debug)]
pub struct Infrastructure {
    parts: Vec<Part>,
    lookups: Lookups,
}

#[derive(Debug)]
struct Part {
    /// Completes the sentence "it is …".
    what: &'static str,
    address: Address,
    /// Whether it may listen at every address of this machine, rather than only at the one that is known.
    is_everywhere: bool,
}

// === impl Infrastructure ===

impl Infrastructure {
    /// `own`: where this registry listens; `etcd`: the endpoints as configured; `refused`: what else is.
    #[must_use]
    pub fn new(
        own: impl IntoIterator<Item = SocketAddr>,
        etcd: &[String],
        refused: &[Address],
        lookups: Lookups,
    ) -> Self {
        let own = own.into_iter().filter_map(|own| {
            Some(Part {
                what: "this registry",
                address: own.try_into().ok()?,
                is_everywhere: own.ip().is_unspecified(),
            })
        });
        let etcd = etcd.iter().filter_map(|endpoint| {
            let address: Address = authority(endpoint).parse().ok()?;
            // Who reaches etcd over loopback knows only that it is on this machine.
            Some(Part { what: "a member of etcd", is_everywhere: is_here(&address), address })
        });
        let refused = refused.iter().map(|address| Part {
            what: "an address that is refused here (--refuse-addresses)",
            address: address.clone(),
            is_everywhere: false,
        });
        Self { parts: own.chain(etcd).chain(refused).collect(), lookups }
    }

    /// Whether `address`, which stands for `ips`, is none of them.
    ///
    /// # Errors
    ///
    /// [`Denied::Infrastructure`] for the first that it is.
    pub async fn check(&self, address: &Address, ips: &[IpAddr]) -> Result<(), Denied> {
        for part in self.parts.iter().filter(|part| part.address.port == address.port) {
            if part.address.host == address.host || self.is_at(part, ips).await {
                return Err(Denied::Infrastructure { address: address.clone(), what: part.what });
            }
        }
        Ok(())
    }

    async fn is_at(&self, part: &Part, ips: &[IpAddr]) -> bool {
        let known = match &part.address.host {
            Host::V4(ip) => vec![IpAddr::from(*ip)],
            Host::V6(ip) => vec![IpAddr::from(*ip)],
            Host::Name(name) => self.resolve(name.as_str()).await,
        };
        let is_same = |ip: IpAddr| known.iter().any(|known| known.to_canonical() == ip);
        ips.iter().map(IpAddr::to_canonical).any(|ip| is_same(ip) || part.is_everywhere && is_of_this_machine(ip))
    }

    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let name = self.lookups.follow(name);
        match tokio::time::timeout(DEADLINE, name.addresses()).await {
            Ok(Ok(found)) => found.to_vec(),
            _ => Vec::new(),
        }
    }
}

/// `host:port` of `http://host:port/`.
fn authority(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.trim().trim_end_matches('/')
}

fn is_here(address: &Address) -> bool {
    let is_here = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    match &address.host {
        Host::V4(ip) => is_here((*ip).into()),
        Host::V6(ip) => is_here((*ip).into()),
        Host::Name(name) => name.as_str() == "localhost" || name.ends_with(".localhost"),
    }
}

/// Whether `ip` is one of this machine's, by its interfaces. Whether it could be listened on says less: where
/// `net.ipv4.ip_nonlocal_bind` is set, as it is for addresses that move between machines, every one can.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let is_same = |interface: InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        Some(v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))? == ip)
    };
    ip.is_loopback() || getifaddrs().is_ok_and(|mut interfaces| interfaces.any(|one| is_same(one) == Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_refused(infrastructure: &Infrastructure, address: &str) -> bool {
        let address: Address = address.parse().unwrap();
        let ips: Vec<IpAddr> = address.socket_addr().map(|socket| socket.ip()).into_iter().collect();
        infrastructure.check(&address, &ips).await.is_err()
    }

    fn infrastructure(own: &str, etcd: &[&str], refused: &[&str]) -> Infrastructure {
        let etcd: Vec<String> = etcd.iter().map(ToString::to_string).collect();
        let refused: Vec<Address> = refused.iter().map(|address| address.parse().unwrap()).collect();
        Infrastructure::new([own.parse().unwrap()], &etcd, &refused, Lookups::default())
    }

    #[tokio::test]
    async fn the_registry_itself_is_refused_where_it_listens() {
        let on_loopback = infrastructure("127.0.0.1:8500", &[], &[]);
        assert!(is_refused(&on_loopback, "127.0.0.1:8500").await);
        for other in ["127.0.0.1:8501", "127.0.0.2:8500", "10.0.0.5:8500"] {
            assert!(!is_refused(&on_loopback, other).await, "{other}");
        }
        let everywhere = infrastructure("0.0.0.0:8500", &[], &[]);
        for here in ["127.0.0.1:8500", "127.0.0.2:8500", "[::1]:8500"] {
            assert!(is_refused(&everywhere, here).await, "{here}");
        }
        assert!(!is_refused(&everywhere, "192.0.2.7:8500").await, "another machine's");
    }

    #[tokio::test]
    async fn etcd_and_what_else_is_named_are_refused_however_they_are_written() {
        let parts = infrastructure(
            "127.0.0.1:8500",
            &["http://10.0.0.1:2379", "https://etcd-2.invalid:2379/", "http://localhost:23790"],
            &["10.0.0.9:8081", "gateway.invalid:8081"],
        );
        for part in [
            "10.0.0.1:2379",
            "etcd-2.invalid:2379",
            "127.0.0.1:23790",
            "127.0.0.2:23790",
            "[::1]:23790",
            "10.0.0.9:8081",
            "gateway.invalid:8081",
        ] {
            assert!(is_refused(&parts, part).await, "{part}");
        }
        for other in ["10.0.0.1:2380", "10.0.0.2:2379", "10.0.0.8:8081", "127.0.0.1:8081"] {
            assert!(!is_refused(&parts, other).await, "{other}");
        }
    }
}
