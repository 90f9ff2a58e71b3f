//! The framing table: raw bytes in, and either a refusal with nothing at the origin, or exactly these bytes there.
//!
//! Each row is a request that proxies are known to read differently. After a refusal the connection is closed, because where
//! the next request begins is not known; after a request that passes, the next one on the same two connections is answered
//! rightly, because nothing of it was left behind.

use testkit::upstream::{Listener, Upstream};

use crate::support::{Answer, Client, Gateway};

/// What a body could hide.
const NEXT: &str = "GET /mail/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

async fn refused(gateway: &Gateway, row: &str, request: &[u8]) -> Answer {
    let mut client = gateway.connect().await;
    client.try_send(request).await;
    client.try_send(NEXT).await;
    let answer = client.answer().await;
    assert!(client.is_closed().await, "{row}: the connection goes on");
    answer
}

/// Rows that are refused, with their status.
const REFUSED: &[(&str, u16, &str)] = &[
    (
        "CL.TE",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    ),
    (
        "TE.CL",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE chunked twice",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "TE chunked, then identity",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    ("TE ,chunked", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    ("TE xchunked", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE identity", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("TE quoted", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("TE gzip, chunked", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("TE chunked;q=1", 501, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("TE vtab", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    (
        "TE with a space before the colon",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    ("TE with an underscore", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE folded", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("TE in HTTP/1.0", 400, "POST /mail HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "CL twice, different",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ),
    ("CL twice, same", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("CL 5, 5", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("CL +5", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    ("CL 0x5", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("CL -1", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("CL empty", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n"),
    ("CL 5 5", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello"),
    ("CL 2^64", 400, "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"),
    ("NUL in a value", 400, "GET /mail HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("CR in a value", 400, "GET /mail HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    ("bare LF as a line's end", 400, "GET /mail HTTP/1.1\nHost: a\n\n"),
    ("bare LF as one line's end", 400, "GET /mail HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    ("a folded field", 400, "GET /mail HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    ("a line without a colon", 400, "GET /mail HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    ("a field without a name", 400, "GET /mail HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    ("no Host", 400, "GET /mail HTTP/1.1\r\nX: a\r\n\r\n"),
    ("two Hosts", 400, "GET /mail HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("Host a b", 400, "GET /mail HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("Host a,b", 400, "GET /mail HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    ("Host with a user", 400, "GET /mail HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("Host beside an absolute target, invalid", 400, "GET http://a/mail HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("a space in the target", 400, "GET /ma il HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a control byte in the target", 400, "GET /mail\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("two spaces after the method", 400, "GET  /mail HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("HTTP/0.9", 400, "GET /mail\r\n\r\n"),
    ("HTTP/9.9", 505, "GET /mail HTTP/9.9\r\nHost: a\r\n\r\n"),
    ("HTTP/2.0 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("CONNECT", 405, "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n"),
    ("TRACE", 405, "TRACE /mail HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "Connection names a field that is forwarded",
        400,
        "GET /mail HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n",
    ),
    (
        "Connection names what frames",
        400,
        "POST /mail HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("Expect something else", 417, "GET /mail HTTP/1.1\r\nHost: a\r\nExpect: the-impossible\r\n\r\n"),
];

#[tokio::test]
async fn what_could_be_read_differently_is_refused_and_nothing_reaches_the_origin() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for (row, status, request) in REFUSED {
        let answer = refused(&gateway, row, request.as_bytes()).await;
        assert_eq!(answer.status, *status, "{row}: {}", answer.text());
        answer.problem();
    }
    assert_eq!(upstream.connections_accepted(), 0, "not a byte");
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_own_status() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let header = format!("GET /mail HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let fields: String = (0..2000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let target = format!("GET /mail/{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20 * 1024));
    let endless = format!("GET /mail/{}", "x".repeat(64 * 1024));
    for (row, status, request) in [
        ("a header of 64 KiB", 431, header),
        ("2000 fields", 431, format!("GET /mail HTTP/1.1\r\nHost: a\r\n{fields}\r\n")),
        ("a target of 20 KiB", 414, target),
        ("a line without an end", 431, endless),
    ] {
        assert_eq!(refused(&gateway, row, request.as_bytes()).await.status, status, "{row}");
    }
    assert_eq!(upstream.connections_accepted(), 0);
}

#[tokio::test]
async fn broken_chunks_are_400_and_their_request_is_never_completed() {
    for (row, chunks) in [
        ("0x5", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("+5", "+5\r\nhello\r\n0\r\n\r\n"),
        ("5_", "5_\r\nhello\r\n0\r\n\r\n"),
        ("overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("size ended by a bare LF", "5\nhello\r\n0\r\n\r\n"),
        ("data ended by a bare LF", "5\r\nhello\n0\r\n\r\n"),
        ("bare LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("more data than said", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("a trailer that is none", "0\r\nno colon\r\n\r\n"),
    ] {
        let upstream = Upstream::named("mail").await;
        let gateway = Gateway::before(&[upstream.address()], &[]);
        let request = format!("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answer = refused(&gateway, row, request.as_bytes()).await;
        assert_eq!(answer.code(), (400, "malformed_request".to_owned()), "{row}");
        assert!(upstream.requests().is_empty() && upstream.violations().is_empty(), "{row}");
    }
}

/// Sends `request` and then a second one on the same connection; returns what reached the origin of the first, which is
/// answered with the second's answer's predecessor.
async fn passed(gateway: &Gateway, origin: &mut Listener, row: &str, request: &str, origin_bytes: usize) -> Vec<u8> {
    let mut client: Client = gateway.connect().await;
    client.send(request).await;
    let mut conversation = origin.accept().await;
    let mut arrived = Vec::new();
    while arrived.len() < origin_bytes {
        let some = conversation.read_some().await;
        assert!(
            !some.is_empty(),
            "{row}: the connection to the origin broke after {:?}",
            String::from_utf8_lossy(&arrived)
        );
        arrived.extend(some);
    }
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst").await;
    assert_eq!(client.answer().await.text(), "first", "{row}");
    client.send("GET /mail/second HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let second = conversation.read_request().await.unwrap().expect("the connection is used again");
    assert_eq!(second.target, "/second", "{row}");
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond").await;
    assert_eq!(client.answer().await.text(), "second", "{row}");
    arrived
}

#[tokio::test]
async fn what_passes_arrives_as_it_was_understood_byte_by_byte() {
    const OURS: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
                        X-Forwarded-Prefix: /mail\r\nVia: 1.1 balance\r\nX-Request-Id: i\r\n";
    let get = format!("GET / HTTP/1.1\r\nHost: a\r\n{OURS}\r\n");
    let hello = |method: &str, framing: &str, body: &str| {
        format!("{method} / HTTP/1.1\r\nHost: a\r\n{OURS}{framing}\r\n\r\n{body}")
    };
    let rows: Vec<(&str, String, String)> = vec![
        ("a plain request", "GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\n\r\n".into(), get.clone()),
        ("an empty line before it", "\r\nGET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\n\r\n".into(), get.clone()),
        ("white space around values", "GET /mail HTTP/1.1\r\nHost: \t a \t\r\nX-Request-Id:i\r\n\r\n".into(), get.clone()),
        ("an absolute target", "GET http://a/mail HTTP/1.1\r\nHost: other\r\nX-Request-Id: i\r\n\r\n".into(), get.clone()),
        ("Upgrade: h2c", "GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n".into(), get.clone()),
        ("hop-by-hop fields", "GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\n\r\n".into(), get.clone()),
        ("a GET with a body (CL.0)", "GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 5\r\n\r\nhello".into(), hello("GET", "Content-Length: 5", "hello")),
        ("a length with zeros in front", "POST /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 005\r\n\r\nhello".into(), hello("POST", "Content-Length: 5", "hello")),
        ("chunked in other letters", "POST /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\ntransfer-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into(), hello("POST", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")),
        ("chunk extensions and trailers", "POST /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0005;a=\"b\"\r\nhello\r\n000\r\nContent-Length: 7\r\nHost: evil\r\n\r\n".into(), hello("POST", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")),
        ("no body (0.CL)", "POST /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\nContent-Length: 0\r\n\r\n".into(), hello("POST", "Content-Length: 0", "")),
        ("trace context", "GET /mail HTTP/1.1\r\nHost: a\r\nX-Request-Id: i\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n".into(), format!("GET / HTTP/1.1\r\nHost: a\r\n{OURS}traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n")),
    ];
    for (row, request, expected) in rows {
        let mut origin = Upstream::listen().await;
        let gateway = Gateway::before(&[origin.address()], &[]);
        let arrived = passed(&gateway, &mut origin, row, &request, expected.len()).await;
        assert_eq!(String::from_utf8(arrived).unwrap(), expected, "{row}");
    }
}

#[tokio::test]
async fn a_body_is_never_left_for_the_next_request() {
    let upstream = Upstream::start(|request| testkit::upstream::Reply::ok(&request.target)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    let inner = "GET /mail/inner HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in ["GET", "OPTIONS", "DELETE"] {
        let request =
            format!("{method} /mail/outer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        assert_eq!(client.ask(&request).await.text(), "/outer");
        assert_eq!(upstream.requests().last().unwrap().body, inner.as_bytes());
    }
    assert_eq!(client.ask("GET /mail/next HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "/next");
    assert_eq!(upstream.requests().len(), 4);
}
