//! What is read out of a request's head.

use http1::{Framing, Limits, Method, Name, One, Refusal, Target, Version};

use crate::read::{request, request_within};

/// A request with these lines behind the request line, and a valid `Host`.
fn with(fields: &str) -> Vec<u8> {
    format!("POST /mail HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn keeps_alive(version: &str, fields: &str) -> bool {
    let bytes = format!("GET / {version}\r\nHost: a\r\n{fields}\r\n");
    request(bytes.as_bytes(), |request| request.keep_alive).unwrap()
}

#[test]
fn a_request_is_read_into_its_parts() {
    let bytes =
        b"PUT /mail?x=1 HTTP/1.1\r\nHost: a:80\r\nX-Note: \t two words \r\ncookie:\r\nContent-Length: 5\r\n\r\n";
    request(bytes, |request| {
        assert_eq!((request.method, request.version), (Method::Put, Version::Http11));
        assert_eq!(request.target, Target::Origin(b"/mail?x=1"));
        assert_eq!(request.host, Some(b"a:80".as_slice()));
        assert_eq!((request.framing, request.declares_length), (Framing::Length(5), true));
        assert!(request.keep_alive && !request.expects_continue && request.upgrade.is_none());
        let fields: Vec<_> = request.fields.iter().map(|field| (field.id, field.name, field.value)).collect();
        assert_eq!(fields[1], (Name::Other, b"X-Note".as_slice(), b"two words".as_slice()));
        assert_eq!(fields[2], (Name::Cookie, b"cookie".as_slice(), b"".as_slice()));
        assert_eq!((request.fields.len(), request.fields.is_empty()), (4, false));
    })
    .unwrap();
}

#[test]
fn a_field_is_there_not_at_all_once_or_too_often() {
    let bytes = with("Via: 1.1 a\r\nvia: 1.1 b\r\nX-Request-ID: 7\r\n");
    request(&bytes, |request| {
        assert_eq!(request.fields.get(Name::Via), One::Several);
        assert_eq!(request.fields.get(Name::XRequestId), One::One(b"7"));
        assert_eq!(request.fields.get(Name::Forwarded), One::Absent);
    })
    .unwrap();
}

#[test]
fn the_authority_of_an_absolute_target_goes_before_host() {
    let host = |bytes: &[u8]| request(bytes, |request| request.host.map(<[u8]>::to_vec));
    assert_eq!(host(b"GET http://b:1/x HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some(b"b:1".to_vec())));
    assert_eq!(host(b"GET http://b/x HTTP/1.0\r\n\r\n"), Ok(Some(b"b".to_vec())));
    assert!(host(b"GET http://b/x HTTP/1.1\r\n\r\n").is_err(), "Host must be there all the same");
    assert!(host(b"GET http://b/x HTTP/1.1\r\nHost: a,b\r\n\r\n").is_err(), "and be a host");
    assert_eq!(host(b"GET / HTTP/1.0\r\n\r\n"), Ok(None));
}

#[test]
fn a_connection_is_kept_as_its_version_and_fields_say() {
    for (version, fields, kept) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.1", "Connection: close\r\n", false),
        ("HTTP/1.1", "Connection: x-a\r\nConnection: Close\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive, close\r\n", false),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        assert_eq!(keeps_alive(version, fields), kept, "{version} {fields:?}");
    }
}

#[test]
fn a_field_that_connection_names_is_known() {
    let bytes = with("Connection: keep-alive, X-Note,,\tTE\r\n");
    request(&bytes, |request| {
        let named = ["x-note", "te", "Keep-Alive"].map(|name| request.fields.is_named_by_connection(name.as_bytes()));
        assert_eq!(named, [true; 3]);
        assert!(!request.fields.is_named_by_connection(b"x-not"));
    })
    .unwrap();
    request(&with("Connection: Upgrade\r\n"), |request| {
        assert!(request.fields.is_named_by_connection(b"upgrade") && !request.fields.is_named_by_connection(b"close"));
    })
    .unwrap();
    request(&with(""), |request| assert!(!request.fields.is_named_by_connection(b"x-note"))).unwrap();
}

#[test]
fn an_upgrade_is_offered_only_where_it_can_be_taken() {
    let upgrade = |line: &str, fields: &str| {
        let bytes = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        request(bytes.as_bytes(), |request| request.upgrade.map(<[u8]>::to_vec)).unwrap()
    };
    let both = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(upgrade("GET / HTTP/1.1", both).as_deref(), Some(b"websocket".as_slice()));
    assert_eq!(upgrade("GET / HTTP/1.0", both), None, "HTTP/1.0 has none");
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
    ] {
        assert_eq!(upgrade("GET / HTTP/1.1", fields), None, "{fields:?}");
    }
}

#[test]
fn only_http11_waits_for_continue_and_other_expectations_are_refused() {
    let expects = |line: &str, value: &str| {
        let bytes = format!("{line}\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 5\r\n\r\n");
        request(bytes.as_bytes(), |request| (request.expects_continue, request.framing))
    };
    assert_eq!(expects("POST / HTTP/1.1", "100-Continue"), Ok((true, Framing::Length(5))));
    assert_eq!(expects("POST / HTTP/1.0", "100-continue"), Ok((false, Framing::Length(5))));
    for value in ["", "100-continue, 100-continue", "x=1"] {
        assert_eq!(expects("POST / HTTP/1.1", value), Err(Refusal::UnknownExpectation), "{value}");
    }
}

#[test]
fn a_declared_length_of_zero_is_an_empty_body_that_says_so() {
    let framing = |fields| request(&with(fields), |request| (request.framing, request.declares_length)).unwrap();
    assert_eq!(framing("Content-Length: 0\r\n"), (Framing::Empty, true));
    assert_eq!(framing(""), (Framing::Empty, false));
    assert_eq!(framing("Transfer-Encoding: CHUNKED\r\n"), (Framing::Chunked, false));
}

#[test]
fn limits_are_held_exactly() {
    let bytes = b"GET /12345 HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    let read = |limits: &Limits| request_within(bytes, limits, |_| ());
    let exact = Limits { head_max_bytes: bytes.len(), fields_max: 2, target_max_bytes: 6 };
    assert_eq!(read(&exact), Ok(()));
    assert_eq!(read(&Limits { head_max_bytes: bytes.len() - 1, ..exact }), Err(Refusal::HeadTooLarge));
    assert_eq!(read(&Limits { fields_max: 1, ..exact }), Err(Refusal::TooManyFields));
    assert_eq!(read(&Limits { target_max_bytes: 5, ..exact }), Err(Refusal::TargetTooLong));
}

#[test]
fn a_refusal_says_what_to_change() {
    for (bytes, sentence) in [
        ("GET / HTTP/1.1\r\n\r\n", "Host: it is missing, which HTTP/1.1 does not allow"),
        ("GET /\r\n\r\n", "the request line: it must end with HTTP/1.1; HTTP/0.9 is not spoken"),
        ("GET /#a HTTP/1.1\r\n\r\n", "the request target: a fragment is not sent; leave out the # and what follows"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "a field: it must not be folded over several lines; write it on one",
        ),
        ("GET / HTTP/1.1\nHost: a\n\n", "the request line: CR LF must follow the version at once"),
        ("GET / HTTP/1.1\r\nHost: a\n\n", "a line: it must end with CR LF, not with LF alone"),
        ("GET / HTTP/9.9\r\n\r\n", "the version must be HTTP/1.1 or HTTP/1.0"),
    ] {
        assert_eq!(request(bytes.as_bytes(), |_| ()).unwrap_err().to_string(), sentence, "{bytes:?}");
    }
}

#[test]
fn what_is_shown_of_a_field_is_not_its_value() {
    let bytes = with("Cookie: session=secret\r\n");
    let shown = request(&bytes, |request| format!("{request:?}")).unwrap();
    assert!(shown.contains("Cookie: (14 bytes)"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}
