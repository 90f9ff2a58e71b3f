//! Which header fields pass, and which ones are ours to write.
//!
//! Fields about the connection end here, in both directions (RFC 9110, section 7.6.1): `Connection`, everything that it
//! names, and the ones below. `Upgrade` passes only when the request asks for a tunnel; `Expect` is answered by us,
//! trailers are dropped.
//!
//! What a client says about where it comes from is not believed: `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of a client
//! are replaced, also when they hide behind underscores, which CGI-like servers read as dashes. Only a client in one of the
//! trusted networks (another proxy) may speak for others; its `X-Forwarded-For` is continued, and a prefix that it has cut off
//! the path stays in front of ours.
//!
//! Never passed on, also from a trusted proxy: `Proxy`, `X-Original-URL` and `X-Rewrite-URL`, with which a client would
//! name an instance another proxy or another path than the gateway has judged, and every name with `_`, which CGI-like
//! servers cannot tell from one with `-`.
//!
//! Names pass as they were spelled. A field is looked at once, on its way from one buffer to the other.

use std::{borrow::Cow, net::IpAddr};

use http1::{Field, Fields, Name, One, write};

/// How we sign in `Via`.
const VIA: &[u8] = b"1.1 balance";

/// What header fields say of the client; the same for all requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Its address, as text.
    address: Box<[u8]>,
    /// Whether it may speak for others.
    is_trusted: bool,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(address: IpAddr, is_trusted: bool) -> Self {
        Self { address: address.to_canonical().to_string().into_bytes().into(), is_trusted }
    }

    /// Whether it may speak for others.
    pub(crate) fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Its address, as text.
    pub(crate) fn address(&self) -> &[u8] {
        &self.address
    }
}

/// Writes the fields that an instance gets, but for `Host` and what frames the body. `prefix` is what was cut off the path.
pub(crate) fn to_instance(out: &mut Vec<u8>, fields: &Fields<'_>, host: Option<&[u8]>, client: &Client, prefix: &[u8]) {
    let mut passed = Passed::default();
    for field in fields.iter() {
        if passes_to_instance(&field, client, &mut passed) && !fields.is_named_by_connection(field.name) {
            field.write(out);
        }
    }
    forwarded_for(out, fields, client);
    if !passed.proto {
        write::field(out, b"X-Forwarded-Proto", b"http");
    }
    if let (Some(host), false) = (host, passed.host) {
        write::field(out, b"X-Forwarded-Host", host);
    }
    write::field(out, b"X-Forwarded-Prefix", &full_prefix(fields, client, prefix));
    write::field(out, b"Via", VIA);
}

/// Which fields of a trusted client have passed, so that ours are not written beside them.
#[derive(Default)]
struct Passed {
    proto: bool,
    host: bool,
}

fn passes_to_instance(field: &Field<'_>, client: &Client, passed: &mut Passed) -> bool {
    match field.id {
        Name::Other => !field.has_underscore(),
        Name::Cookie | Name::Date | Name::Via | Name::IdempotencyKey => true,
        // The host was judged and is written first, the ids were settled, lengths are written with the framing, and of
        // `X-Forwarded-For` one line is written for all.
        Name::Host
        | Name::ContentLength
        | Name::XRequestId
        | Name::Traceparent
        | Name::Tracestate
        | Name::XForwardedFor
        | Name::XForwardedPrefix
        | Name::Instruction
        | Name::Expect
        | Name::ProxyAuthorization => false,
        Name::XForwardedProto => !field.has_underscore() && note(&mut passed.proto, client),
        Name::XForwardedHost => !field.has_underscore() && note(&mut passed.host, client),
        Name::XForwardedOther | Name::XRealIp | Name::Forwarded => client.is_trusted && !field.has_underscore(),
        name => !ends_here(name),
    }
}

fn note(passed: &mut bool, client: &Client) -> bool {
    *passed |= client.is_trusted;
    client.is_trusted
}

/// Everything that was cut off the path: by a trusted proxy, as its `X-Forwarded-Prefix` says, and then `prefix` by us.
///
/// Several lines, or a list, were cut off one after the other, as Spring's proxies write it. What is no path is left out:
/// `//` in front would lead to another host.
pub(crate) fn full_prefix<'a>(fields: &Fields<'_>, client: &Client, prefix: &'a [u8]) -> Cow<'a, [u8]> {
    if !client.is_trusted || fields.get(Name::XForwardedPrefix) == One::Absent {
        return Cow::Borrowed(prefix);
    }
    let lines = fields.iter().filter(|field| field.id == Name::XForwardedPrefix && !field.has_underscore());
    let parts = lines.flat_map(|line| line.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut full = Vec::new();
    for part in parts.map(|part| part.strip_suffix(b"/").unwrap_or(part)).filter(|part| !part.is_empty()) {
        let is_visible = part.iter().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>;".contains(byte));
        if part[0] != b'/' || part.starts_with(b"//") || !is_visible {
            return Cow::Borrowed(prefix);
        }
        full.extend_from_slice(part);
    }
    full.extend_from_slice(prefix);
    Cow::Owned(full)
}

/// `X-Forwarded-For: <what a trusted client said>, <its own address>`, on one line.
fn forwarded_for(out: &mut Vec<u8>, fields: &Fields<'_>, client: &Client) {
    if !client.is_trusted {
        return write::field(out, b"X-Forwarded-For", &client.address);
    }
    let mut chain = Vec::new();
    // Not the one with underscores, which no proxy writes.
    for field in fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"x-forwarded-for")) {
        chain.extend_from_slice(field.value);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(&client.address);
    write::field(out, b"X-Forwarded-For", &chain);
}

