//! Which header fields pass, and which ones are ours to write.
//!
//! Fields about the connection end here, in both directions (RFC 9110, section 7.6.1): `Connection`, everything that it
//! names, and the ones below. `Upgrade` is among them, so no request leaves its protocol on the way; tunnels (WebSocket)
//! are not forwarded yet. `Expect` is answered by us, trailers are dropped.
//!
//! What a client says about where it comes from is not believed: `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of a client
//! are replaced, also when they hide behind underscores, which CGI-like servers read as dashes. Only a client in one of the
//! trusted networks (another proxy) may speak for others; its `X-Forwarded-For` is continued.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// How we sign in `Via`.
const VIA: HeaderValue = HeaderValue::from_static("1.1 balance");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// Who the client is, as far as header fields are concerned; the same for all requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Its address, as text.
    address: HeaderValue,
    /// Whether it may speak for others.
    is_trusted: bool,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(address: IpAddr, is_trusted: bool) -> Self {
        let text = address.to_canonical().to_string();
        Self { address: HeaderValue::from_str(&text).expect("an IP address is visible ASCII"), is_trusted }
    }
}

/// Turns the fields that a client sent into those that an instance gets. `prefix` is what was cut off the path.
pub(crate) fn to_instance(headers: &mut HeaderMap, client: &Client, prefix: &HeaderValue) {
    remove(headers, |name| {
        let is_ours = *name == header::EXPECT || *name == header::PROXY_AUTHORIZATION;
        is_ours || (!client.is_trusted && is_about_the_client(name.as_str()))
    });
    if client.is_trusted {
        continue_forwarded_for(headers, &client.address);
        headers.entry(X_FORWARDED_PROTO).or_insert(HTTP);
    } else {
        headers.insert(X_FORWARDED_FOR, client.address.clone());
        headers.insert(X_FORWARDED_PROTO, HTTP);
    }
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
    headers.entry(X_FORWARDED_PREFIX).or_insert_with(|| prefix.clone());
    headers.append(header::VIA, VIA);
}

/// Turns the fields that an instance sent into those that the client gets.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    remove(headers, |_| false);
}

/// Removes the fields that end at this hop, those that `Connection` names, and `others`.
fn remove(headers: &mut HeaderMap, others: impl Fn(&HeaderName) -> bool) {
    // One walk over the few fields that are there is cheaper than a look-up for each that might be.
    let mut doomed: Vec<HeaderName> = headers.keys().filter(|name| ends_here(name) || others(name)).cloned().collect();
    if doomed.contains(&header::CONNECTION) {
        let values = headers.get_all(header::CONNECTION).iter();
        let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let named = tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok());
        // Framing is nobody's to end.
        doomed.extend(named.filter(|name| *name != header::CONTENT_LENGTH));
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// Whether a field ends at this hop, `Connection` naming it or not.
fn ends_here(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION | header::TE | header::TRAILER | header::TRANSFER_ENCODING | header::UPGRADE => true,
        _ => *name == KEEP_ALIVE || *name == PROXY_CONNECTION || *name == HTTP2_SETTINGS,
    }
}

fn is_about_the_client(name: &str) -> bool {
    let starts = |prefix: &str| {
        let bytes = name.as_bytes().iter().map(|byte| if *byte == b'_' { b'-' } else { *byte });
        name.len() >= prefix.len() && bytes.take(prefix.len()).eq(prefix.bytes())
    };
    match name.as_bytes().first() {
        Some(b'x') => starts("x-forwarded-") || (starts("x-real-ip") && name.len() == "x-real-ip".len()),
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

/// `X-Forwarded-For: <what it said>, <its own address>`, on one line.
fn continue_forwarded_for(headers: &mut HeaderMap, address: &HeaderValue) {
    let mut chain = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(address.as_bytes());
    let chain = HeaderValue::from_bytes(&chain).unwrap_or_else(|_| address.clone());
    headers.insert(X_FORWARDED_FOR, chain);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(fields: &[(&'static str, &'static str)], is_trusted: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let client = Client::new("10.0.0.9".parse().unwrap(), is_trusted);
        to_instance(&mut headers, &client, &HeaderValue::from_static("/mail"));
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    const OURS: [&str; 4] =
        ["via: 1.1 balance", "x-forwarded-for: 10.0.0.9", "x-forwarded-prefix: /mail", "x-forwarded-proto: http"];

    #[test]
    fn fields_about_the_connection_end_here_with_those_that_connection_names() {
        let fields = [
            ("connection", "close, X-Secret"),
            ("connection", "x-other,,"),
            ("x-secret", "a"),
            ("x-other", "b"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-t"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
        ];
        assert_eq!(forwarded(&fields, false), OURS);
    }

    #[test]
    fn what_a_client_says_about_itself_is_replaced() {
        let fields = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x_real_ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
        ];
        assert_eq!(forwarded(&fields, false), OURS);
    }

    #[test]
    fn a_trusted_proxy_may_speak_for_others() {
        let fields = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8"), ("x-forwarded-proto", "https")];
        let lines = forwarded(&fields, true);
        assert!(lines.contains(&"x-forwarded-for: 1.2.3.4, 5.6.7.8, 10.0.0.9".to_owned()), "{lines:?}");
        assert!(lines.contains(&"x-forwarded-proto: https".to_owned()), "{lines:?}");
    }

    #[test]
    fn everything_else_passes_and_the_host_is_told_twice() {
        let lines = forwarded(&[("host", "a:1"), ("cookie", "c"), ("x-forward", "f"), ("x-real-ipx", "r")], false);
        for line in ["host: a:1", "x-forwarded-host: a:1", "cookie: c", "x-forward: f", "x-real-ipx: r"] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
    }

    #[test]
    fn a_response_loses_its_connection_fields_and_keeps_its_length() {
        let mut headers: HeaderMap =
            [("connection", "close, content-length"), ("content-length", "5"), ("upgrade", "x")]
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
        to_client(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["content-length"]);
    }
}
