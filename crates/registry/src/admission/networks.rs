//! Which addresses may be announced.
//!
//! A gateway sends its users' requests wherever an instance says that it is. Whoever may register could so have the
//! gateway call what only the gateway can reach: a cloud's metadata service with its credentials, a database on loopback.
//! So an announced address must be in an allowed network, and some are never allowed, whatever is configured:
//!
//! | never | why |
//! |---|---|
//! | `0.0.0.0/8`, `::` | means "this host" to who connects there |
//! | `169.254.0.0/16`, `fe80::/10` | link-local; metadata services live there |
//! | `fd00:ec2::/32`, `100.100.100.200`, `168.63.129.16`, `192.0.0.192` | metadata services elsewhere (AWS, Alibaba, Azure, Oracle) |
//! | `224.0.0.0/4`, `ff00::/8`, `255.255.255.255`, `240.0.0.0/4` | multicast, broadcast, reserved |
//! | `64:ff9b::/96`, `64:ff9b:1::/48`, `2002::/16`, `2001::/32`, `::/96`, `fec0::/10` | other addresses in disguise: NAT64, 6to4, Teredo, IPv4-compatible; site-local |
//!
//! An IPv4 address written as IPv6 (`::ffff:169.254.169.254`) is the IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use discovery::Address;
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

    fn check_ip(&self, ip: IpAddr) -> Result<(), Denied> {
        if let Some(why) = never(ip) {
            return Err(Denied::Address { ip, why });
        }
        if self.0.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        let why = match ip.is_loopback() {
            true => "it is loopback, and this registry serves other machines; announce an address that they reach",
            false => "it is in none of the networks that this registry allows (--allow-networks)",
        };
        Err(Denied::Address { ip, why })
    }
}

/// Why nobody may ever announce `ip`, if so.
fn never(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => never_v4(ip),
        IpAddr::V6(ip) => never_v6(ip),
    }
}

fn never_v4(ip: Ipv4Addr) -> Option<&'static str> {
    const METADATA: [Ipv4Addr; 3] =
        [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
    if ip.octets()[0] == 0 {
        Some("it means \"this host\"")
    } else if ip.is_link_local() || METADATA.contains(&ip) {
        Some("it is link-local, where machines' metadata and credentials are served")
    } else if ip.is_multicast() || ip.octets()[0] >= 240 {
        Some("it is multicast, broadcast or reserved, and no single machine's")
    } else {
        None
    }
}

fn never_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let [a, b, c, ..] = ip.segments();
    if ip.is_unspecified() {
        Some("it means \"this host\"")
    } else if a & 0xffc0 == 0xfe80 || (a, b) == (0xfd00, 0xec2) {
        Some("it is link-local, where machines' metadata and credentials are served")
    } else if ip.is_multicast() {
        Some("it is multicast, and no single machine's")
    } else if a & 0xffc0 == 0xfec0 {
        Some("site-local addresses were abolished by RFC 3879")
    } else if is_disguise(ip, a, b, c) {
        Some("it stands for another address (NAT64, 6to4, Teredo or IPv4-compatible); announce that one")
    } else {
        None
    }
}

/// Whether another address is reached by this one.
fn is_disguise(ip: Ipv6Addr, a: u16, b: u16, c: u16) -> bool {
    let is_compatible = ip.segments()[..6].iter().all(|segment| *segment == 0) && !ip.is_loopback();
    let is_nat64 = (a, b) == (0x64, 0xff9b) && (c == 0 || c == 1);
    is_compatible || is_nat64 || a == 0x2002 || (a, b) == (0x2001, 0)
}

fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits).into()
}

fn v6(a: u16, b: u16, bits: u8) -> IpNet {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(networks: &Networks, ip: &str) -> bool {
        networks.check_ip(ip.parse::<IpAddr>().unwrap().to_canonical()).is_ok()
    }

    /// Never, whatever is configured.
    const NEVER: [&str; 64] = [
        "0.0.0.0",
        "0.0.0.1",
        "0.1.2.3",
        "0.255.255.255",
        "169.254.0.0",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.169.123",
        "169.254.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "224.0.0.0",
        "224.0.0.1",
        "224.0.0.251",
        "239.255.255.250",
        "239.255.255.255",
        "240.0.0.0",
        "240.0.0.1",
        "250.1.2.3",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::ffff:0.0.0.0",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "::ffff:224.0.0.1",
        "::ffff:255.255.255.255",
        "::ffff:100.100.100.200",
        "::ffff:168.63.129.16",
        "::ffff:0:1",
        "fe80::",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "fe90::1",
        "febf::ffff",
        "fec0::1",
        "feff::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "ff00::1",
        "ff02::1",
        "ff02::2",
        "ff05::1:3",
        "ff0e::1",
        "ffff::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "64:ff9b:1:ffff::1",
        "2002:a9fe:a9fe::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2002::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:0:7f00:1::",
        "::2",
        "::169.254.169.254",
        "::127.0.0.1",
        "::10.0.0.1",
        "::ffff",
    ];

    /// Not unless somebody allows the network.
    const NOT_BY_DEFAULT: [&str; 44] = [
        "127.0.0.1",
        "127.0.0.2",
        "127.1.2.3",
        "127.255.255.255",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "100.64.0.1",
        "100.127.255.255",
        "100.100.100.199",
        "100.100.100.201",
        "168.63.129.15",
        "192.88.99.1",
        "169.253.255.255",
        "169.255.0.0",
        "223.255.255.255",
        "1.0.0.0",
        "::ffff:8.8.8.8",
        "::ffff:192.0.2.1",
        "2001:db8::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2001:1::1",
        "2003::1",
        "3fff::1",
        "64:ff9c::1",
        "64:ff9a::1",
        "100::1",
        "fbff::1",
        "fe00::1",
        "fe7f::1",
    ];

    #[test]
    fn over_a_hundred_hostile_addresses_are_not_taken() {
        let default = Networks::new(&[], "10.0.0.1".parse().unwrap());
        let all: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let everything = Networks::new(&all, "10.0.0.1".parse().unwrap());
        for ip in NEVER {
            assert!(!is_allowed(&default, ip) && !is_allowed(&everything, ip), "{ip}");
        }
        for ip in NOT_BY_DEFAULT {
            assert!(!is_allowed(&default, ip), "{ip}");
            assert!(is_allowed(&everything, ip), "{ip} is somebody's, if the operator says so");
        }
    }

    #[test]
    fn private_addresses_are_taken_and_loopback_only_by_who_listens_there() {
        let (remote, local) =
            (Networks::new(&[], "0.0.0.0".parse().unwrap()), Networks::new(&[], "127.0.0.1".parse().unwrap()));
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
