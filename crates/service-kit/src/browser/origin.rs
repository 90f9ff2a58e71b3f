//! Hosts and ports, as `Host` and `Origin` write them.

/// `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Without the brackets of an IPv6 address.
    pub(super) host: &'a str,
    port: Option<&'a str>,
    /// The port that its scheme has, where a scheme is known.
    default_port: Option<&'a str>,
}

// === impl Authority ===

impl<'a> Authority<'a> {
    /// Of a `Host` field, or of a URI's authority.
    pub(super) fn of(text: &'a str) -> Self {
        let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((ip, rest)) => (ip, rest.strip_prefix(':')),
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        Self { host, port, default_port: None }
    }

    /// Of an `Origin` field; nothing for `null`, with which a browser hides where a page comes from.
    pub(super) fn of_origin(origin: &'a str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        let default_port = match scheme {
            "http" => Some("80"),
            "https" => Some("443"),
            _ => None,
        };
        Some(Self { default_port, ..Self::of(authority) })
    }

    /// Whether a page of this origin that asks for its own host sends `host`.
    pub(super) fn is(&self, host: &str) -> bool {
        let other = Authority::of(host);
        let own = self.port.or(self.default_port);
        let asked = other.port.or(self.default_port);
        self.host.eq_ignore_ascii_case(other.host) && own == asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_for_its_own_host_with_or_without_the_default_port() {
        for (origin, host, is_same) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("http://LOCALHOST:8080", "localhost:8080", true),
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost", "localhost:8080", false),
            ("https://shop.example", "shop.example", true),
            ("https://shop.example", "shop.example:443", true),
            ("http://shop.example", "shop.example:443", false),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://[::1]", "[::1]:80", true),
            ("http://evil.example", "shop.example", false),
        ] {
            assert_eq!(Authority::of_origin(origin).unwrap().is(host), is_same, "{origin} {host}");
        }
        assert_eq!(Authority::of_origin("null"), None);
    }
}
