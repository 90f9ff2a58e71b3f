//! `Host` and the authority of a target: `uri-host [ ":" port ]` (RFC 9110, section 7.2).

use std::{net::Ipv6Addr, str};

use crate::bytes::{host_end, is_host_byte};

/// Whether `host` is a name or an address, and maybe a port up to 65535.
///
/// Narrower than RFC 3986: no empty name (RFC 9110, section 4.2.1), no user, no sub-delimiters. A comma would be a list
/// to some, and an `@` a user.
pub(crate) fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => is_ipv6(&rest[..end]) && is_port_part(&rest[end + 1..]),
            None => false,
        },
        _ => {
            let end = host_end(host, 0);
            match host.get(end) {
                Some(b'%') => has_name_and_port(host),
                _ => end > 0 && is_port_part(&host[end..]),
            }
        }
    }
}

/// The same for a name in which bytes are written in percent signs.
fn has_name_and_port(host: &[u8]) -> bool {
    let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
    is_name(&host[..end]) && is_port_part(&host[end..])
}

/// An IPv4 address has the form of a name.
fn is_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_host_byte(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_ipv6(address: &[u8]) -> bool {
    str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and the digits of a port. RFC 3986 lets them be missing.
fn is_port_part(part: &[u8]) -> bool {
    match part {
        [] => true,
        [b':', digits @ ..] => {
            // Five digits fit, whatever they are.
            let port = |port: u32, byte: &u8| port * 10 + u32::from(byte.wrapping_sub(b'0'));
            digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && digits.iter().fold(0, port) <= 65535
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_hosts() {
        for host in
            ["a", "a.example", "A-b_c~d.", "a%2Eb", "10.0.0.5", "10.0.0.5:80", "[::1]", "[::1]:8080", "a:", "a:65535"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for host in [
            "",
            ":80",
            "a b",
            "a,b",
            "u@a",
            "a/b",
            "a?b",
            "a#b",
            "a:b",
            "a:65536",
            "a:080808",
            "a:-1",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]a",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "a%2",
            "a%zz",
            "a!",
            "a\\b",
            "a\u{e9}",
            "a;b",
            "a'",
            "a\"",
            "{a}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
