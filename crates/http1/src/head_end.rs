//! Where a head ends: at the first empty line.

use memchr::memchr_iter;

/// The length of the head at the front of `bytes`, its empty line included; `None` when more bytes are needed.
///
/// Call it as bytes arrive, with the same `searched` and the old bytes still in front: it remembers how far was looked,
/// so that a peer that drips one byte at a time costs no more than one that does not. Set `searched` to 0 for the next
/// message.
///
/// Only the boundary is found here, and nothing judged. A line that ends with a bare LF is a boundary too, because no
/// more bytes can make such a head acceptable: [`parse_request`](crate::parse_request) refuses it now instead of after
/// a deadline.
pub fn find_head_end(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    let from = (*searched).min(bytes.len());
    *searched = bytes.len();
    memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find(|at| ends_head(bytes, *at)).map(|at| at + 1)
}

/// Whether the LF at `at` ends an empty line, or a line that no parser of ours accepts.
fn ends_head(bytes: &[u8], at: usize) -> bool {
    let line = &bytes[..at];
    !line.ends_with(b"\r") || line.ends_with(b"\n\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(bytes: &[u8]) -> Option<usize> {
        find_head_end(bytes, &mut 0)
    }

    #[test]
    fn a_head_ends_with_its_empty_line() {
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n"), Some(27));
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), None);
        assert_eq!(end(b""), None);
    }

    #[test]
    fn one_empty_line_in_front_is_no_end_but_two_are() {
        assert_eq!(end(b"\r\nGET / HTTP/1.1\r\n\r\n"), Some(20));
        assert_eq!(end(b"\r\n"), None);
        assert_eq!(end(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(4));
    }

    #[test]
    fn a_bare_line_feed_ends_the_waiting() {
        assert_eq!(end(b"GET / HTTP/1.1\nHost: a"), Some(15));
        assert_eq!(end(b"\nGET /"), Some(1));
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), Some(24));
    }

    #[test]
    fn a_dripping_peer_gets_the_same_answer_and_each_byte_is_looked_at_once() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        let mut searched = 0;
        for len in 0..27 {
            assert_eq!(find_head_end(&bytes[..len], &mut searched), None);
            assert_eq!(searched, len);
        }
        assert_eq!(find_head_end(&bytes[..27], &mut searched), Some(27));
    }
}
