//! Where an instance listens: `10.0.0.5:7070`, `[::1]:7070`, `mail:7070`.
//!
//! An address has one spelling, whatever was given: it becomes a key and a value, and two spellings would be two
//! instances. `::ffff:10.0.0.5` (IPv4-mapped, RFC 4291 section 2.5.5.2) is `10.0.0.5`, IPv6 is written as RFC 5952 has
//! it, a name in lower case without the dot at its end.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    InstanceId,
    field_error::{FieldError, quoted},
};

/// A host name by RFC 1123 section 2.1: labels of 1 to 63 letters, digits and `-`, at most 253 bytes, in lower case and
/// without a dot at its end, which some write to say that the name is complete.
///
/// The last label is never a number, decimal or hexadecimal: `10.0.0.256`, `0x7f.1` and `2130706433` are mistyped or
/// disguised IPv4 addresses, which resolvers would happily follow (WHATWG URL, "ends in a number").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// The machine of an instance.
///
/// `Display` writes an IPv6 address without brackets, `FromStr` reads it with or without. Made by `FromStr` or `From`,
/// an IPv4-mapped IPv6 address is [`Host::V4`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// `10.0.0.5`
    V4(Ipv4Addr),
    /// `::1`, without a zone index: that means something on one machine only.
    V6(Ipv6Addr),
    /// `mail`, `mail.example.com`; resolved by the client that connects.
    Name(HostName),
}

/// Host and port of an instance. `Display` and `FromStr` use `host:port`, with brackets around IPv6 (RFC 3986 3.2.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The machine.
    pub host: Host,
    /// The TCP port, 1 to 65535.
    pub port: NonZeroU16,
}

// === impl HostName ===

impl HostName {
    /// The longest name that fits into a DNS message (RFC 1035 section 3.1, without the dot at the end).
    pub const MAX_BYTES: usize = 253;

    /// The name as text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = FieldError;

