//! What a request wants done.

/// A method. Names are case-sensitive (RFC 9110, section 9.1): `get` is [`Other`](Self::Other).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// Hand over a representation.
    Get,
    /// The same without the content: its response never has a body, whatever its fields declare.
    Head,
    /// Process the content.
    Post,
    /// Replace the resource.
    Put,
    /// Remove the resource.
    Delete,
    /// Say what is possible.
    Options,
    /// Change a part (RFC 5789).
    Patch,
    /// Echo the request. For proxies and attackers; a gateway refuses it.
    Trace,
    /// Open a tunnel. A gateway refuses it.
    Connect,
    /// Any other token.
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    /// `name` must be a token.
    pub(crate) fn of(name: &'a [u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other(name),
        }
    }

    /// As it is written in a request line.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Get => b"GET",
            Self::Head => b"HEAD",
            Self::Post => b"POST",
            Self::Put => b"PUT",
            Self::Delete => b"DELETE",
            Self::Options => b"OPTIONS",
            Self::Patch => b"PATCH",
            Self::Trace => b"TRACE",
            Self::Connect => b"CONNECT",
            Self::Other(name) => name,
        }
    }

    /// Whether it only reads (RFC 9110, section 9.2.1). Of another method nothing is known, so it is not.
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending it twice has the effect of sending it once (RFC 9110, section 9.2.2), so that a gateway may
    /// repeat it. Of another method nothing is known, so it has not.
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_read_as_it_is_written_and_its_case_counts() {
        for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get"]
        {
            assert_eq!(Method::of(name.as_bytes()).as_bytes(), name.as_bytes());
        }
        assert_eq!(Method::of(b"get"), Method::Other(b"get"));
    }

    #[test]
    fn only_what_the_rfc_lists_is_safe_or_idempotent() {
        for (name, safe, idempotent) in [
            ("GET", true, true),
            ("HEAD", true, true),
            ("OPTIONS", true, true),
            ("TRACE", true, true),
            ("PUT", false, true),
            ("DELETE", false, true),
            ("POST", false, false),
            ("PATCH", false, false),
            ("CONNECT", false, false),
            ("PROPFIND", false, false),
            ("get", false, false),
        ] {
            let method = Method::of(name.as_bytes());
            assert_eq!((method.is_safe(), method.is_idempotent()), (safe, idempotent), "{name}");
        }
    }
}
