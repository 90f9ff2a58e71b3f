//! What is read out of a response's head.

use http1::{Framing, Method, Refusal, Version};

use crate::read::{response, response_to};

/// How a response with this status and these lines is framed.
fn framing(method: Method<'_>, status: u16, fields: &str) -> Result<Framing, Refusal> {
    let bytes = format!("HTTP/1.1 {status} x\r\n{fields}\r\n");
    response_to(method, bytes.as_bytes(), |response| response.framing)
}

#[test]
fn a_response_is_read_into_its_parts() {
    let bytes = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nServer: x\r\n\r\n";
    response(bytes, |response| {
        assert_eq!((response.version, response.status), (Version::Http11, 404));
        assert_eq!(response.reason, b"Not Found");
        assert_eq!((response.framing, response.declared_length), (Framing::Length(5), Some(5)));
        assert_eq!((response.fields.len(), response.keep_alive, response.upgrade), (2, true, None));
    })
    .unwrap();
}

#[test]
fn a_reason_may_be_empty_absent_or_foreign() {
    let reason = |bytes: &[u8]| response(bytes, |response| response.reason.to_vec());
    assert_eq!(reason(b"HTTP/1.1 200 \r\n\r\n"), Ok(vec![]));
    assert_eq!(reason(b"HTTP/1.1 200\r\n\r\n"), Ok(vec![]));
    assert_eq!(reason("HTTP/1.1 200 süß\tja\r\n\r\n".as_bytes()), Ok("süß\tja".into()));
    for bytes in [&b"HTTP/1.1 200 a\0b\r\n\r\n"[..], b"HTTP/1.1 200 a\rb\r\n\r\n", b"HTTP/1.1 200 a\n\r\n"] {
        assert!(reason(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_status_is_three_digits_from_100() {
    for status in ["099", "20", "2000", "+20", "2 0", "", "20x", "0x1"] {
        let bytes = format!("HTTP/1.1 {status} OK\r\n\r\n");
        assert!(response(bytes.as_bytes(), |_| ()).is_err(), "{status}");
    }
    for status in [100, 199, 200, 599, 999] {
        let bytes = format!("HTTP/1.1 {status} OK\r\n\r\n");
        assert_eq!(response(bytes.as_bytes(), |response| response.status), Ok(status));
    }
}

#[test]
fn another_start_is_refused() {
    let refused = |bytes: &[u8]| response(bytes, |_| ()).unwrap_err();
    assert_eq!(refused(b"HTTP/2.0 200 OK\r\n\r\n"), Refusal::UnsupportedVersion);
    for bytes in [
        &b"HTTP/2 200 OK\r\n\r\n"[..],
        b"http/1.1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1\t200 OK\r\n\r\n",
        b"HTTP/1.1 200\tOK\r\n\r\n",
        b"\r\n\r\n",
        b"\n",
    ] {
        assert!(matches!(refused(bytes), Refusal::Malformed(_)), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_response_without_content_has_no_body_whatever_it_declares() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for fields in ["", length, chunked] {
        assert_eq!(framing(Method::Head, 200, fields), Ok(Framing::Empty), "HEAD {fields}");
        assert_eq!(framing(Method::Get, 304, fields), Ok(Framing::Empty), "304 {fields}");
    }
    for status in [100, 101, 103, 204] {
        assert_eq!(framing(Method::Get, status, ""), Ok(Framing::Empty), "{status}");
        assert_eq!(framing(Method::Get, status, "Content-Length: 0\r\n"), Ok(Framing::Empty), "{status}");
        assert!(framing(Method::Get, status, length).is_err(), "{status} with a length");
        assert!(framing(Method::Get, status, chunked).is_err(), "{status} in chunks");
    }
}

#[test]
fn the_length_that_a_head_request_asks_for_is_told() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let length = response_to(Method::Head, bytes, |response| (response.declared_length, response.keep_alive));
    assert_eq!(length, Ok((Some(500), true)));
}

#[test]
fn a_body_without_a_declared_end_lasts_until_the_peer_closes() {
    let keep = |bytes: &[u8]| response(bytes, |response| (response.framing, response.keep_alive));
    assert_eq!(keep(b"HTTP/1.1 200 OK\r\n\r\n"), Ok((Framing::UntilClose, false)));
    assert_eq!(keep(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"), Ok((Framing::UntilClose, false)));
    let kept = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(keep(kept), Ok((Framing::Empty, true)));
    assert_eq!(keep(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), Ok((Framing::Empty, false)));
    assert_eq!(framing(Method::Connect, 200, "Content-Length: 5\r\n"), Ok(Framing::UntilClose), "a tunnel");
    assert_eq!(framing(Method::Connect, 405, "Content-Length: 5\r\n"), Ok(Framing::Length(5)));
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused_on_the_way_back_too() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n b\r\n",
        "Connection: Content-Length\r\n",
    ] {
        assert!(matches!(framing(Method::Get, 200, fields), Err(Refusal::Malformed(_))), "{fields:?}");
        assert!(matches!(framing(Method::Head, 200, fields), Err(Refusal::Malformed(_))), "HEAD {fields:?}");
    }
    assert_eq!(framing(Method::Get, 200, "Transfer-Encoding: gzip\r\n"), Err(Refusal::UnsupportedCoding));
    assert!(response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", |_| ()).is_err());
}

#[test]
fn only_a_101_switches() {
    let switched = |status: u16| {
        let bytes = format!("HTTP/1.1 {status} x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        response(bytes.as_bytes(), |response| response.upgrade.map(<[u8]>::to_vec)).unwrap()
    };
    assert_eq!(switched(101).as_deref(), Some(b"websocket".as_slice()));
    assert_eq!(switched(200), None);
    assert_eq!(switched(426), None);
}
