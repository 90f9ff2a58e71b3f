//! Where `httparse`, the parser inside hyper, reads what is refused here. The other way round there is nothing:
//! `checks` holds every head that is accepted, here or in the fuzzers, against it.

use httparse::{EMPTY_HEADER, Status};

use crate::read::{request, response};

fn httparse_reads(bytes: &[u8]) -> bool {
    let mut headers = [EMPTY_HEADER; 128];
    matches!(httparse::Request::new(&mut headers).parse(bytes), Ok(Status::Complete(_)))
}

#[test]
fn requests_that_httparse_reads_and_we_refuse() {
    for (why, bytes) in [
        ("a bare LF ends a line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("a bare LF ends the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("more than one empty line in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an empty line of LF in front", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target beyond ASCII", "GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a fragment in the target", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a target of no form", "GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "fields that frame in two ways",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        ),
        ("a missing Host", "GET / HTTP/1.1\r\n\r\n"),
        ("an expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"),
        ("a Connection that names Host", "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n"),
    ] {
        assert!(httparse_reads(bytes.as_bytes()), "httparse refuses {why}");
        assert!(request(bytes.as_bytes(), |_| ()).is_err(), "we accept {why}");
    }
}

#[test]
fn responses_that_httparse_reads_and_we_refuse() {
    for (why, bytes) in [
        ("a bare LF ends a line", "HTTP/1.1 200 OK\nA: b\r\n\r\n"),
        ("an empty line in front", "\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("a status below 100", "HTTP/1.1 099 OK\r\n\r\n"),
        ("fields that frame in two ways", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("a body where none can be", "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let mut headers = [EMPTY_HEADER; 128];
        let theirs = httparse::Response::new(&mut headers).parse(bytes.as_bytes());
        assert!(matches!(theirs, Ok(Status::Complete(_))), "httparse refuses {why}: {theirs:?}");
        assert!(response(bytes.as_bytes(), |_| ()).is_err(), "we accept {why}");
    }
}
