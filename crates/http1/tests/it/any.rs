//! Messages out of thin air: valid ones in all their forms, and nearly valid ones.

use proptest::{collection::vec, prelude::*, sample::select};

/// A request that is read in one way only, written out with its body.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// What the body is when its framing is gone.
    pub(crate) content: Vec<u8>,
}

impl Message {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_slice(), &self.body].concat()
    }
}

/// A request as clients send them, and as only a fuzzer would.
pub(crate) fn request() -> impl Strategy<Value = Message> {
    let line = ("GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|[A-Z]{1,9}", target()).prop_map(|(method, target)| {
        // hyper takes a CONNECT for a tunnel, and so do we.
        format!("{} {target} HTTP/1.1", if method == "CONNECT" { "GET" } else { &method })
    });
    let host = select(vec!["a", "a.example:80", "[::1]", "10.0.0.5:7070"]).prop_map(|host| format!("Host: {host}"));
    let connection = select(vec!["", "Connection: close", "connection:keep-alive, x-a", "Connection: x-b"]);
    (line, host, connection, vec(field(), 0..6), any::<bool>(), body()).prop_map(
        |(line, host, connection, mut fields, empty_line, (framing, body, content))| {
            fields.extend([host, framing, connection.into()]);
            fields.retain(|field| !field.is_empty());
            let head = format!("{}{line}\r\n{}\r\n\r\n", if empty_line { "\r\n" } else { "" }, fields.join("\r\n"));
            Message { head: head.into_bytes(), body, content }
        },
    )
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![4 => "/[a-zA-Z0-9/._~%-]{0,20}(\\?[a-z0-9&=]{0,9})?", 1 => "https?://[a-z]{1,9}(:[0-9]{1,4})?/[a-z]{0,9}"]
}

/// A line that no gateway acts on, with any white space around its value.
pub(crate) fn field() -> impl Strategy<Value = String> {
    "x-[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}:[ \t]{0,3}([!-~\u{a1}-\u{24f}]([ -~\t]{0,20}[!-~])?)?[ \t]{0,3}"
}

/// The framing field, the body and its content.
fn body() -> impl Strategy<Value = (String, Vec<u8>, Vec<u8>)> {
    let none = Just((String::new(), vec![], vec![]));
    let length = vec(any::<u8>(), 0..300)
        .prop_map(|content| (format!("Content-Length: {}", content.len()), content.clone(), content));
    let chunked = chunked().prop_map(|(body, content)| ("Transfer-Encoding: chunked".into(), body, content));
    prop_oneof![none, length, chunked]
}

/// A chunked body with extensions and trailers, and its content.
pub(crate) fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = "([ \t]{0,2};[a-z]{1,3}(=[a-z]{1,3}|=\"[ -!#-\\[\\]-~]{0,9}\")?)?";
    let chunk = (vec(any::<u8>(), 1..80), 0..3_usize, extension, any::<bool>());
    (vec(chunk, 0..5), "0{1,4}", extension, vec(field(), 0..3)).prop_map(|(chunks, zero, extension, trailers)| {
        let mut body = Vec::new();
        let mut content = Vec::new();
        for (data, zeros, extension, upper) in chunks {
            let size = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
            body.extend_from_slice(format!("{}{size}{extension}\r\n", "0".repeat(zeros)).as_bytes());
            body.extend_from_slice(&data);
            body.extend_from_slice(b"\r\n");
            content.extend_from_slice(&data);
        }
        body.extend_from_slice(format!("{zero}{extension}\r\n").as_bytes());
        trailers.iter().for_each(|trailer| body.extend_from_slice(format!("{trailer}\r\n").as_bytes()));
        body.extend_from_slice(b"\r\n");
        (body, content)
    })
}

/// Bytes that are nearly a message: a valid one with a few bytes replaced, put in or left out.
pub(crate) fn nearly(whole: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => select(b"\r\n\t :;,\0\x7f0159aAfF-_+#\"".to_vec()), 1 => any::<u8>()];
    let change = (any::<prop::sample::Index>(), byte, 0..3_u8);
    (whole, vec(change, 1..4)).prop_map(|(mut bytes, changes)| {
        for (at, byte, how) in changes {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                _ if at == bytes.len() => bytes.push(byte),
                1 => bytes[at] = byte,
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}
