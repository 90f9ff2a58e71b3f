//! Writing a message: one form for everything, appended to a buffer that is used again.
//!
//! What is written has been parsed before or is our own, so it is not checked once more; a debug build asserts that no
//! line breaks out of its place.

use crate::bytes::{is_text_byte, is_token};

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `GET /path HTTP/1.1`. The target comes in parts that are written one behind the other, so that a prefix can be left
/// out or a `/` put in front without a copy.
#[inline]
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[&[u8]]) {
    debug_assert!(is_token(method), "a method is a token");
    debug_assert!(target.iter().all(|part| part.iter().all(u8::is_ascii_graphic)), "a target is visible ASCII");
    out.extend_from_slice(method);
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 200 OK`. `status` is from 100 to 999; `reason` may be empty.
#[inline]
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..1000).contains(&status), "a status has three digits");
    debug_assert!(reason.iter().all(|byte| is_text_byte(*byte)), "a reason is one line of text");
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// `Name: value`.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name), "a field name is a token");
    debug_assert!(value.iter().all(|byte| is_text_byte(*byte)), "a field value is one line of text");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `Name: 42`.
#[inline]
pub fn field_number(out: &mut Vec<u8>, name: &[u8], n: u64) {
    debug_assert!(is_token(name), "a field name is a token");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    number(out, n);
    out.extend_from_slice(b"\r\n");
}

/// The empty line that ends a head.
#[inline]
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// A whole chunk; nothing for empty data, because a chunk of size 0 would end the body.
#[inline]
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The line before a chunk's data, for who sends the data from where it is; CR LF must follow the data. `len` is not 0.
#[inline]
pub fn chunk_head(out: &mut Vec<u8>, len: usize) {
    debug_assert!(len > 0, "a chunk of size 0 ends the body");
    digits::<16>(out, len as u64);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn number(out: &mut Vec<u8>, n: u64) {
    digits::<10>(out, n);
}

/// 20 digits are enough for every `u64` in decimal.
#[inline]
fn digits<const RADIX: u64>(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(n % RADIX) as usize];
        n /= RADIX;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_have_one_form() {
        assert_eq!(written(|out| request_line(out, b"GET", &[b"/", b"a?b"])), "GET /a?b HTTP/1.1\r\n");
        assert_eq!(written(|out| status_line(out, 204, b"No Content")), "HTTP/1.1 204 No Content\r\n");
        assert_eq!(written(|out| status_line(out, 299, b"")), "HTTP/1.1 299 \r\n");
        assert_eq!(written(|out| field(out, b"Host", b"a")), "Host: a\r\n");
        assert_eq!(written(|out| field_number(out, b"Age", 0)), "Age: 0\r\n");
        assert_eq!(written(|out| field_number(out, b"Age", u64::MAX)), "Age: 18446744073709551615\r\n");
    }

    #[test]
    fn empty_data_does_not_end_a_chunked_body() {
        assert_eq!(written(|out| chunk(out, b"")), "");
        assert_eq!(written(|out| chunk(out, &[b'x'; 26])), format!("1a\r\n{}\r\n", "x".repeat(26)));
        assert_eq!(written(|out| chunk_head(out, usize::MAX)), "ffffffffffffffff\r\n");
    }
}