    fn from_str(name: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| Err(FieldError::new("host", format!("{} {what}", quoted(name))));
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            return Err(FieldError::new("host", "is empty; give an IP address or a host name"));
        }
        if name.len() > Self::MAX_BYTES {
            return refuse("is too long; a host name has at most 253 bytes");
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return refuse("is no host name: each part between dots has 1 to 63 characters");
            }
            if let Some(c) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-')) {
                return refuse(&format!("is no host name: {c:?} is not allowed, only letters, digits, '-' and '.'"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return refuse("is no host name: no part may start or end with '-'");
            }
        }
        let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return refuse("is neither an IPv4 address (four numbers from 0 to 255) nor a host name");
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

// === impl Host ===

impl Host {
    /// The IP address, unless this is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::V4(ip) => Some((*ip).into()),
            Self::V6(ip) => Some((*ip).into()),
            Self::Name(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = FieldError;

    fn from_str(host: &str) -> Result<Self, FieldError> {
        if let Ok(ip) = host.parse() {
            return Ok(Self::V4(ip));
        }
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(ip) = bracketed.unwrap_or(host).parse::<Ipv6Addr>() {
            return Ok(Self::from(IpAddr::V6(ip)));
        }
        if host.contains(':') {
            return Err(FieldError::new("host", format!("{} is no IPv6 address", quoted(host))));
        }
        host.parse().map(Self::Name)
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6(ip),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => ip.fmt(f),
            Self::V6(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

// === impl Address ===

impl Address {
    /// The socket address, unless the host is a name that must be resolved first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host.ip().map(|ip| SocketAddr::new(ip, self.port.get()))
    }

    /// The default id of an instance at this address: `host:port`.
    ///
    /// IPv6 goes without brackets (`::1:7070`), which an id may not have; the last `:` still separates the port.
    ///
    /// # Errors
    ///
    /// A host name of more than 122 bytes makes no id: give one by hand.
    pub fn instance_id(&self) -> Result<InstanceId, FieldError> {
        format!("{}:{}", self.host, self.port).parse().map_err(|_| {
            let host = quoted(&self.host.to_string());
            FieldError::new("instance", format!("host {host} is too long to serve as an id; give an id of its own"))
        })
    }
}

impl FromStr for Address {
    type Err = FieldError;

    fn from_str(address: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| FieldError::new("address", format!("{} {what}", quoted(address)));
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(refuse("has no port; write HOST:PORT"));
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(refuse("is ambiguous; write an IPv6 address in brackets, [::1]:7070"));
        }
        if host.starts_with('[') && !host.ends_with(']') {
            return Err(refuse("has no port; write [::1]:7070"));
        }
        let host = host.parse::<Host>().map_err(|error| error.under("address"))?;
        let port = parse_port(port).map_err(|error| error.under("address"))?;
        Ok(Self { host, port })
    }
}

impl TryFrom<SocketAddr> for Address {
    type Error = FieldError;

    /// Takes what a bound socket says; port 0, that of an unbound one, is refused.
    fn try_from(address: SocketAddr) -> Result<Self, FieldError> {
        let port = NonZeroU16::new(address.port())
            .ok_or_else(|| FieldError::new("port", "0 is not a port; give one from 1 to 65535"))?;
        Ok(Self { host: address.ip().into(), port })
    }
}

impl TryFrom<String> for Address {
    type Error = FieldError;

    fn try_from(address: String) -> Result<Self, FieldError> {
        address.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6(ip) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Reads 1 to 5 decimal digits; `u16::from_str` alone would take `+80` as well.
fn parse_port(port: &str) -> Result<NonZeroU16, FieldError> {
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let port_number = digits.then(|| port.parse().ok()).flatten();
    port_number
        .ok_or_else(|| FieldError::new("port", format!("{} is not a port; give one from 1 to 65535", quoted(port))))
}

// === impl InstanceId ===

impl InstanceId {
    /// The same id in the one spelling of the IP address and port that it consists of: `::ffff:10.0.0.5:7070` is
    /// `10.0.0.5:7070`. Any other id is a name, and stays as it is.
    ///
    /// To be asked before the id becomes a key. What is read from etcd is left alone, because it is a key already.
    #[must_use]
    pub fn in_one_spelling(self) -> Self {
        let of_address = || {
            let (ip, port) = self.as_str().rsplit_once(':')?;
            let (ip, port): (IpAddr, NonZeroU16) = (ip.parse().ok()?, port.parse().ok()?);
            Address { host: Host::from(ip), port }.instance_id().ok()
        };
        of_address().unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_were_read() {
        for address in ["10.0.0.5:7070", "[::1]:7070", "mail:7070", "mail.example.com:1", "a-b:65535"] {
            assert_eq!(address.parse::<Address>().unwrap().to_string(), address);
        }
    }

    #[test]
    fn host_names_are_case_insensitive() {
        assert_eq!("MAIL.Example:1".parse::<Address>().unwrap(), "mail.example:1".parse().unwrap());
    }

    #[test]
    fn an_address_has_one_spelling() {
        for (given, written) in [
            ("[::ffff:10.0.0.5]:7070", "10.0.0.5:7070"),
            ("[::FFFF:0a00:0005]:7070", "10.0.0.5:7070"),
            ("[0:0:0:0:0:ffff:10.0.0.5]:07070", "10.0.0.5:7070"),
            ("[2001:0DB8:0:0:0:0:0:01]:80", "[2001:db8::1]:80"),
            ("MAIL.Example.:1", "mail.example:1"),
        ] {
            let address: Address = given.parse().unwrap();
            assert_eq!(address.to_string(), written);
            assert_eq!(address, written.parse().unwrap());
        }
        let bound: SocketAddr = "[::ffff:10.0.0.5]:7070".parse().unwrap();
        assert_eq!(Address::try_from(bound).unwrap(), "10.0.0.5:7070".parse().unwrap());
        assert_eq!("::ffff:10.0.0.5".parse::<Host>().unwrap(), "10.0.0.5".parse().unwrap());
    }

    #[test]
    fn disguised_and_mistyped_addresses_are_refused() {
        let long_label = format!("{}:1", "x".repeat(64));
        let long_name = format!("{}x:1", "x.".repeat(127));
        for address in [
            "",
            ":",
            "mail",
            "mail:",
            ":7070",
            "mail:0",
            "mail:65536",
            "mail:+80",
            "mail:8 0",
            "mail:7070x",
            "::1:7070",
            "[::1]",
            "[::1:7070",
            "[::1%eth0]:1",
            "[mail]:1",
            "10.0.0.256:1",
            "10.1:1",
            "010.0.0.1:1",
            "0x7f.1:1",
            "0x7f000001:1",
            "2130706433:1",
            "a..b:1",
            ".a:1",
            "a..:1",
            ".:1",
            "10.0.0.256.:1",
            "-a:1",
            "a-:1",
            "a_b:1",
            "a b:1",
            "a/b:1",
            "user@mail:1",
            "mail:1/path",
            "ä:1",
            "a\0:1",
            &long_label,
            &long_name,
        ] {
            let error = address.parse::<Address>().unwrap_err();
            assert_eq!(error.field, "address", "{address:?}");
        }
    }

    #[test]
    fn the_default_id_is_host_and_port_and_ipv6_loses_its_brackets() {
        let id = |address: &str| address.parse::<Address>().unwrap().instance_id();
        assert_eq!(id("10.0.0.5:7070").unwrap().as_str(), "10.0.0.5:7070");
        assert_eq!(id("[2001:db8::1]:80").unwrap().as_str(), "2001:db8::1:80");
        assert_eq!(id("[::ffff:10.0.0.5]:7070").unwrap().as_str(), "10.0.0.5:7070");
        assert_eq!(id(&format!("{}x:1", "x.".repeat(80))).unwrap_err().field, "instance");
    }
}
