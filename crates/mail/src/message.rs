//! A message: its parts, checked, and the bytes that go over the wire.
//!
//! A request decides recipients, subject and text. The rest is ours: the date, the Message-ID, the MIME headers; the
//! envelope is set, not derived from headers. No input can add a header, a recipient or a part that was not asked for,
//! because nothing of it reaches lettre unchecked:
//!
//! - recipients are checked ([`crate::message::recipient`]); the subject is one line;
//! - the text is always `text/plain; charset=utf-8`, whatever it looks like, in lines that end with CR LF; a lone CR or
//!   LF, which SMTP servers disagree about, becomes a line end, and other control characters are refused;
//! - all bytes are ASCII (quoted-printable or base64 where the text is not), so that no server has to offer 8BITMIME.

pub mod composer;
pub mod content;
pub mod dkim;
pub(crate) mod openapi;
pub mod recipient;
pub mod recipient_spec;
pub mod sender;

use std::fmt;

use discovery::FieldError;
use lettre::{
    address::Envelope,
    message::header::{HeaderName, HeaderValue},
};
use uuid::Uuid;

use content::Content;
use sender::Sender;

/// The longest subject in characters. More than any client shows.
pub const SUBJECT_MAX_CHARS: usize = 200;

/// One line of text, not empty, without control characters, at most [`SUBJECT_MAX_CHARS`] long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

impl Subject {
    /// Checks the field `subject` of a request, or the configured default.
    ///
    /// # Errors
    /// Says what to change.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let reason = if text.trim().is_empty() {
            "it is empty; leave it out for the default"
        } else if text.chars().any(char::is_control) {
            "it holds a line break or another control character; write one line"
        } else if text.chars().count() > SUBJECT_MAX_CHARS {
            "it is longer than 200 characters; shorten it"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(FieldError::new("subject", reason))
    }

    /// The `Subject` header.
    ///
    /// lettre writes plain text. What is outside ASCII, or looks encoded although it is not, is encoded here, all of
    /// it: lettre passes on what looks encoded, so that `=?utf-8?q?=0d=0a…?=` becomes a line break at the reader's, and
    /// loses spaces between encoded words.
    pub(crate) fn header(&self) -> HeaderValue {
        header_value(HeaderName::new_from_ascii_str("Subject"), &self.0)
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A header of one checked line; see [`Subject::header`].
pub(crate) fn header_value(name: HeaderName, value: &str) -> HeaderValue {
    if value.is_ascii() && !value.contains("=?") {
        return HeaderValue::new(name, value.to_owned());
    }
    HeaderValue::dangerous_new_pre_encoded(name, value.to_owned(), encoded_words(value))
}

/// `text` in the Q encoding of RFC 2047, as many words as it takes, one a line. A line of words has at most 76
/// characters (section 2), the header's name included, and a word holds whole characters (section 5).
pub(crate) fn encoded_words(text: &str) -> String {
    const WORD_MAX_CHARS: usize = 52;
    let mut words = vec![String::new()];
    for c in text.chars() {
        let mut utf8 = [0; 4];
        let bytes = c.encode_utf8(&mut utf8).bytes();
        let encoded: String = match c {
            ' ' => "_".to_owned(),
            c if c.is_ascii_alphanumeric() => c.to_string(),
            _ => bytes.map(|byte| format!("={byte:02X}")).collect(),
        };
        match words.last_mut() {
            Some(word) if word.len() + encoded.len() <= WORD_MAX_CHARS => word.push_str(&encoded),
            _ => words.push(encoded),
        }
    }
    words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| error.reason)
    }
}

/// Names a message for ever, in its `Message-ID` header, in our answers and in the log: `<0193…@example.com>`.
///
/// It is made here, not by the SMTP server, so that a client that does not know whether a message was sent can
/// recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    pub(crate) fn new(sender: &Sender) -> Self {
        Self(format!("<{}@{}>", Uuid::now_v7().simple(), sender.domain()))
    }

    /// One that was made before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The part before the `@`: unique, 32 hexadecimal digits that sort by time.
    #[must_use]
    pub fn unique(&self) -> &str {
        self.0.trim_start_matches('<').split('@').next().unwrap_or_default()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message that is ready to be handed over.
pub struct Message {
    id: MessageId,
    envelope: Envelope,
    content: Content,
}

impl Message {
    /// A message that was written before, to one of its recipients; all of them share its content.
    pub(crate) fn stored(id: MessageId, envelope: Envelope, content: Content) -> Self {
        Self { id, envelope, content }
    }

    /// The Message-ID.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Sender and recipient as SMTP's commands carry them.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Headers and encoded text, ASCII, lines ended by CR LF, the last one too.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("len", &self.content.len()).finish_non_exhaustive()
    }
}

/// `text` with every line end written as CR LF. Done here because lettre leaves a lone CR alone, and inserts its line
/// ends one by one, which takes seconds for a text of nothing but line ends.
pub(crate) fn lines(field: &str, text: &str) -> Result<String, FieldError> {
    if text.trim().is_empty() {
        return Err(FieldError::new(field.to_owned(), "it is empty; write the text of the mail"));
    }
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push_str("\r\n");
            }
            '\n' => out.push_str("\r\n"),
            '\t' => out.push(c),
            c if c.is_control() => {
                let reason = format!("it holds the control character U+{:04X}; take it out", u32::from(c));
                return Err(FieldError::new(field.to_owned(), reason));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_outside_ascii_is_encoded_in_short_lines_of_whole_characters() {
        assert_eq!(encoded_words("ä b"), "=?utf-8?q?=C3=A4_b?=");
        for line in encoded_words(&"日本 ".repeat(40)).split("\r\n ") {
            let word = line.strip_prefix("=?utf-8?q?").and_then(|rest| rest.strip_suffix("?=")).unwrap();
            assert!(line.len() + "Subject: ".len() <= 76, "{line}");
            assert_eq!(word.replace('_', "").len() % 9, 0, "a character of three bytes is never cut: {word}");
        }
    }

    #[test]
    fn every_kind_of_line_end_becomes_one_line_end() {
        assert_eq!(lines("message", "a\rb\nc\r\nd\n\re").unwrap(), "a\r\nb\r\nc\r\nd\r\n\r\ne");
    }

    #[test]
    fn control_characters_are_refused_and_tabs_are_not() {
        for bad in ["a\0b", "\u{1b}[31m", "\u{7f}", "a\u{85}"] {
            let error = lines("message", bad).unwrap_err();
            assert!(error.field == "message" && error.reason.contains("U+00"), "{error}");
        }
        assert_eq!(lines("message", "a\tb").unwrap(), "a\tb");
        assert!(lines("message", " \n").is_err(), "nothing to read is not a mail");
    }

    #[test]
    fn a_message_id_is_new_each_time_and_of_our_domain() {
        let from: Sender = "muster@example.com".parse().unwrap();
        let first = MessageId::new(&from);
        let second = MessageId::new(&from);
        assert_ne!(first, second);
        assert!(first.to_string().ends_with("@example.com>") && first.unique().len() == 32, "{first}");
    }
}
