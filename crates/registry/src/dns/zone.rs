//! Which name means what.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use discovery::ServiceName;
use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{NS, SOA},
};

use super::TTL_SECS;

/// For secondary servers, of which there are none: in seconds.
const REFRESH_SECS: i32 = 60;

/// The names below one domain.
#[derive(Debug, Clone)]
pub struct Zone {
    apex: Name,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Another domain: not ours to answer.
    Outside,
    /// The domain itself.
    Apex,
    /// A name without records, above others that have some.
    EmptyNonTerminal,
    /// No such name, and none below it.
    Nothing,
    /// The instances of a service.
    Service {
        /// Which service.
        service: ServiceName,
        /// Only those with this tag, in lower case.
        tag: Option<String>,
        /// Whether this is the form of RFC 2782, at which only `SRV` records are.
        srv_only: bool,
    },
    /// An address that the name spells.
    Address(IpAddr),
}

impl fmt::Display for Zone {
    /// The domain without a dot at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.apex.to_ascii().trim_end_matches('.'))
    }
}

// === impl Zone ===

impl Zone {
    /// The zone of `domain`: `muster`, `discovery.example.com`.
    ///
    /// # Errors
    ///
    /// `domain` is no domain name, or too long for the names below it.
    pub fn new(domain: &str) -> Result<Self, String> {
        let apex = Name::from_ascii(format!("{}.", domain.trim_end_matches('.')).to_ascii_lowercase());
        let apex = apex.map_err(|error| format!("{domain:?} is no domain name: {error}"))?;
        // A tag, a service and `service` are to fit below it.
        if apex.is_root() || apex.len() > 100 {
            return Err(format!("{domain:?} is no domain name of 1 to 100 characters"));
        }
        // Also a path in etcd, for the dialect of SkyDNS.
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !apex.iter().all(|label| label.iter().all(is_plain)) {
            return Err(format!("{domain:?} has a label with something else than a-z, 0-9, '-' and '_'"));
        }
        Ok(Self { apex })
    }

    /// The domain.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// What `name` stands for, in whatever case.
    pub fn place(&self, name: &Name) -> Place {
        if !self.apex.zone_of(name) {
            return Place::Outside;
        }
        let lower = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        let mut labels: Vec<String> = name.iter().map(lower).collect();
        labels.truncate(labels.len() - self.apex.iter().count());
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            [] => Place::Apex,
            ["service" | "addr" | "ns"] => Place::EmptyNonTerminal,
            [address, "addr"] => encoded_address(address).map_or(Place::Nothing, Place::Address),
            // No service has such a name, but others are below it.
            [protocol, "service"] if protocol.starts_with('_') => Place::EmptyNonTerminal,
            // As Consul reads RFC 2782: what stands for the protocol is a tag, unless it is tcp.
            [service, protocol, "service"] if protocol.starts_with('_') => match service.strip_prefix('_') {
                Some(service) => found(service, protocol.strip_prefix('_').filter(|tag| *tag != "tcp"), true),
                None => Place::Nothing,
            },
            [service, "service"] => found(service, None, false),
            // A tag may have dots: `v1.4.mail.service.muster`.
            [tag @ .., service, "service"] => found(service, Some(&tag.join(".")), false),
            _ => Place::Nothing,
        }
    }

    /// The name that spells `address`.
    pub(super) fn name_of(&self, address: IpAddr) -> Name {
        let encoded = match address {
            IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
            IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
        };
        self.below(&[&encoded, "addr"])
    }

    /// `SOA`: who is responsible, and how long "no" is true. Its number is etcd's revision.
    pub(super) fn soa(&self, revision: i64) -> Record {
        let minimum = TTL_SECS;
        // The lower half: serial numbers wrap around (RFC 1982).
        let serial = (revision & i64::from(u32::MAX)) as u32;
        let mname = self.below(&["ns"]);
        let rname = self.below(&["hostmaster"]);
        let soa = SOA::new(mname, rname, serial, REFRESH_SECS, REFRESH_SECS, REFRESH_SECS, minimum);
        Record::from_rdata(self.apex.clone(), TTL_SECS, RData::SOA(soa))
    }

    /// `NS`: resolvers that are told where to ask do not need it; a zone has one nevertheless.
    pub(super) fn ns(&self) -> Record {
        Record::from_rdata(self.apex.clone(), TTL_SECS, RData::NS(NS(self.below(&["ns"]))))
    }

    fn below(&self, labels: &[&str]) -> Name {
        let own = Name::from_labels(labels.iter().map(|label| label.as_bytes())).expect("labels of ours are short");
        own.append_domain(&self.apex).expect("the domain leaves room for them")
    }
}

