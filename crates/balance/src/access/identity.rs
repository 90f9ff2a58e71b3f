//! Who the client is, as far as it has shown, and how the instance learns it.
//!
//! | field | says |
//! |---|---|
//! | `X-Auth-Method` | what let the client in: `key`, `jwt`, `basic`, `network` or `forward` |
//! | `X-Auth-Subject` | who it is: the id of the key, the token's subject, the name, the network |
//! | those of the policy | claims of the token; what the service said that was asked |
//!
//! For a service that asks for anything, a client's own fields of these names end at the gateway on every path, public
//! ones included: an instance may rely on them.

use std::sync::Arc;

use http1::write;

/// What let the client in.
pub(crate) const METHOD_FIELD: &str = "X-Auth-Method";
/// Who it is.
pub(crate) const SUBJECT_FIELD: &str = "X-Auth-Subject";

/// Who a client is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    /// What has let it in.
    pub(crate) method: &'static str,
    /// Its name there; empty where there is none.
    pub(crate) subject: Arc<str>,
    /// What else is sent to the instance, as it may stand in a field.
    pub(crate) fields: Vec<(Arc<str>, String)>,
    /// Claims that are wanted later, as JSON.
    pub(crate) claims: Vec<(Arc<str>, String)>,
    /// The hash of the API key that it has shown, by which can be seen later whether that is in force.
    pub(crate) key: Option<[u8; 32]>,
}

// === impl Identity ===

impl Identity {
    pub(crate) fn new(method: &'static str, subject: &str) -> Self {
        Self { method, subject: subject.into(), fields: Vec::new(), claims: Vec::new(), key: None }
    }

    /// Writes what is sent to the instance.
    fn write(&self, head: &mut Vec<u8>) {
        write::field(head, METHOD_FIELD.as_bytes(), self.method.as_bytes());
        if !self.subject.is_empty() {
            write::field(head, SUBJECT_FIELD.as_bytes(), visible(&self.subject).as_bytes());
        }
        for (name, value) in &self.fields {
            write::field(head, name.as_bytes(), value.as_bytes());
        }
    }
}

/// Takes the fields that `names` gives out of a head that is not complete yet (its request line, then field lines), and
/// says who the client is instead.
pub(crate) fn replace<N: AsRef<str>, I: Iterator<Item = N>>(
    head: &mut Vec<u8>,
    names: impl Fn() -> I,
    identity: Option<&Identity>,
) {
    let mut at = line_end(head, 0);
    while at < head.len() {
        let end = line_end(head, at);
        let colon = head[at..end].iter().position(|byte| *byte == b':').unwrap_or(0);
        let name = &head[at..at + colon];
        if names().any(|stripped| is_read_as(name, stripped.as_ref().as_bytes())) {
            head.drain(at..end);
        } else {
            at = end;
        }
    }
    if let Some(identity) = identity {
        identity.write(head);
    }
}

/// Whether some server reads a field called `name` as `other`: for CGI a name is written in capitals, by some servers
/// with `_` for every sign in it, so that `X.Auth.Subject` becomes `HTTP_X_AUTH_SUBJECT` like `X-Auth-Subject`.
fn is_read_as(name: &[u8], other: &[u8]) -> bool {
    let is_sign = |byte: &u8| !byte.is_ascii_alphanumeric();
    let is_same = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (is_sign(a) && is_sign(b));
    name.len() == other.len() && name.iter().zip(other).all(is_same)
}

/// Where the line that begins at `at` ends, its line break included.
fn line_end(head: &[u8], at: usize) -> usize {
    head[at..].iter().position(|byte| *byte == b'\n').map_or(head.len(), |end| at + end + 1)
}

/// A value as it may stand in a field: what is not visible ASCII, and `%`, as `%XX` (RFC 3986, section 2.1).
pub(crate) fn visible(value: &str) -> std::borrow::Cow<'_, str> {
    let is_plain = |byte: &u8| (byte.is_ascii_graphic() && *byte != b'%') || *byte == b' ';
    if value.as_bytes().iter().all(is_plain) && value.trim() == value {
        return value.into();
    }
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            byte if byte.is_ascii_graphic() && byte != b'%' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(head: &str, names: &[&str], identity: Option<&Identity>) -> String {
        let mut head = head.as_bytes().to_vec();
        let names: Vec<Arc<str>> = names.iter().map(|name| (*name).into()).collect();
        replace(&mut head, || names.iter(), identity);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn what_a_client_says_about_itself_is_replaced_whatever_its_case() {
        let head = "GET /x-auth-subject: HTTP/1.1\r\nHost: a\r\nx-AUTH-subject: root\r\nX-Auth-Subjects: b\r\nX-Auth-Subject: root\r\n";
        let identity = Identity::new("key", "ci");
        let expected = "GET /x-auth-subject: HTTP/1.1\r\nHost: a\r\nX-Auth-Subjects: b\r\nX-Auth-Method: key\r\nX-Auth-Subject: ci\r\n";
        assert_eq!(replaced(head, &[SUBJECT_FIELD], Some(&identity)), expected);
    }

    #[test]
    fn no_name_passes_that_some_server_reads_as_one_of_ours() {
        for name in ["X_Auth_Subject", "X.Auth.Subject", "x~auth-SUBJECT", "X-Auth!Subject"] {
            assert_eq!(
                replaced(&format!("GET / HTTP/1.1\r\n{name}: root\r\n"), &[SUBJECT_FIELD], None),
                "GET / HTTP/1.1\r\n"
            );
        }
        let other = "GET / HTTP/1.1\r\nXxAuth-Subject: a\r\n";
        assert_eq!(replaced(other, &[SUBJECT_FIELD], None), other);
    }

    #[test]
    fn no_value_ends_its_line_or_reads_like_another() {
        let identity = Identity::new("jwt", "a\r\nX-Admin: 1");
        assert!(replaced("", &[], Some(&identity)).ends_with("X-Auth-Subject: a%0D%0AX-Admin:%201\r\n"));
        assert_eq!((&*visible("ann b"), &*visible(" a"), &*visible("50%")), ("ann b", "%20a", "50%25"));
        assert_eq!(visible("é"), "%C3%A9");
    }
}
