//! What two parsers could read differently does not pass: raw bytes in, nothing at the instance.

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Gateway;

/// A request with these header lines, with a body that would be a second request if its framing were misread.
fn smuggler(lines: &str) -> String {
    format!("POST /mail HTTP/1.1\r\n{lines}\r\n\r\n0\r\n\r\nGET /mail/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn requests_that_could_be_read_differently_are_400_and_close() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for lines in [
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: a\r\nTransfer-Encoding: ,chunked",
        "Host: a\r\nTransfer-Encoding: gzip, chunked",
        "Host: a\r\nTransfer-Encoding: xchunked",
        "Host: a\r\nTransfer-Encoding: identity",
        "Host: a\r\nTransfer-Encoding: \"chunked\"",
        "Host: a\r\nTransfer-Encoding: \x0bchunked",
        "Host: a\r\nTransfer-Encoding : chunked",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 6",
        "Host: a\r\nContent-Length: 5, 5",
        "Host: a\r\nContent-Length: +5",
        "Host: a\r\nContent-Length: 0x5",
        "Host: a\r\nContent-Length: -1",
        "Host: a\r\nContent-Length: ",
        "Host: a\r\nContent-Length: 5 5",
        "Host: a\r\nContent-Length: 18446744073709551616",
        "X: no host",
        "Host: a\r\nHost: a",
        "Host: a b",
        "Host: a,b",
        "Host: a\r\nX: nul\0",
        "Host: a\r\nno colon",
        "Host: a\r\n folded",
        "Host: a\r\nConnection: close, Content-Length\r\nContent-Length: 5",
        "Host: a\r\nConnection: Host",
    ] {
        let mut client = gateway.connect().await;
        let answer = client.ask(&smuggler(lines)).await;
        assert_eq!(answer.code(), (400, "malformed_request".to_owned()), "{lines:?}");
        assert!(client.is_closed().await, "{lines:?}");
    }
    for line in ["GET /mail HTTP/9.9", "GET /ma il HTTP/1.1", "GET /mail\x01 HTTP/1.1", "GET  /mail HTTP/1.1", "/mail"]
    {
        let mut client = gateway.connect().await;
        let answer = client.ask(&format!("{line}\r\nHost: a\r\n\r\n")).await;
        assert_eq!(answer.code(), (400, "malformed_request".to_owned()), "{line:?}");
    }
    let mut old = gateway.connect().await;
    let answer = old.ask("POST /mail HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    assert_eq!((upstream.requests().len(), upstream.violations().len()), (0, 0), "not a byte reached the instance");
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_forwarded_and_smuggles_nothing() {
    let upstream = Upstream::start(|request| Reply::ok(&request.body)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for lines in ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let mut client = gateway.connect().await;
        let answer = client.ask(&smuggler(&format!("Host: a\r\n{lines}"))).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        assert!(client.is_closed().await, "what follows on such a connection is not believed");
    }
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.target == "/" && request.header("content-length").is_none()));
    assert_eq!((requests.len(), upstream.violations().len()), (2, 0));
}

#[tokio::test]
async fn broken_chunks_end_the_request_and_the_connection() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for chunks in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = gateway.connect().await;
        let request = format!("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let answer = client.ask(&request).await;
        assert_eq!(answer.code(), (400, "malformed_request".to_owned()), "{chunks:?}");
        assert!(client.is_closed().await, "{chunks:?}");
    }
    wait_until("the end of all requests", SOON, || async { upstream.connections_open() == 0 }).await;
    assert!(upstream.requests().is_empty(), "no instance got a whole request");
}

#[tokio::test]
async fn methods_and_expectations_that_are_not_for_gateways_are_refused() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for request in ["CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: a", "TRACE /mail HTTP/1.1\r\nHost: a"] {
        let answer = gateway.ask(&format!("{request}\r\n\r\n")).await;
        assert_eq!(answer.code(), (405, "method_not_allowed".to_owned()));
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")));
    }
    let answer = gateway.ask("GET /mail HTTP/1.1\r\nHost: a\r\nExpect: the-impossible\r\n\r\n").await;
    assert_eq!(answer.code(), (417, "expectation_failed".to_owned()));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_body_is_never_left_for_the_next_request() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target)).await;
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
