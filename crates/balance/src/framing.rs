//! The gate: what two parsers could read differently does not pass.
//!
//! Request smuggling lives from two HTTP parsers that disagree where a message ends (RFC 9112, section 11.2). hyper parses
//! leniently in places; what it lets through and could be read differently is refused here, on the way in with 400, on
//! the way back with 502. What leaves is framed anew by hyper from what we understood; nothing of the peer's framing is
//! copied.
//!
//! Two things are not visible here, because hyper settles them first: a `Content-Length` beside a `Transfer-Encoding` (it
//! drops the length and closes the connection after the response), and a repeated, identical `Content-Length` (it keeps
//! one). Both forward safely; the parser of our own will refuse them.

use http::{HeaderMap, Method, StatusCode, Version, header, request::Parts};

use crate::{config::Limits, refusal::Refusal};

/// Gateways on the way so far, ourselves not counted; more can only be a loop.
const HOPS_MAX: usize = 10;

/// Judges a request's head.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn check_request(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::MethodNotAllowed);
    }
    check_target(head, limits)?;
    check_host(head)?;
    check_request_length(head, limits)?;
    check_connection(&head.headers)?;
    if let Some(expectation) = head.headers.get(header::EXPECT)
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::ExpectationFailed);
    }
    let hops = head.headers.get_all(header::VIA).iter();
    if hops.map(|via| via.as_bytes().split(|byte| *byte == b',').count()).sum::<usize>() > HOPS_MAX {
        return Err(Refusal::Loop);
    }
    Ok(())
}

fn check_target(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > limits.target_max_bytes {
        return Err(Refusal::TargetTooLong { max_bytes: limits.target_max_bytes });
    }
    // Absolute-form (RFC 9112, section 3.2.2) must be understood; its authority goes before the Host field.
    match (head.uri.scheme_str(), head.uri.authority()) {
        (None, None) => Ok(()),
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(()),
        _ => malformed("the request target must be a path, or a URL with http or https and without a user"),
    }
}

/// RFC 9112, section 3.2: exactly one in HTTP/1.1, and nothing in it that is no host.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.as_bytes().iter().all(|byte| is_host_byte(*byte)) => Ok(()),
        (Some(_), None) => malformed("Host: it must be a host name or an address, and maybe a port"),
        (None, _) if head.version < Version::HTTP_11 => Ok(()),
        (None, _) => malformed("Host: it is missing, which HTTP/1.1 does not allow"),
        (Some(_), Some(_)) => malformed("Host: it must not be there twice"),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'[' | b']' | b':')
}

fn check_request_length(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    match check_length(&head.headers) {
        Ok(Some(length)) if length > limits.body_max_bytes => {
            Err(Refusal::BodyTooLarge { max_bytes: limits.body_max_bytes })
        }
        Ok(_) => Ok(()),
        Err(what) => malformed(what),
    }
}

/// Fields that frame or route a message must not be declared to end here, or the next parser would miss them.
fn check_connection(headers: &HeaderMap) -> Result<(), Refusal> {
    let tokens = headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    for token in tokens {
        let token = token.trim_ascii();
        let is = |name: header::HeaderName| token.eq_ignore_ascii_case(name.as_str().as_bytes());
        if is(header::HOST) || is(header::CONTENT_LENGTH) || is(header::TRANSFER_ENCODING) {
            return malformed("Connection: it must not name Host, Content-Length or Transfer-Encoding");
        }
    }
    Ok(())
}

/// The length that a message declares; `None` when it declares none.
fn check_length(headers: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (codings.next(), codings.next(), lengths.next(), lengths.next()) {
        (None, _, None, _) => Ok(None),
        (None, _, Some(length), None) => match length.to_str().ok().filter(|text| is_digits(text)).map(str::parse) {
            Some(Ok(length)) => Ok(Some(length)),
            _ => Err("Content-Length: it must be one decimal number below 2^64"),
        },
        (None, _, Some(_), Some(_)) => Err("Content-Length: it must not be there twice"),
        (Some(coding), None, None, _) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(None),
        (Some(_), _, Some(_), _) => Err("Transfer-Encoding and Content-Length must not both be there"),
        (Some(_), _, None, _) => Err("Transfer-Encoding: it must be there once, and be \"chunked\""),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Judges the head of an instance's response.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn check_response(status: StatusCode, headers: &HeaderMap) -> Result<(), &'static str> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switched protocols without being asked");
    }
    check_length(headers).map(|_| ())
}

