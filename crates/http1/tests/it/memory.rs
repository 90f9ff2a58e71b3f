//! What parsing costs in memory.

use http1::{BodyDecoder, Framing, Limits, Scratch, find_head_end, parse_request, write};

/// Reads a request with a body, and writes it again.
fn forward(bytes: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let end = find_head_end(bytes, &mut 0).unwrap();
    let request = parse_request(&bytes[..end], scratch, &Limits::default()).unwrap();
    write::request_line(out, request.method.as_bytes(), &[b"/"]);
    request.fields.iter().for_each(|field| write::field(out, field.name, field.value));
    write::end(out);
    assert_eq!(request.framing, Framing::Chunked);
    let piece = BodyDecoder::new(request.framing).decode(&bytes[end..]).unwrap();
    write::chunk(out, &bytes[end..][piece.data]);
}

#[test]
fn nothing_is_allocated_once_warm() {
    let fields = "X-Note: some words\r\n".repeat(50);
    let bytes = format!("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n5\r\nhello\r\n");
    let mut scratch = Scratch::default();
    let mut out = Vec::new();
    forward(bytes.as_bytes(), &mut scratch, &mut out);
    let counted = allocation_counter::measure(|| {
        for _ in 0..10 {
            out.clear();
            forward(bytes.as_bytes(), &mut scratch, &mut out);
        }
    });
    assert_eq!(counted.count_total, 0);
}
