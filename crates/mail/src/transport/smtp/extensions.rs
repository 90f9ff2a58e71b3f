//! What a server says that it can do, in its reply to EHLO (RFC 5321, section 4.1.1.1).

use std::fmt;

use lettre::transport::smtp::extension::ClientId;

use super::reply::RawReply;

/// What of it matters here. A server that only knows HELO can do nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Extensions {
    /// STARTTLS (RFC 3207).
    pub(super) starttls: bool,
    /// SIZE (RFC 1870).
    pub(super) size: Option<SizeLimit>,
}

/// How large a message may be, in bytes; `None`: the server takes SIZE in MAIL FROM, and says no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeLimit(pub(super) Option<u64>);

impl Extensions {
    /// Of a reply to EHLO. Keywords mean the same in any case.
    pub(super) fn of(reply: &RawReply) -> Self {
        let mut extensions = Self::default();
        for text in reply.texts().skip(1) {
            let text = String::from_utf8_lossy(text);
            let mut words = text.split_ascii_whitespace();
            match words.next().map(str::to_ascii_uppercase).as_deref() {
                Some("STARTTLS") => extensions.starttls = true,
                Some("SIZE") => extensions.size = Some(SizeLimit::parse(words.next())),
                _ => {}
            }
        }
        extensions
    }
}

impl SizeLimit {
    /// Zero means that there is no fixed limit; so does what is no number.
    fn parse(word: Option<&str>) -> Self {
        Self(word.and_then(|word| word.parse().ok()).filter(|limit| *limit > 0))
    }
}

/// Whether a reply says that the command is not known, as opposed to not allowed.
pub(super) fn is_unknown(reply: &RawReply) -> bool {
    matches!(reply.code(), 500 | 502 | 504)
}

/// What is said to a server that does not know EHLO.
pub(super) struct Helo<'a>(pub(super) &'a ClientId);

impl fmt::Display for Helo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HELO {}\r\n", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::smtp::reply::ReplyReader;

    #[test]
    fn size_and_starttls_are_found_in_any_case() {
        let of = |text: &str| {
            let mut reader = ReplyReader::default();
            reader.receive(text.as_bytes());
            Extensions::of(&reader.next().unwrap().unwrap())
        };
        assert_eq!(
            of("250-size.example\r\n250-size 1000\r\n250 StartTls\r\n"),
            Extensions { starttls: true, size: Some(SizeLimit(Some(1000))) }
        );
        for unlimited in ["SIZE", "SIZE 0", "SIZE many"] {
            assert_eq!(of(&format!("250-h\r\n250 {unlimited}\r\n")).size, Some(SizeLimit(None)), "{unlimited}");
        }
        assert_eq!(of("250 STARTTLS\r\n"), Extensions::default(), "the first line is the server's name");
    }
}
