//! Which header fields pass, and which ones are ours to write.
//!
//! Fields about the connection end here, in both directions (RFC 9110, section 7.6.1): `Connection`, everything that it
//! names, and the ones below. `Upgrade` passes only when the request asks for a tunnel; `Expect` is answered by us,
//! trailers are dropped.
//!
//! What a client says about where it comes from is not believed: `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of a
//! client are replaced, also when they hide behind underscores, which CGI-like servers read as dashes. Only a client in
//! one of the trusted networks (another proxy) may speak for others; its `X-Forwarded-For` is continued, and a prefix
//! that it has cut off the path stays in front of ours.
//!
//! Never passed on, also from a trusted proxy: `Proxy`, `X-Original-URL` and `X-Rewrite-URL`, with which a client would
//! name an instance another proxy or another path than the gateway has judged, and every name with `_`, which CGI-like
//! servers cannot tell from one with `-`.
//!
//! Names pass as they were spelled. A field is looked at once, on its way from one buffer to the other.

use std::{borrow::Cow, net::IpAddr};

use http1::{Fields, Name, Names, write};

/// What ends at this hop, `Connection` naming it or not.
const ENDS_HERE: Names = Names::of(&[
    Name::Connection,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::Te,
    Name::Trailer,
    Name::TransferEncoding,
    Name::Upgrade,
    Name::Http2Settings,
]);

/// What is written by the gateway, or not at all: the host was judged and is written first, the ids were settled,
/// lengths are written with the framing, and of `X-Forwarded-For` one line is written for all.
const OURS_TO_INSTANCE: Names = Names::of(&[
    Name::Host,
    Name::ContentLength,
    Name::XRequestId,
    Name::Traceparent,
    Name::Tracestate,
    Name::XForwardedFor,
    Name::XForwardedPrefix,
    Name::Instruction,
    Name::Expect,
    Name::ProxyAuthorization,
]);

/// What only a trusted proxy may say of its client.
const OF_PROXIES: Names =
    Names::of(&[Name::XForwardedProto, Name::XForwardedHost, Name::XForwardedOther, Name::XRealIp, Name::Forwarded]);

/// What passes to an instance from a trusted proxy, and from any client.
const TO_INSTANCE_OF_PROXY: Names = ENDS_HERE.and(OURS_TO_INSTANCE).others();
const TO_INSTANCE: Names = ENDS_HERE.and(OURS_TO_INSTANCE).and(OF_PROXIES).others();

/// What passes to a client, unless `Connection` names it; what frames the body is written by others.
pub(crate) const TO_CLIENT: Names = ENDS_HERE.with(Name::ContentLength).with(Name::XRequestId).others();

const FORWARDED_FOR: &[u8] = b"X-Forwarded-For: ";

/// What header fields say of the client; the same for all requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `X-Forwarded-For`, with its address, as it is written for each of its requests.
    line: Box<[u8]>,
    /// Whether it may speak for others.
    is_trusted: bool,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(address: IpAddr, is_trusted: bool) -> Self {
        let address = address.to_canonical().to_string();
        Self { line: [FORWARDED_FOR, address.as_bytes(), b"\r\n"].concat().into(), is_trusted }
    }

    /// Whether it may speak for others.
    pub(crate) fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// Its address, as text.
    pub(crate) fn address(&self) -> &[u8] {
        &self.line[FORWARDED_FOR.len()..self.line.len() - 2]
    }
}

/// Writes the fields that an instance gets, but for `Host` and what frames the body. `prefix` is what was cut off the
/// path.
pub(crate) fn to_instance(out: &mut Vec<u8>, fields: &Fields<'_>, host: Option<&[u8]>, client: &Client, prefix: &[u8]) {
    let passing = if client.is_trusted { TO_INSTANCE_OF_PROXY } else { TO_INSTANCE };
    // Those of a trusted client, so that ours are not written beside them.
    let mut passed = Names::default();
    fields.write(out, |line| {
        let passes = passing.contains(line.id()) && !line.has_underscore();
        passed = if passes { passed.with(line.id()) } else { passed };
        passes
    });
    forwarded_for(out, fields, client);
    if !passed.contains(Name::XForwardedProto) {
        out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    }
    if let (Some(host), false) = (host, passed.contains(Name::XForwardedHost)) {
        write::field(out, b"X-Forwarded-Host", host);
    }
    write::field(out, b"X-Forwarded-Prefix", &full_prefix(fields, client, prefix));
    // How we sign.
    out.extend_from_slice(b"Via: 1.1 balance\r\n");
}

/// Everything that was cut off the path: by a trusted proxy, as its `X-Forwarded-Prefix` says, and then `prefix` by us.
///
/// Several lines, or a list, were cut off one after the other, as Spring's proxies write it. What is no path is left
/// out: `//` in front would lead to another host.
pub(crate) fn full_prefix<'a>(fields: &Fields<'_>, client: &Client, prefix: &'a [u8]) -> Cow<'a, [u8]> {
    if !client.is_trusted || !fields.has(Name::XForwardedPrefix) {
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
        return out.extend_from_slice(&client.line);
    }
    let mut chain = Vec::new();
    // Not the one with underscores, which no proxy writes.
    for field in fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"x-forwarded-for")) {
        chain.extend_from_slice(field.value);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(client.address());
    write::field(out, b"X-Forwarded-For", &chain);
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scan, parse_request};

    use super::*;

    fn forwarded(lines: &str, is_trusted: bool) -> Vec<String> {
        let head = format!("GET / HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
        let mut scan = Scan::default();
        let request = parse_request(head.as_bytes(), &mut scan, &Limits::default()).unwrap();
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
