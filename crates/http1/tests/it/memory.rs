//! What parsing costs in memory.

use http1::{BodyDecoder, Framing, Limits, Scan, write};

/// Reads a request with a body, and writes it again.
fn forward(bytes: &[u8], scan: &mut Scan, out: &mut Vec<u8>) {
    scan.clear();
    let end = scan.read(bytes, &Limits::default()).unwrap();
    let request = scan.head(bytes).unwrap().request(&Limits::default()).unwrap();
    write::request_line(out, request.method.as_bytes(), &[b"/"]);
    request.fields.write(out, |_| true);
    write::end(out);
    assert_eq!(request.framing, Framing::Chunked);
    let piece = BodyDecoder::new(request.framing).decode(&bytes[end..]).unwrap();
    write::chunk(out, &bytes[end..][piece.data]);
}

#[test]
fn nothing_is_allocated_once_warm() {
    let fields = "X-Note: some words\r\n".repeat(50);
    let bytes = format!("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n5\r\nhello\r\n");
    let mut scan = Scan::default();
    let mut out = Vec::new();
    forward(bytes.as_bytes(), &mut scan, &mut out);
    let counted = allocation_counter::measure(|| {
        for _ in 0..10 {
            out.clear();
            forward(bytes.as_bytes(), &mut scan, &mut out);
        }
    });
    assert_eq!(counted.count_total, 0);
}