fn malformed(what: &'static str) -> Result<(), Refusal> {
    Err(Refusal::Malformed(what.into()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check_request(&request.body(()).unwrap().into_parts().0, &Limits::default())
    }

    fn is_malformed(fields: &[(&str, &str)]) -> bool {
        matches!(judge("GET", "/mail", fields), Err(Refusal::Malformed(_)))
    }

    #[test]
    fn a_usual_request_passes() {
        assert_eq!(judge("GET", "/mail?x", &[("host", "a:8080")]), Ok(()));
        assert_eq!(judge("POST", "/mail", &[("host", "[::1]:80"), ("content-length", "5")]), Ok(()));
        assert_eq!(judge("POST", "/mail", &[("host", ""), ("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(judge("GET", "http://a/mail", &[("host", "a"), ("expect", "100-Continue")]), Ok(()));
        assert_eq!(judge("GET", "/mail", &[("host", "a"), ("connection", "keep-alive, x-a, Upgrade")]), Ok(()));
    }

    #[test]
    fn framing_that_two_parsers_could_read_differently_is_refused() {
        let host = ("host", "a");
        for fields in [
            [("transfer-encoding", ",chunked")],
            [("transfer-encoding", "gzip, chunked")],
            [("transfer-encoding", "identity")],
            [("transfer-encoding", "")],
            [("content-length", "5, 5")],
            [("content-length", "+5")],
            [("content-length", "")],
            [("content-length", "18446744073709551616")],
            [("connection", "close, content-length")],
            [("connection", "Host")],
        ] {
            assert!(is_malformed(&[host, fields[0]]), "{fields:?}");
        }
        assert!(is_malformed(&[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
        assert!(is_malformed(&[host, ("transfer-encoding", "chunked"), ("content-length", "5")]));
        assert!(is_malformed(&[host, ("content-length", "5"), ("content-length", "5")]));
    }

    #[test]
    fn a_missing_double_or_impossible_host_is_refused() {
        for hosts in
            [&[][..], &[("host", "a"), ("host", "a")], &[("host", "a b")], &[("host", "a,b")], &[("host", "a@b")]]
        {
            assert!(is_malformed(hosts), "{hosts:?}");
        }
    }

    #[test]
    fn methods_for_proxies_and_foreign_expectations_are_refused() {
        assert_eq!(judge("TRACE", "/mail", &[("host", "a")]), Err(Refusal::MethodNotAllowed));
        assert_eq!(judge("CONNECT", "a:1", &[("host", "a")]), Err(Refusal::MethodNotAllowed));
        assert_eq!(judge("GET", "/mail", &[("host", "a"), ("expect", "x")]), Err(Refusal::ExpectationFailed));
    }

    #[test]
    fn limits_are_held_before_anything_is_forwarded() {
        let long = format!("/mail/{}", "x".repeat(8192));
        assert!(matches!(judge("GET", &long, &[("host", "a")]), Err(Refusal::TargetTooLong { .. })));
        let large = [("host", "a"), ("content-length", "10485761")];
        assert!(matches!(judge("POST", "/mail", &large), Err(Refusal::BodyTooLarge { .. })));
    }

    #[test]
    fn a_request_that_goes_round_in_circles_is_stopped() {
        let via = |hops: usize| vec!["1.1 balance"; hops].join(", ");
        assert_eq!(judge("GET", "/mail", &[("host", "a"), ("via", &via(10))]), Ok(()));
        assert_eq!(judge("GET", "/mail", &[("host", "a"), ("via", &via(11))]), Err(Refusal::Loop));
    }

    #[test]
    fn a_response_with_two_lengths_or_an_unasked_upgrade_is_refused() {
        let headers = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let both = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        assert!(check_response(StatusCode::OK, &both).is_err());
        assert!(check_response(StatusCode::OK, &headers(&[])).is_ok());
        assert!(check_response(StatusCode::SWITCHING_PROTOCOLS, &headers(&[])).is_err());
    }
}
