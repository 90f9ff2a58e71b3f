//! As much of HTTP/1.1 as both sides of a measurement need: where a message ends.
//!
//! The messages are those of well-known programs, so a length is enough. Whatever has no `Content-Length` has no body;
//! a response with another framing is [`Malformed`] for this module, not by the standard.

/// Longer heads are malformed.
pub const HEAD_MAX_BYTES: usize = 64 * 1024;

/// The bounds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes up to and with the empty line.
    pub head: usize,
    /// Bytes of the body.
    pub body: usize,
    /// Whether its sender will close the connection after it.
    pub closes: bool,
}

/// A message that this module cannot delimit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Where the message at the start of `bytes` ends; `None` while its head is not complete.
///
/// # Errors
///
/// A head that is too long, a length that is no number, or a transfer coding.
pub fn extent(bytes: &[u8]) -> Result<Option<Extent>, Malformed> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_MAX_BYTES { Err(Malformed) } else { Ok(None) };
    };
    let mut body = 0;
    let mut closes = false;
    for line in bytes[..head].split(|byte| *byte == b'\n').skip(1) {
        // The first letter is enough for most lines.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = field(line, b"content-length:") {
                    body =
                        std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok()).ok_or(Malformed)?;
                } else if let Some(value) = field(line, b"connection:") {
                    closes |= value.trim_ascii().eq_ignore_ascii_case(b"close");
                }
            }
            Some(b't' | b'T') if field(line, b"transfer-encoding:").is_some() => return Err(Malformed),
            _ => {}
        }
    }
    Ok(Some(Extent { head, body, closes }))
}

/// The status of a response whose first bytes are there.
///
/// # Errors
///
/// It does not begin as a response does.
pub fn status(head: &[u8]) -> Result<u16, Malformed> {
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or(Malformed)?;
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// The value of the header field `name` (lower case) in `head`.
#[must_use]
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let prefix = format!("{name}:");
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| field(line, prefix.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_after_its_length() {
        let message = b"HTTP/1.1 200 OK\r\nX: 1\r\ncontent-LENGTH: 5\r\n\r\nhello";
        assert_eq!(extent(message), Ok(Some(Extent { head: message.len() - 5, body: 5, closes: false })));
        assert_eq!(status(message), Ok(200));
        assert_eq!(header(message, "x"), Some("1"));
        assert_eq!(header(message, "y"), None);
    }

    #[test]
    fn a_message_without_length_has_no_body() {
        assert_eq!(extent(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some(Extent { head: 27, body: 0, closes: false })));
    }

    #[test]
    fn a_message_may_be_the_last_one() {
        let extent = extent(b"HTTP/1.1 503 -\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n1").unwrap().unwrap();
        assert!(extent.closes && extent.body == 1);
    }

    #[test]
    fn half_a_head_is_not_a_message_yet_and_an_endless_one_never() {
        assert_eq!(extent(b"GET / HTTP/1.1\r\nHost"), Ok(None));
        assert_eq!(extent(&vec![b'a'; HEAD_MAX_BYTES + 1]), Err(Malformed));
    }

    #[test]
    fn what_cannot_be_delimited_is_malformed() {
        assert_eq!(extent(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Malformed));
        assert_eq!(extent(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), Err(Malformed));
        assert_eq!(status(b"SSH-2.0"), Err(Malformed));
    }
}
