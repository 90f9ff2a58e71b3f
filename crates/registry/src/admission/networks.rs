//! Which addresses may be announced.
//!
//! A gateway sends its users' requests wherever an instance says that it is. A client that may register could so have the
//! gateway call what only the gateway can reach: a cloud's metadata service with its credentials, a database on loopback.
//! So an announced address must be in an allowed network, and some are never allowed, whatever is configured: those of
//! [`discovery::forbidden`], which the gateway refuses likewise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use discovery::{Address, ForbiddenIp};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::denied::Denied;

/// The networks that are allowed.
#[derive(Debug)]
pub struct Networks(Vec<IpNet>);

// === impl Networks ===

impl Networks {
    /// Those configured; if none are, the private ones, and loopback if the registry itself is there.
    #[must_use]
    pub fn new(configured: &[IpNet], listen: IpAddr) -> Self {
        if !configured.is_empty() {
            return Self(configured.to_vec());
        }
        let mut allowed = vec![v4(10, 0, 0, 0, 8), v4(172, 16, 0, 0, 12), v4(192, 168, 0, 0, 16), v6(0xfc00, 0, 7)];
        if listen.to_canonical().is_loopback() {
            allowed.extend([v4(127, 0, 0, 0, 8), IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))]);
        }
        Self(allowed)
    }

    /// Whether every one of `ips`, which `address` stands for, may be announced.
    ///
    /// # Errors
    ///
    /// [`Denied::Address`] for the first that may not.
    pub fn check(&self, _address: &Address, ips: &[IpAddr]) -> Result<(), Denied> {
        ips.iter().try_for_each(|ip| self.check_ip(ip.to_canonical()))
    }

    /// Whether none of `ips` is one that is never allowed, whatever is configured.
    ///
    /// # Errors
    ///
    /// [`Denied::Address`] for the first that is.
    pub fn check_any(&self, ips: &[IpAddr]) -> Result<(), Denied> {
        ips.iter().try_for_each(|ip| never(ip.to_canonical()))
    }

    fn check_ip(&self, ip: IpAddr) -> Result<(), Denied> {
        never(ip)?;
        if self.0.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        let why = match ip.is_loopback() {
            true => "is loopback, and this registry serves other machines; announce an address that they reach",
            false => "is in none of the networks that this registry allows (--allow-networks)",
        };
        Err(Denied::Address { ip, why })
    }
}

/// Whether `ip` may be allowed at all.
fn never(ip: IpAddr) -> Result<(), Denied> {
    ForbiddenIp::check(ip).map_err(|forbidden| Denied::Address { ip, why: forbidden.reason() })
}

fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits).into()
}

fn v6(a: u16, b: u16, bits: u8) -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits).into()
}

#[cfg(test)]
mod tests {
    use discovery::forbidden::samples::{ELSEWHERE, NEVER};

    use super::*;

    fn is_allowed(networks: &Networks, ip: &str) -> bool {
        networks.check_ip(ip.parse::<IpAddr>().unwrap().to_canonical()).is_ok()
    }

    #[test]
    fn over_a_hundred_hostile_addresses_are_not_taken() {
        let default = Networks::new(&[], "10.0.0.1".parse().unwrap());
        let all: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let everything = Networks::new(&all, "10.0.0.1".parse().unwrap());
        for ip in NEVER {
            assert!(!is_allowed(&default, ip) && !is_allowed(&everything, ip), "{ip}");
        }
        for ip in ELSEWHERE {
            assert!(!is_allowed(&default, ip), "{ip}");
            assert!(is_allowed(&everything, ip), "{ip} is somebody's, if the operator says so");
        }
    }

    #[test]
    fn private_addresses_are_taken_and_loopback_only_by_who_listens_there() {
        let remote = Networks::new(&[], "0.0.0.0".parse().unwrap());
        let local = Networks::new(&[], "127.0.0.1".parse().unwrap());
        for ip in ["10.0.0.5", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fd12::1", "fc00::1"] {
            assert!(is_allowed(&remote, ip) && is_allowed(&local, ip), "{ip}");
        }
        for ip in ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1"] {
            assert!(!is_allowed(&remote, ip) && is_allowed(&local, ip), "{ip}");
        }
    }

    #[test]
    fn what_is_configured_replaces_the_default() {
        let networks = Networks::new(&["192.0.2.0/24".parse().unwrap()], "127.0.0.1".parse().unwrap());
        assert!(is_allowed(&networks, "192.0.2.7"));
        assert!(!is_allowed(&networks, "10.0.0.5") && !is_allowed(&networks, "127.0.0.1"));
    }
}
