//! The field names that a gateway acts on.

use crate::bytes::is_same_token;

/// A field name that means something on the way; any other is [`Other`](Self::Other).
///
/// Case does not matter. In `Forwarded`, `X-Real-IP` and the `X-Forwarded-*` names, `_` is read as `-`: behind a
/// CGI-like server both are one variable, and a client could say with `X_Forwarded_For` what it may not say with
/// `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub enum Name {
    Other,
    Connection,
    Host,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    Http2Settings,
    Expect,
    ProxyAuthorization,
    Via,
    Forwarded,
    XRealIp,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XForwardedPrefix,
    /// Any other field with which a proxy tells of its client: `X-Forwarded-*`, and names without a standard, as
    /// `True-Client-IP`, `Front-End-Https`, `X-Host` or `X-Script-Name`.
    XForwardedOther,
    XRequestId,
    Traceparent,
    Tracestate,
    IdempotencyKey,
    Cookie,
    SetCookie,
    Location,
    ContentLocation,
    Refresh,
    Origin,
    /// `Proxy`, `X-Original-URL` or `X-Rewrite-URL`, which some servers take for an instruction: `Proxy` becomes the
    /// variable `HTTP_PROXY` of a CGI program (CVE-2016-5385), the others go before the request target.
    Instruction,
    Date,
    Server,
    MaxForwards,
}

impl Name {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::MaxForwards as usize + 1;

    /// The field that `name`, a token, names, in any case. Length and first letter leave at most one known name to
    /// compare with.
    #[inline]
    pub(crate) fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let (known, id) = match (name.len(), first | 0x20) {
            (2, b't') => ("te", Self::Te),
            (3, b'v') => ("via", Self::Via),
            (4, b'h') => ("host", Self::Host),
            (4, b'd') => ("date", Self::Date),
            (6, b'c') => ("cookie", Self::Cookie),
            (5, b'p') => ("proxy", Self::Instruction),
            (6, b'e') => ("expect", Self::Expect),
            (6, b'o') => ("origin", Self::Origin),
            (6, b's') => ("server", Self::Server),
            (7, b'u') => ("upgrade", Self::Upgrade),
            (7, b't') => ("trailer", Self::Trailer),
            (7, b'r') => ("refresh", Self::Refresh),
            (8, b'l') => ("location", Self::Location),
            (9, b'f') => ("forwarded", Self::Forwarded),
            (10, b'c') => ("connection", Self::Connection),
            (10, b's') => ("set-cookie", Self::SetCookie),
            (10, b'k') => ("keep-alive", Self::KeepAlive),
            (10, b't') => ("tracestate", Self::Tracestate),
            (11, b't') => ("traceparent", Self::Traceparent),
            (12, b'm') => ("max-forwards", Self::MaxForwards),
            (14, b'c') => ("content-length", Self::ContentLength),
            (14, b'h') => ("http2-settings", Self::Http2Settings),
            (15, b'i') => ("idempotency-key", Self::IdempotencyKey),
            (16, b'c') if name[1] | 0x20 == b'o' => ("content-location", Self::ContentLocation),
            (16, b'p') => ("proxy-connection", Self::ProxyConnection),
            (17, b't') => ("transfer-encoding", Self::TransferEncoding),
            (19, b'p') => ("proxy-authorization", Self::ProxyAuthorization),
            (_, b'x') => return Self::of_x(name),
            (9 | 14..=16, b'c' | b'f' | b't') if of_proxies(name) => return Self::XForwardedOther,
            _ => return Self::Other,
        };
        if is_same_token(name, known.as_bytes()) { id } else { Self::Other }
    }

    /// The same for the names that begin with `X`; most are forwarding ones.
    fn of_x(name: &[u8]) -> Self {
        let (known, id) = match name.len() {
            9 => ("x-real-ip", Self::XRealIp),
            12 if is_same_token(name, b"x-request-id") => return Self::XRequestId,
            13 if is_same_token(name, b"x-rewrite-url") => return Self::Instruction,
            14 if is_same_token(name, b"x-original-url") => return Self::Instruction,
            15 => ("x-forwarded-for", Self::XForwardedFor),
            16 => ("x-forwarded-host", Self::XForwardedHost),
            17 => ("x-forwarded-proto", Self::XForwardedProto),
            18 => ("x-forwarded-prefix", Self::XForwardedPrefix),
            _ => ("", Self::Other),
        };
        if reads_as(name, known.as_bytes()) {
            id
        } else if starts_with_forwarded(name) || of_proxies(name) {
            Self::XForwardedOther
        } else {
            Self::Other
        }
    }

    /// What a gateway says of the client; from the client itself it is a claim.
    fn is_forwarding(self) -> bool {
        let forwarding = Self::Forwarded as u8..=Self::XForwardedOther as u8;
        forwarding.contains(&(self as u8))
    }

    /// Whether the field is meant for every recipient or frames the message, so that no `Connection` may end it here
    /// (RFC 9110, section 7.6.1).
    pub(crate) fn must_not_end_here(self) -> bool {
        use Name::*;
        self.is_forwarding()
            || matches!(self, Host | ContentLength | TransferEncoding | Expect | Via | MaxForwards | XRequestId)
            || matches!(self, Traceparent | Tracestate | IdempotencyKey | Cookie | SetCookie | Date)
    }
}

