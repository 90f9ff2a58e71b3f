//! Replies as they come over the wire (RFC 5321, section 4.2): read as bytes, decided by their codes.
//!
//! "An SMTP client MUST determine its actions only by the reply code, not by the text." So the text may be in any
//! charset, and may be missing with the space before it. Lines may end with LF alone. What is no reply: a line that
//! does not begin with a code, and lines of one reply that disagree about it.

use crate::transport::outcome::Reply;

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawReply {
    /// Three digits in ASCII; the first is 2 to 5.
    code: [u8; 3],
    /// What follows the code and its separator in each line, in whatever charset.
    texts: Vec<Vec<u8>>,
}

/// Bytes that came, until they make a reply.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    received: Vec<u8>,
    /// How many of them hold no line end, for certain.
    searched: usize,
    /// The lines of the reply that has begun.
    begun: Option<RawReply>,
}

/// What came is no reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAReply;

// === impl RawReply ===

impl RawReply {
    /// The code as a number.
    pub(super) fn code(&self) -> u16 {
        self.code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'))
    }

    /// The first digit of the code: 2 to 5.
    pub(super) fn class(&self) -> u8 {
        self.code[0] - b'0'
    }

    /// Whether it refuses, for now (4xx) or for good (5xx).
    pub(super) fn is_negative(&self) -> bool {
        self.class() >= 4
    }

    /// What follows the code, line by line.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.texts.iter().map(Vec::as_slice)
    }

    /// For a person: all lines in one. A status code of RFC 3463 that each of them repeats is said once.
    pub(super) fn readable(&self) -> Reply {
        let mut lines = self.texts().map(readable);
        let mut text = lines.next().unwrap_or_default();
        let status = text.split(' ').next().filter(|word| word.contains('.')).map(|word| format!("{word} "));
        for line in lines {
            text.push(' ');
            text.push_str(status.as_ref().and_then(|status| line.strip_prefix(status.as_str())).unwrap_or(&line));
        }
        Reply::new(self.code(), &text)
    }
}

/// UTF-8 as it is. Of any other charset the ASCII characters, and the other bytes in hexadecimal: which charset it is,
/// the reply does not say.
fn readable(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) => text.to_owned(),
        Err(_) => text
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("\\x{byte:02X}") })
            .collect(),
    }
}

// === impl ReplyReader ===

impl ReplyReader {
    /// Takes in what came.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Whether nothing waits that was not made into a reply yet.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.begun.is_none()
    }

    /// The next whole reply; `None`: more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<RawReply>, NotAReply> {
        while let Some(line) = self.line() {
            let (code, is_last, text) = parse(&line).ok_or(NotAReply)?;
            let reply = self.begun.get_or_insert_with(|| RawReply { code, texts: Vec::new() });
            if reply.code != code {
                return Err(NotAReply);
            }
            reply.texts.push(text.to_vec());
            if is_last {
                return Ok(self.begun.take());
            }
        }
        Ok(None)
    }

    /// The next line without its end.
    fn line(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.received[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.received.len();
            return None;
        };
        let mut line: Vec<u8> = self.received.drain(..=self.searched + end).collect();
        self.searched = 0;
        line.pop();
        line.pop_if(|last| *last == b'\r');
        Some(line)
    }
}

/// Code, whether it is the last line, and text.
fn parse(line: &[u8]) -> Option<([u8; 3], bool, &[u8])> {
    let (code, rest) = line.split_first_chunk::<3>()?;
    if !matches!(code[0], b'2'..=b'5') || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    match rest.split_first() {
        None => Some((*code, true, rest)),
        Some((b' ', text)) => Some((*code, true, text)),
        Some((b'-', text)) => Some((*code, false, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<RawReply>, NotAReply> {
        let mut reader = ReplyReader::default();
        reader.receive(bytes);
        reader.next()
    }

    fn shown(bytes: &[u8]) -> String {
        read(bytes).unwrap().unwrap().readable().for_caller()
    }

    #[test]
    fn a_reply_is_a_code_with_or_without_text_in_any_charset() {
        for (bytes, expected) in [
            (&b"250\r\n"[..], "250"),
            (b"250 \r\n", "250"),
            (b"250 ok\n", "250 ok"),
            (b"250 \xB3\xC9\xB9\xA6 ok\r\n", "250 \\xB3\\xC9\\xB9\\xA6 ok"),
            (b"550 Empf\xE4nger unbekannt\r\n", "550 Empf\\xE4nger unbekannt"),
            ("550 Empfänger unbekannt\r\n".as_bytes(), "550 Empfänger unbekannt"),
            (b"571 unusual\r\n", "571 unusual"),
            (b"250-\r\n250\r\n", "250"),
            (b"550-5.7.1 not today\r\n550 5.7.1 nor tomorrow\r\n", "550 5.7.1 not today nor tomorrow"),
        ] {
            assert_eq!(shown(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_does_not_begin_with_a_code_is_no_reply_and_neither_are_lines_that_disagree() {
        for bytes in ["\r\n", "25\r\n", "hello\r\n", "999 x\r\n", "199 x\r\n", "250ok\r\n", "250-a\r\n550 b\r\n"] {
            assert_eq!(read(bytes.as_bytes()), Err(NotAReply), "{bytes:?}");
        }
    }

    #[test]
    fn a_reply_is_complete_with_its_last_line_and_what_follows_waits() {
        let mut reader = ReplyReader::default();
        for piece in ["2", "50-a", "\r", "\n250", " b\r"] {
            reader.receive(piece.as_bytes());
            assert_eq!(reader.next(), Ok(None), "{piece:?}");
        }
        reader.receive(b"\n421 bye\r\n");
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.code(), first.texts().count(), reader.is_empty()), (250, 2, false));
        assert!(reader.next().unwrap().unwrap().is_negative() && reader.is_empty());
    }
}
