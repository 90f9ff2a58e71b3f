//! The rows of a framing table that real proxies were run through, as raw bytes, and what becomes of each.

use http1::{BodyDecoder, Limits, Refusal, Scan};

use crate::read::content;

/// What a gateway would answer: 200 where the request is read, body and all; 0 where more bytes are waited for.
fn answer(bytes: &[u8]) -> u16 {
    let (mut scan, limits) = (Scan::default(), Limits::default());
    let Some(end) = scan.read(bytes, &limits) else { return 0 };
    let head = scan.head(bytes).expect("it was read");
    let body = head.request(&limits).and_then(|request| content(&mut BodyDecoder::new(request.framing), &bytes[end..]));
    match body {
        Ok(Some(_)) => 200,
        Ok(None) => 0,
        Err(Refusal::Malformed(_) | Refusal::Truncated) => 400,
        Err(Refusal::TargetTooLong) => 414,
        Err(Refusal::UnknownExpectation) => 417,
        Err(Refusal::HeadTooLarge | Refusal::TooManyFields) => 431,
        Err(Refusal::UnsupportedCoding) => 501,
        Err(Refusal::UnsupportedVersion) => 505,
    }
}

/// `POST / HTTP/1.1` and a `Host`, then these lines and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// The same in chunks.
fn chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{fields}\r\n")
}

/// Checks each row, and names all that are answered otherwise.
fn check(rows: &[(&str, String, u16)]) {
    let wrong: Vec<_> = rows.iter().filter(|(_, bytes, status)| answer(bytes.as_bytes()) != *status).collect();
    assert!(wrong.is_empty(), "answered otherwise: {wrong:#?}");
}

const LAST: &str = "0\r\n\r\n";

#[test]
fn requests_that_are_read_in_one_way_pass() {
    check(&[
        ("a plain GET", get("/", "Host: a\r\n"), 200),
        (
            "a GET with a body: the body belongs to the request",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab".into(),
            200,
        ),
        ("a length", post("Content-Length: 5\r\n", "hello"), 200),
        ("chunks", chunks("5\r\nhello\r\n0\r\n\r\n"), 200),
        ("chunked in capitals", post("TRANSFER-ENCODING: Chunked\r\n", LAST), 200),
        ("an empty line in front", format!("\r\n{}", get("/", "Host: a\r\n")), 200),
        (
            "CONNECT and TRACE are read; refusing them is the gateway's part",
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            200,
        ),
        ("a value of bytes beyond ASCII", get("/", "Host: a\r\nX: s\u{fc}\u{df}\r\n"), 200),
        ("a part of a body", post("Content-Length: 5\r\n", "hel"), 0),
        ("a part of a head", "GET / HTTP/1.1\r\nHost: a\r\n".into(), 0),
    ]);
}

