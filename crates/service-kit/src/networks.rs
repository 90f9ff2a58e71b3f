//! Networks in options: `10.0.0.0/8`, `fd00::/8`, or a single address. By `ipnet`, which has no form for the last.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads a network, or an address as the network that has no other: for `value_parser` of clap.
///
/// # Errors
/// It is neither; says what to write.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse::<IpNet>().or_else(|_| text.parse().map(|ip: IpAddr| ip.into()));
    network.map_err(|_| "it is no network; write for example 10.0.0.0/8, fd00::/8 or 192.168.1.7".to_owned())
}

/// Whether `address` is in one of `networks`. An IPv4 address mapped into IPv6, as a dual-stack socket reports it,
/// counts as IPv4.
#[must_use]
pub fn contain(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        contain(&[parse(network).unwrap()], address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.1.2.3/8", "10.255.0.1"), "bits behind the prefix are passed over");
        assert!(contains("10.0.0.7", "10.0.0.7") && !contains("10.0.0.7", "10.0.0.6"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains(" fd00::/8 ", "fdff::1") && !contains("fd00::/8", "fe80::1"));
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        for text in ["10.0.0.0/33", "ten/8", "", "10.0.0.0/", "10.0.0.0/-1", "fd00::/129", "localhost"] {
            assert!(parse(text).unwrap_err().contains("write for example 10.0.0.0/8"), "{text}");
        }
    }
}
