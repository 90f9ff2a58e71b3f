//! Networks whose word about the client is believed.

use std::{fmt, net::IpAddr, str::FromStr};

/// An IP network in CIDR notation (RFC 4632, section 3.1): `10.0.0.0/8`, `::1/128`, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

// === impl Network ===

impl Network {
    /// Whether `address` is in it. An IPv4 address mapped into IPv6, as a dual-stack socket reports it, counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix_bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix_bits
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address
            .trim()
            .parse()
            .map_err(|_| format!("{address:?} is no IP address; write for example 10.0.0.0/8"))?;
        let max_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            None => max_bits,
            Some(bits) => match bits.trim().parse() {
                Ok(bits) if bits <= max_bits => bits,
                _ => return Err(format!("/{bits} is no prefix length; it must be /0 to /{max_bits}")),
            },
        };
        Ok(Self { address, prefix_bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.7", "10.0.0.7") && !contains("10.0.0.7", "10.0.0.6"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("fd00::/8", "fdff::1") && !contains("fd00::/8", "fe80::1"));
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        assert!("10.0.0.0/33".parse::<Network>().unwrap_err().contains("/0 to /32"));
        assert!("ten/8".parse::<Network>().unwrap_err().contains("10.0.0.0/8"));
    }
}