fn found(service: &str, tag: Option<&str>, srv_only: bool) -> Place {
    match service.parse() {
        Ok(service) => Place::Service { service, tag: tag.map(str::to_owned), srv_only },
        Err(_) => Place::Nothing,
    }
}

/// 8 hexadecimal digits are an IPv4 address, 32 are an IPv6 address.
fn encoded_address(address: &str) -> Option<IpAddr> {
    let digits = address.bytes().all(|b| b.is_ascii_hexdigit());
    match address.len() {
        8 if digits => u32::from_str_radix(address, 16).ok().map(|bits| Ipv4Addr::from(bits).into()),
        32 if digits => u128::from_str_radix(address, 16).ok().map(|bits| Ipv6Addr::from(bits).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        // Whatever a message may hold, not only what makes a host name.
        let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
        Zone::new("muster").unwrap().place(&Name::from_labels(labels).unwrap())
    }

    fn service(service: &str, tag: Option<&str>, srv_only: bool) -> Place {
        Place::Service { service: service.parse().unwrap(), tag: tag.map(Into::into), srv_only }
    }

    #[test]
    fn a_domain_is_shown_as_it_is_written_and_none_is_a_path_of_its_own() {
        for (domain, shown) in [("muster", "muster"), ("Discovery.Example.com.", "discovery.example.com")] {
            assert_eq!(Zone::new(domain).unwrap().to_string(), shown);
        }
        for bad in ["", ".", "a/b", "a..b", "a b", "x/../y.com", "\\/.com"] {
            assert!(Zone::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_understood_in_any_case() {
        assert_eq!(place("mail.service.muster."), service("mail", None, false));
        assert_eq!(place("MAIL.Service.MUSTER."), service("mail", None, false));
        assert_eq!(place("EU.mail.service.muster."), service("mail", Some("eu"), false));
        assert_eq!(place("v1.4.mail.service.muster."), service("mail", Some("v1.4"), false));
        assert_eq!(place("_Mail._TCP.service.muster."), service("mail", None, true));
        assert_eq!(place("service.service.muster."), service("service", None, false));
        assert_eq!(place("_web._EU.service.muster."), service("web", Some("eu"), true));
        assert_eq!(place("_web._udp.service.muster."), service("web", Some("udp"), true));
    }

    #[test]
    fn what_is_not_ours_is_outside_and_what_is_not_there_is_nothing() {
        for name in [".", "com.", "service.", "mail.service.muster.example.", "mail.service.xmuster."] {
            assert_eq!(place(name), Place::Outside, "{name}");
        }
        for name in ["x.muster.", "a.ns.muster.", "-.service.muster.", "mail._tcp.service.muster.", "a.addr.muster."] {
            assert_eq!(place(name), Place::Nothing, "{name}");
        }
        for name in ["service.muster.", "_tcp.service.muster.", "_eu.service.muster.", "addr.muster.", "ns.muster."] {
            assert_eq!(place(name), Place::EmptyNonTerminal, "{name}");
        }
        assert_eq!(place("muster."), Place::Apex);
    }

    #[test]
    fn an_address_is_read_as_it_is_spelled() {
        let zone = Zone::new("discovery.example.com.").unwrap();
        for address in ["10.0.0.5", "255.255.255.255", "::1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(zone.place(&zone.name_of(address)), Place::Address(address));
        }
        assert_eq!(place("+a000005.addr.muster."), Place::Nothing);
    }

    #[test]
    fn a_domain_that_is_none_is_refused() {
        for domain in ["", ".", "a..b", &"x".repeat(64), &"x.".repeat(60)] {
            assert!(Zone::new(domain).is_err(), "{domain:?}");
        }
    }
}
