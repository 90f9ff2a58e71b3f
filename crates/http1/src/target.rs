//! What a request is for (RFC 9112, section 3.2).

use crate::{framing::malformed, host::is_host, method::Method, refusal::Refusal};

/// A request target. Only visible ASCII without `#` is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The usual form: a path that begins with `/`, and maybe a query.
    Origin(&'a [u8]),
    /// A whole URL, `http` or `https`, as clients send it to a proxy; or what `CONNECT` names.
    Absolute {
        /// The host and maybe a port, without a user. It goes before the `Host` field (RFC 9112, section 3.2.2).
        authority: &'a [u8],
        /// Begins with `/`, or with `?` where the URL has a query and no path. `/` where it has neither.
        path_and_query: &'a [u8],
    },
    /// `*`: the server as a whole. `OPTIONS` only.
    Asterisk,
}

impl<'a> Target<'a> {
    /// `target` has been checked for its bytes.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`] for a form that the method does not have, another scheme, or an authority that is no
    /// host.
    pub(crate) fn parse(target: &'a [u8], method: Method<'_>) -> Result<Self, Refusal> {
        match target {
            _ if method == Method::Connect => Self::parse_authority(target),
            [b'/', ..] => Ok(Self::Origin(target)),
            b"*" if method == Method::Options => Ok(Self::Asterisk),
            b"*" => malformed("the request target: * is for OPTIONS only"),
            _ => Self::parse_absolute(target),
        }
    }

    fn parse_absolute(target: &'a [u8]) -> Result<Self, Refusal> {
        let Some(rest) = strip_scheme(target) else {
            return malformed("the request target: it must be a path that begins with /, or a URL with http or https");
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        if !is_host(authority) {
            return malformed("the request target: its URL must have a host, and no user");
        }
        Ok(Self::Absolute { authority, path_and_query: if path_and_query.is_empty() { b"/" } else { path_and_query } })
    }

    fn parse_authority(target: &'a [u8]) -> Result<Self, Refusal> {
        if is_host(target) {
            Ok(Self::Absolute { authority: target, path_and_query: b"/" })
        } else {
            malformed("the request target: for CONNECT it must be a host and a port")
        }
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let strip = |scheme: &str| match target.split_at_checked(scheme.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(scheme.as_bytes()) => Some(rest),
        _ => None,
    };
    strip("http://").or_else(|| strip("https://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Result<Target<'_>, Refusal> {
        Target::parse(target.as_bytes(), Method::Get)
    }

    #[test]
    fn a_path_a_url_and_the_asterisk_are_targets() {
        assert_eq!(parse("/a?b"), Ok(Target::Origin(b"/a?b")));
        let absolute = |authority, path_and_query| Ok(Target::Absolute { authority, path_and_query });
        assert_eq!(parse("HTTP://a:80/b?c"), absolute(b"a:80".as_slice(), b"/b?c".as_slice()));
        assert_eq!(parse("https://a"), absolute(b"a", b"/"));
        assert_eq!(parse("http://a?b"), absolute(b"a", b"?b"));
        assert_eq!(Target::parse(b"*", Method::Options), Ok(Target::Asterisk));
        assert_eq!(Target::parse(b"a:443", Method::Connect), absolute(b"a:443", b"/"));
    }

    #[test]
    fn other_schemes_users_and_forms_are_refused() {
        for target in
            ["", "*", "a:443", "a", "ftp://a/", "file:///a", "http:///a", "http://u@a/", "http://a b", "http:/a", "?a"]
        {
            assert!(parse(target).is_err(), "{target}");
        }
        assert!(Target::parse(b"/a", Method::Connect).is_err());
        assert!(Target::parse(b"*x", Method::Options).is_err());
    }
}