/// Whether a name that is no framing field could be one to a lenient server: its letters spell one, and only hyphens
/// and other signs differ, as in `Content_Length` or `TransferEncoding`.
pub(crate) fn resembles_framing(name: &[u8]) -> bool {
    // As many letters as the shorter one has.
    if name.len() < b"contentlength".len() {
        return false;
    }
    let spells = |letters: &[u8]| {
        let spelled = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        spelled.map(u8::to_ascii_lowercase).eq(letters.iter().copied())
    };
    spells(b"contentlength") || spells(b"transferencoding")
}

/// Whether it is one of the fields without a standard by which content networks and proxies tell of their client, and
/// which frameworks believe: Rails `Client-IP`, chi and others `True-Client-IP`, Flask behind a prefix `X-Script-Name`.
fn of_proxies(name: &[u8]) -> bool {
    const NAMES: [&str; 14] = [
        "client-ip",
        "true-client-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "front-end-https",
        "x-forwarded",
        "x-host",
        "x-original-host",
        "x-original-for",
        "x-original-proto",
        "x-url-scheme",
        "x-script-name",
    ];
    NAMES.iter().any(|known| reads_as(name, known.as_bytes()))
}

fn starts_with_forwarded(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    name.get(..PREFIX.len()).is_some_and(|start| reads_as(start, PREFIX))
}

/// Equal, if case does not matter and `_` is `-`.
fn reads_as(name: &[u8], lower: &[u8]) -> bool {
    let same = |(byte, lower): (&u8, &u8)| byte.eq_ignore_ascii_case(lower) || (*byte == b'_' && *lower == b'-');
    name.len() == lower.len() && name.iter().zip(lower).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_any_case() {
        for (name, id) in [
            ("TE", Name::Te),
            ("host", Name::Host),
            ("HOST", Name::Host),
            ("HTTP2-Settings", Name::Http2Settings),
            ("Proxy-Authorization", Name::ProxyAuthorization),
            ("iDEMPOTENCY-kEY", Name::IdempotencyKey),
            ("X-Forwarded-Prefix", Name::XForwardedPrefix),
            ("X-Forwarded-Client-Cert", Name::XForwardedOther),
            ("X-Forwarded-", Name::XForwardedOther),
            ("X-Forwarded", Name::XForwardedOther),
            ("true-client-ip", Name::XForwardedOther),
            ("CF-Connecting-IP", Name::XForwardedOther),
            ("x-original-host", Name::XForwardedOther),
            ("Front-End-Https", Name::XForwardedOther),
            ("proxy", Name::Instruction),
            ("X-Original-URL", Name::Instruction),
            ("x-rewrite-url", Name::Instruction),
            ("Location", Name::Location),
            ("content-location", Name::ContentLocation),
            ("Refresh", Name::Refresh),
            ("Origin", Name::Origin),
            ("Accept-Language", Name::Other),
            ("Hos", Name::Other),
            ("Hosts", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), id, "{name}");
        }
    }

    #[test]
    fn an_underscore_hides_no_forwarding_field() {
        assert_eq!(Name::of(b"X_Forwarded_For"), Name::XForwardedFor);
        assert_eq!(Name::of(b"x_real-ip"), Name::XRealIp);
        assert_eq!(Name::of(b"X-Forwarded_Port"), Name::XForwardedOther);
        assert_eq!(Name::of(b"x_request_id"), Name::Other);
    }

    #[test]
    fn a_name_that_spells_a_framing_field_in_another_way_resembles_it() {
        for name in
            ["Content_Length", "transfer_encoding", "Transfer---Encoding", "'Content-Length", "TransferEncoding~"]
        {
            assert!(resembles_framing(name.as_bytes()), "{name}");
        }
        for name in ["Content-Lengths", "X-Content-Length", "Transfer-Encodin", "Content-Language", ""] {
            assert!(!resembles_framing(name.as_bytes()), "{name}");
        }
    }
}