#[test]
fn a_length_beside_a_coding_is_refused() {
    check(&[
        ("CL.TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LAST), 400),
        ("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LAST), 400),
        ("CL.TE, the coding unknown", post("Content-Length: 5\r\nTransfer-Encoding: x\r\n", "hello"), 400),
        ("CL.TE, the coding empty", post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"), 400),
        ("CL 0 and TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", LAST), 400),
    ]);
}

#[test]
fn a_coding_that_is_not_exactly_chunked_is_refused() {
    check(&[
        ("TE `chunked` twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", LAST), 400),
        (
            "TE `chunked`, then identity",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", LAST),
            400,
        ),
        ("TE `,chunked`", post("Transfer-Encoding: ,chunked\r\n", LAST), 501),
        ("TE `chunked,`", post("Transfer-Encoding: chunked,\r\n", LAST), 501),
        ("TE `chunked, chunked`", post("Transfer-Encoding: chunked, chunked\r\n", LAST), 501),
        ("TE `gzip, chunked`", post("Transfer-Encoding: gzip, chunked\r\n", LAST), 501),
        ("TE `chunked, gzip`", post("Transfer-Encoding: chunked, gzip\r\n", LAST), 501),
        ("TE `chunked;a=b`", post("Transfer-Encoding: chunked;a=b\r\n", LAST), 501),
        ("TE xchunked", post("Transfer-Encoding: xchunked\r\n", LAST), 501),
        ("TE identity", post("Transfer-Encoding: identity\r\n", LAST), 501),
        ("TE quoted", post("Transfer-Encoding: \"chunked\"\r\n", LAST), 501),
        ("TE empty", post("Transfer-Encoding:\r\n", LAST), 501),
        ("TE after vtab", post("Transfer-Encoding: \x0bchunked\r\n", LAST), 400),
        ("TE before form feed", post("Transfer-Encoding: chunked\x0c\r\n", LAST), 400),
        ("TE after NBSP", post("Transfer-Encoding: \u{a0}chunked\r\n", LAST), 501),
        ("`TE :`", post("Transfer-Encoding : chunked\r\n", LAST), 400),
        ("TE, tab before the colon", post("Transfer-Encoding\t: chunked\r\n", LAST), 400),
        ("TE folded", post("Transfer-Encoding:\r\n chunked\r\n", LAST), 400),
        ("TE behind a space", post(" Transfer-Encoding: chunked\r\n", LAST), 400),
        ("TE behind a fold", post("X: y\r\n Transfer-Encoding: chunked\r\n", LAST), 400),
        ("TE behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n", LAST), 400),
        ("TE behind a bare LF", post("X: y\nTransfer-Encoding: chunked\r\n", LAST), 400),
        ("TE with three hyphens", post("Transfer---Encoding: chunked\r\n", LAST), 400),
        ("TE with an underscore", post("Transfer_Encoding: chunked\r\n", LAST), 400),
        ("TE with NUL in the name", post("Transfer-Encoding\0: chunked\r\n", LAST), 400),
        ("TE in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
    ]);
}

#[test]
fn a_length_that_is_not_one_number_is_refused() {
    check(&[
        ("CL twice, different", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400),
        ("CL twice, same", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400),
        ("CL `5, 5`", post("Content-Length: 5, 5\r\n", "hello"), 400),
        ("CL `5, 6`", post("Content-Length: 5, 6\r\n", "hello"), 400),
        ("CL `+5`", post("Content-Length: +5\r\n", "hello"), 400),
        ("CL `0x5`", post("Content-Length: 0x5\r\n", "hello"), 400),
        ("CL `-1`", post("Content-Length: -1\r\n", "hello"), 400),
        ("CL empty", post("Content-Length:\r\n", "hello"), 400),
        ("CL `5 5`", post("Content-Length: 5 5\r\n", "hello"), 400),
        ("CL `5.0`", post("Content-Length: 5.0\r\n", "hello"), 400),
        ("CL 2^64", post("Content-Length: 18446744073709551616\r\n", "hello"), 400),
        ("CL behind vtab", post("Content-Length: \x0b5\r\n", "hello"), 400),
        ("`CL :`", post("Content-Length : 5\r\n", "hello"), 400),
        ("CL with an underscore", post("Content_Length: 5\r\n", "hello"), 400),
    ]);
}

#[test]
fn a_chunk_that_two_parsers_could_read_differently_is_refused() {
    check(&[
        ("chunk `0x5`", chunks("0x5\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk `+5`", chunks("+5\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk `5_`", chunks("5_\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk overflow", chunks("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk size ended by bare LF", chunks("5\nhello\r\n0\r\n\r\n"), 400),
        ("chunk data ended by bare LF", chunks("5\r\nhello\n0\r\n\r\n"), 400),
        ("bare LF in chunk extension (TERM.EXT)", chunks("5;\nhello\r\n0\r\n\r\n"), 400),
        ("bare CR in chunk extension (EXT.TERM)", chunks("5;\rxx\r\nhello\r\n0\r\n\r\n"), 400),
        ("chunk data longer than its size", chunks("4\r\nhello\r\n0\r\n\r\n"), 400),
        ("last chunk ended by bare LF", chunks("0\n\r\n"), 400),
        ("trailers ended by bare LF", chunks("0\r\n\n"), 400),
        (
            "trailers carrying CL, TE, Host, Authorization: dropped",
            chunks("0\r\nHost: b\r\nAuthorization: x\r\n\r\n"),
            200,
        ),
    ]);
}

#[test]
fn a_line_that_two_parsers_could_read_differently_is_refused() {
    check(&[
        ("NUL in value", get("/", "Host: a\r\nX: a\0b\r\n"), 400),
        ("DEL in value", get("/", "Host: a\r\nX: a\x7fb\r\n"), 400),
        ("bare CR in value", get("/", "Host: a\r\nX: a\rb\r\n"), 400),
        ("bare LF as header line end", "GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("bare LF as one header line end", get("/", "Host: a\nX: b\r\n"), 400),
        ("bare LF as the last line", "GET / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        ("obs-fold", get("/", "Host: a\r\nX: a\r\n b\r\n"), 400),
        ("space before colon", get("/", "Host: a\r\nX : a\r\n"), 400),
        ("no colon", get("/", "Host: a\r\nX\r\n"), 400),
        ("no name", get("/", "Host: a\r\n: a\r\n"), 400),
        ("a name beyond ASCII", get("/", "Host: a\r\n\u{fc}: a\r\n"), 400),
        ("two empty lines in front", format!("\r\n\r\n{}", get("/", "Host: a\r\n")), 400),
        ("an empty line of LF in front", format!("\n{}", get("/", "Host: a\r\n")), 400),
        ("a space in front of the first field", get("/", " Host: a\r\n"), 400),
    ]);
}

#[test]
fn a_request_without_one_valid_host_is_refused() {
    check(&[
        ("no Host", get("/", ""), 400),
        ("two Hosts", get("/", "Host: a\r\nHost: a\r\n"), 400),
        ("Host `a b`", get("/", "Host: a b\r\n"), 400),
        ("Host `a,b`", get("/", "Host: a,b\r\n"), 400),
        ("Host with a user", get("/", "Host: u@a\r\n"), 400),
        ("Host with a path", get("/", "Host: a/b\r\n"), 400),
        ("Host empty", get("/", "Host:\r\n"), 400),
        ("absolute-form mismatch: the target wins", get("http://b/", "Host: a\r\n"), 200),
        ("absolute-form with two Hosts", get("http://b/", "Host: a\r\nHost: b\r\n"), 400),
        ("no Host in HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".into(), 200),
        ("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
    ]);
}

#[test]
fn a_request_line_that_two_parsers_could_read_differently_is_refused() {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    check(&[
        ("space in the target", line("GET /a b HTTP/1.1"), 400),
        ("control byte in the target", line("GET /a\x01b HTTP/1.1"), 400),
        ("a target beyond ASCII", line("GET /\u{fc} HTTP/1.1"), 400),
        ("a fragment", line("GET /a#b HTTP/1.1"), 400),
        ("two spaces", line("GET  / HTTP/1.1"), 400),
        ("a tab", line("GET\t/ HTTP/1.1"), 400),
        ("a space at the end", line("GET / HTTP/1.1 "), 400),
        ("a space in front", line(" GET / HTTP/1.1"), 400),
        ("no target", line("GET HTTP/1.1"), 400),
        ("a method that is no token", line("G{T / HTTP/1.1"), 400),
        ("* with GET", line("GET * HTTP/1.1"), 400),
        ("another scheme", line("GET ftp://a/ HTTP/1.1"), 400),
        ("a user in the target", line("GET http://u:p@a/ HTTP/1.1"), 400),
        ("HTTP/0.9 request", "GET /\r\n\r\n".into(), 400),
        ("HTTP/9.9", line("GET / HTTP/9.9"), 505),
        ("HTTP/1.2", line("GET / HTTP/1.2"), 505),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("http/1.1", line("GET / http/1.1"), 400),
        ("HTTP/1.10", line("GET / HTTP/1.10"), 400),
        ("HTTP/ 1.1", line("GET / HTTP/ 1.1"), 400),
        ("TLS on a plain port", "\x16\x03\x01\x02\0\n".into(), 400),
    ]);
}

#[test]
fn a_field_for_the_other_side_cannot_be_made_to_end_here() {
    let connection = |names: &str| get("/", &format!("Host: a\r\nConnection: {names}\r\n"));
    check(&[
        ("`Connection: close, X-Forwarded-For`", connection("close, X-Forwarded-For"), 400),
        ("`Connection: X-Real-IP`", connection("X-Real-IP"), 400),
        ("`Connection: Host`", connection("Host"), 400),
        ("`Connection: Content-Length`", connection("keep-alive, content-length"), 400),
        ("`Connection: Transfer-Encoding`", connection("Transfer-Encoding"), 400),
        ("`Connection: Cookie`", connection("Cookie"), 400),
        ("`Connection: TE, X-Own`", connection("TE, X-Own"), 200),
        ("`Expect: x`", get("/", "Host: a\r\nExpect: x\r\n"), 417),
    ]);
}

#[test]
fn a_head_beyond_the_limits_is_refused() {
    check(&[
        ("header 64 KiB", get("/", &format!("Host: a\r\nX: {}\r\n", "x".repeat(64 << 10))), 431),
        ("2000 headers", get("/", &format!("Host: a\r\n{}", "X: y\r\n".repeat(2000))), 431),
        ("101 headers", get("/", &format!("Host: a\r\n{}", "X: y\r\n".repeat(100))), 431),
        ("100 headers", get("/", &format!("Host: a\r\n{}", "X: y\r\n".repeat(99))), 200),
        ("URI 9 KiB", get(&format!("/{}", "x".repeat(9 << 10)), "Host: a\r\n"), 414),
        ("URI 64 KiB: more than a whole head may be", get(&format!("/{}", "x".repeat(64 << 10)), "Host: a\r\n"), 431),
    ]);
}
