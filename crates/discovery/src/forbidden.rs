//! The addresses that nothing is ever routed to, whatever is announced.
//!
//! An instance that is registered, or the name server that answers for its host name, could otherwise have a gateway
//! call what only the gateway can reach: a cloud's metadata service with its credentials (server-side request forgery).
//! The registry refuses these addresses when they are announced, the gateway when it is about to connect: to both, this
//! is the list.
//!
//! | never | why |
//! |---|---|
//! | `0.0.0.0/8`, `::` | means "this host" to the one who connects (RFC 1122, section 3.2.1.3) |
//! | `169.254.0.0/16`, `fe80::/10` | link-local (RFC 3927, RFC 4291); metadata services are there |
//! | `100.100.100.200`, `168.63.129.16`, `192.0.0.192`, `fd00:ec2::/32` | metadata services elsewhere (Alibaba, Azure, Oracle, AWS) |
//! | `224.0.0.0/4`, `ff00::/8` | multicast |
//! | `240.0.0.0/4`, `255.255.255.255` | reserved (RFC 1112, section 4), broadcast |
//! | `fec0::/10` | site-local, abolished by RFC 3879 |
//! | `64:ff9b::/96`, `64:ff9b:1::/48`, `2002::/16`, `2001::/32`, `::/96` | another address in disguise: NAT64 (RFC 6052, RFC 8215), 6to4, Teredo, IPv4-compatible |
//!
//! The last ones are refused as a whole and not judged by the address inside: whatever is inside can be announced as it
//! is, and is then held to every other rule, too. Only an IPv4-mapped address (`::ffff:169.254.169.254`) is the same as
//! the IPv4 address in it, because it is to the operating system.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Why nothing is ever routed to an IP address. `Display` completes the sentence "10.0.0.5 …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForbiddenIp {
    /// 0.0.0.0/8 or `::`.
    ThisHost,
    /// 169.254.0.0/16 or `fe80::/10`.
    LinkLocal,
    /// A metadata service that is not at a link-local address.
    Metadata,
    /// More than one receiver.
    Multicast,
    /// 240.0.0.0/4: of no machine, with the broadcast address.
    Reserved,
    /// `fec0::/10`.
    SiteLocal,
    /// An IPv6 address by which an IPv4 address is reached.
    Disguise,
}

/// Metadata services of clouds at addresses that are not link-local: Alibaba, Azure, Oracle.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

// === impl ForbiddenIp ===

impl ForbiddenIp {
    /// Judges an address.
    ///
    /// # Errors
    ///
    /// The reason against it.
    pub fn check(ip: IpAddr) -> Result<(), Self> {
        let reason = match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        };
        reason.map_or(Ok(()), Err)
    }

    fn of_v4(ip: Ipv4Addr) -> Option<Self> {
        if ip.octets()[0] == 0 {
            Some(Self::ThisHost)
        } else if ip.is_link_local() {
            Some(Self::LinkLocal)
        } else if METADATA.contains(&ip) {
            Some(Self::Metadata)
        } else if ip.is_multicast() {
            Some(Self::Multicast)
        } else if ip.octets()[0] >= 240 {
            Some(Self::Reserved)
        } else {
            None
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Option<Self> {
        let [a, b, c, d, e, f, ..] = ip.segments();
        if ip.is_unspecified() {
            Some(Self::ThisHost)
        } else if ip.is_unicast_link_local() {
            Some(Self::LinkLocal)
        } else if (a, b) == (0xfd00, 0xec2) {
            Some(Self::Metadata)
        } else if ip.is_multicast() {
            Some(Self::Multicast)
        } else if a & 0xffc0 == 0xfec0 {
            Some(Self::SiteLocal)
        } else {
            let is_compatible = [a, b, c, d, e, f] == [0; 6] && !ip.is_loopback();
            let is_nat64 = (a, b) == (0x64, 0xff9b) && (c == 0 || c == 1);
            let is_teredo = (a, b) == (0x2001, 0);
            (is_compatible || is_nat64 || is_teredo || a == 0x2002).then_some(Self::Disguise)
        }
    }

    /// The word for metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ThisHost => "unspecified",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::SiteLocal => "site_local",
            Self::Disguise => "disguise",
        }
    }

    /// Completes the sentence "10.0.0.5 …".
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ThisHost => "means \"this host\" and is no address that others can reach",
            Self::LinkLocal => "is link-local, where machines' metadata and credentials are served, and never used",
            Self::Metadata => "is where a cloud serves machines' metadata and credentials, and never used",
            Self::Multicast => "is a multicast address, of no single machine, and never used",
            Self::Reserved => "is a reserved or broadcast address, of no single machine, and never used",
            Self::SiteLocal => "is a site-local address, which RFC 3879 abolished, and never used",
            Self::Disguise => {
                "stands for another address (NAT64, 6to4, Teredo or IPv4-compatible) and is never used; announce that one"
            }
        }
    }
}

impl fmt::Display for ForbiddenIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ForbiddenIp {}

/// Tables of addresses, for the tests of those who keep to the list.
#[doc(hidden)]
pub mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(ip: &str) -> Result<(), ForbiddenIp> {
        ForbiddenIp::check(ip.parse().unwrap())
    }

    #[test]
    fn every_forbidden_sample_is_refused_and_no_other() {
        for ip in samples::NEVER {
            assert!(judge(ip).is_err(), "{ip}");
        }
        for ip in samples::PRIVATE.into_iter().chain(samples::ELSEWHERE) {
            assert_eq!(judge(ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn every_refusal_has_its_reason() {
        for (ip, reason) in [
            ("0.1.2.3", ForbiddenIp::ThisHost),
            ("::", ForbiddenIp::ThisHost),
            ("169.254.169.254", ForbiddenIp::LinkLocal),
            ("::ffff:169.254.169.254", ForbiddenIp::LinkLocal),
            ("fe80::1", ForbiddenIp::LinkLocal),
            ("100.100.100.200", ForbiddenIp::Metadata),
            ("fd00:ec2::254", ForbiddenIp::Metadata),
            ("224.0.0.1", ForbiddenIp::Multicast),
            ("ff02::1", ForbiddenIp::Multicast),
            ("240.0.0.1", ForbiddenIp::Reserved),
            ("255.255.255.255", ForbiddenIp::Reserved),
            ("fec0::1", ForbiddenIp::SiteLocal),
            ("64:ff9b::a9fe:a9fe", ForbiddenIp::Disguise),
            ("2002:a9fe:a9fe::1", ForbiddenIp::Disguise),
            ("::10.0.0.1", ForbiddenIp::Disguise),
        ] {
            assert_eq!(judge(ip), Err(reason), "{ip}");
        }
    }
}
