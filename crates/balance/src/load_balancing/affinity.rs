//! What a request says about which instance it should go to: the value that its service hashes, and its sticky cookie.

use discovery::policy::{HashOn, Policy, Strategy};
use http1::{Fields, Name, Request};

use crate::{hash, message::headers::Client};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    /// Requests with the same number go to the same instance.
    pub(crate) hash: Option<u64>,
    /// The value of the sticky cookie.
    pub(crate) sticky: Option<Box<[u8]>>,
}

/// Reads from a request what `policy` wants to know.
pub(crate) fn of(policy: &Policy, request: &Request<'_>, client: &Client) -> Affinity {
    let balancing = &policy.load_balancing;
    let hash = match (&balancing.policy, &balancing.hash_on) {
        (Strategy::Hash, Some(HashOn::Header(name))) => header(&request.fields, name.as_bytes()).map(hash::hash),
        (Strategy::Hash, Some(HashOn::Cookie(name))) => cookie(&request.fields, name.as_bytes()).map(hash::hash),
        (Strategy::Hash, Some(HashOn::ClientAddress)) => Some(hash::hash(client.address())),
        _ => None,
    };
    let sticky = balancing.sticky.as_ref().and_then(|sticky| cookie(&request.fields, sticky.cookie.as_bytes()));
    Affinity { hash, sticky: sticky.map(Into::into) }
}

fn header<'a>(fields: &Fields<'a>, name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a cookie (RFC 6265, section 4.2.1); the first, if it is there several times.
fn cookie<'a>(fields: &Fields<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let lines = fields.iter().filter(|field| field.id == Name::Cookie);
    let pairs = lines.flat_map(|field| field.value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs
        .filter_map(|pair| pair.split_at_checked(name.len())?.1.strip_prefix(b"=").filter(|_| pair.starts_with(name)))
        .next()
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scan, parse_request};

    use super::*;

    fn choice(policy: &str, lines: &str) -> Affinity {
        let document: discovery::policy::PolicyDocument = policy.parse().unwrap();
        let policy = document.over(&Policy::default()).unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scan = Scan::default();
        let request = parse_request(head.as_bytes(), &mut scan, &Limits::default()).unwrap();
        of(&policy, &request, &Client::new("10.0.0.9".parse().unwrap(), false))
    }

    const BY_COOKIE: &str = r#"{"load_balancing": {"policy": "hash", "hash_on": {"cookie": "session"}}}"#;

    #[test]
    fn a_request_is_told_apart_by_what_the_policy_says() {
        assert!(choice("{}", "Cookie: session=1\r\n").hash.is_none());
        assert_eq!(choice(BY_COOKIE, "Cookie: a=b; session=1\r\n").hash, Some(hash::hash(b"1")));
        assert_eq!(choice(BY_COOKIE, "Cookie: xsession=1; sessionx=2\r\n").hash, None);
        let by_header = r#"{"load_balancing": {"policy": "hash", "hash_on": {"header": "X-User"}}}"#;
        assert_eq!(choice(by_header, "x-user: 7\r\n").hash, Some(hash::hash(b"7")));
        let by_address = r#"{"load_balancing": {"policy": "hash", "hash_on": "client_address"}}"#;
        assert_eq!(choice(by_address, "").hash, Some(hash::hash(b"10.0.0.9")));
    }

    #[test]
    fn the_sticky_cookie_is_found_among_others() {
        let policy = r#"{"load_balancing": {"sticky": {"cookie": "at"}}}"#;
        assert_eq!(choice(policy, "Cookie: cat=1;at=abc ; b=c\r\n").sticky.as_deref(), Some(&b"abc"[..]));
        assert_eq!(choice(policy, "").sticky, None);
    }
}