/// Whether a field of an instance's response passes to the client; what frames the body is written by others.
pub(crate) fn passes_to_client(field: &Field<'_>, fields: &Fields<'_>) -> bool {
    match field.id {
        Name::ContentLength | Name::XRequestId => false,
        Name::Other => !fields.is_named_by_connection(field.name),
        name => !ends_here(name) && !fields.is_named_by_connection(field.name),
    }
}

/// Whether a field ends at this hop, `Connection` naming it or not.
fn ends_here(name: Name) -> bool {
    matches!(
        name,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Te
            | Name::Trailer
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::Http2Settings
    )
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scratch, parse_request};

    use super::*;

    fn forwarded(lines: &str, is_trusted: bool) -> Vec<String> {
        let head = format!("GET / HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
        let mut scratch = Scratch::default();
        let request = parse_request(head.as_bytes(), &mut scratch, &Limits::default()).unwrap();
        let client = Client::new("10.0.0.9".parse().unwrap(), is_trusted);
        let mut out = Vec::new();
        to_instance(&mut out, &request.fields, request.host, &client, b"/mail");
        let mut lines: Vec<String> =
            String::from_utf8(out).unwrap().split_terminator("\r\n").map(str::to_ascii_lowercase).collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 5] = [
        "via: 1.1 balance",
        "x-forwarded-for: 10.0.0.9",
        "x-forwarded-host: a:1",
        "x-forwarded-prefix: /mail",
        "x-forwarded-proto: http",
    ];

    #[test]
    fn fields_about_the_connection_end_here_with_those_that_connection_names() {
        let lines = "Connection: close, X-Secret\r\nConnection: x-other,,\r\nX-Secret: a\r\nx-other: b\r\n\
                     Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x-t\r\n\
                     Upgrade: h2c\r\nHTTP2-Settings: AAA\r\nExpect: 100-continue\r\nProxy-Authorization: Basic x\r\n";
        assert_eq!(forwarded(lines, false), OURS);
    }

    #[test]
    fn what_a_client_says_about_itself_is_replaced() {
        let lines = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
                     X-Forwarded-Port: 443\r\nX-Forwarded-Ssl: on\r\nFront-End-Https: on\r\nX-Host: evil\r\n\
                     True-Client-IP: 1.2.3.4\r\nX-Forwarded: for=1.2.3.4\r\nX-Script-Name: /x\r\nX_Forwarded_For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX_Real_IP: 1.2.3.4\r\n\
                     Forwarded: for=1.2.3.4\r\n";
        assert_eq!(forwarded(lines, false), OURS);
    }

    #[test]
    fn a_trusted_proxy_may_speak_for_others() {
        let lines = "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n";
        let lines = forwarded(lines, true);
        assert!(lines.contains(&"x-forwarded-for: 1.2.3.4, 5.6.7.8, 10.0.0.9".to_owned()), "{lines:?}");
        assert!(lines.contains(&"x-forwarded-proto: https".to_owned()), "{lines:?}");
        assert!(!lines.contains(&"x-forwarded-proto: http".to_owned()), "{lines:?}");
    }

    #[test]
    fn what_a_trusted_proxy_has_cut_off_stays_in_front() {
        let prefix =
            |lines| forwarded(lines, true).into_iter().find(|line| line.starts_with("x-forwarded-prefix")).unwrap();
        for (line, expected) in [
            ("", "/mail"),
            ("X-Forwarded-Prefix: /api\r\n", "/api/mail"),
            ("X-Forwarded-Prefix: /api/\r\n", "/api/mail"),
            ("X-Forwarded-Prefix: /\r\n", "/mail"),
            ("X-Forwarded-Prefix: /a, /b\r\nX-Forwarded-Prefix: /c\r\n", "/a/b/c/mail"),
            ("X-Forwarded-Prefix: //evil.example\r\n", "/mail"),
            ("X-Forwarded-Prefix: https://evil.example\r\n", "/mail"),
            ("X-Forwarded-Prefix: /a?b\r\n", "/mail"),
            ("X_Forwarded_Prefix: /api\r\n", "/mail"),
        ] {
            assert_eq!(prefix(line), format!("x-forwarded-prefix: {expected}"), "{line}");
        }
        assert_eq!(forwarded("X-Forwarded-Prefix: /api\r\n", false), OURS);
    }

    #[test]
    fn what_servers_take_for_an_instruction_or_another_name_ends_here_whoever_says_it() {
        let lines = "Proxy: http://evil\r\nX-Original-URL: /admin\r\nX-Rewrite-Url: /admin\r\nX_User: root\r\n\
                     SCRIPT_NAME: /x\r\nX_Forwarded_Proto: https\r\n";
        assert_eq!(forwarded(lines, false), OURS);
        assert_eq!(forwarded(lines, true), OURS);
    }

    #[test]
    fn everything_else_passes() {
        let lines = forwarded("Cookie: c\r\nX-Forward: f\r\nX-Real-IPx: r\r\nConnection: keep-alive\r\n", false);
        for line in ["cookie: c", "x-forward: f", "x-real-ipx: r"] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
        assert_eq!(lines.len(), OURS.len() + 3);
    }
}
