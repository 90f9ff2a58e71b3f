//! Headers that a request sets: which ones, and how they are written.
//!
//! A request may set a safe set: `X-…`, and a few that mean something to readers and nothing to servers. There are two
//! kinds (RFC 5322, section 2.2):
//!
//! - *Unstructured* ones (`X-…`) are text for people. What is outside ASCII becomes encoded words (RFC 2047).
//! - *Structured* ones (`References`, `List-Unsubscribe` and the others) are read by programs, which know no encoded
//!   words there (RFC 2047, section 5). They are written as they came, folded at white space (RFC 5322, section 2.2.3),
//!   or refused.

use discovery::FieldError;
use lettre::message::header::{HeaderName, HeaderValue};

use crate::message;

/// The most headers that a request may add.
const HEADERS_MAX: usize = 20;
/// The longest name in bytes.
const NAME_MAX_BYTES: usize = 60;
/// The longest text in an unstructured header, in characters.
const TEXT_MAX_CHARS: usize = 500;
/// The longest word of a structured header, in bytes: with the header's name before it, it must fit into one line of at
/// most 998 (RFC 5322, section 2.1.1), because nothing can be folded within it.
const WORD_MAX_BYTES: usize = 900;
/// Where lines are folded, in characters (RFC 5322, section 2.1.1).
const LINE_CHARS: usize = 78;

/// What a request may set beside `X-…`; all of them are structured.
const STRUCTURED: [&str; 10] = [
    "Auto-Submitted",
    "Feedback-ID",
    "Importance",
    "In-Reply-To",
    "List-Help",
    "List-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Precedence",
    "References",
];

/// Checks a header that a request sets.
///
/// # Errors
/// Says what to change, under `headers.NAME`, or `headers` when the name itself is wrong.
pub fn header(name: &str, value: &str) -> Result<HeaderValue, FieldError> {
    let is_token =
        name.len() <= NAME_MAX_BYTES && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_structured = STRUCTURED.iter().any(|known| known.eq_ignore_ascii_case(name));
    let is_free = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")) && name.len() > 2;
    let header = match HeaderName::new_from_ascii(name.to_owned()) {
        Ok(header) if is_token && (is_structured || is_free) => header,
        _ => {
            return Err(FieldError::new(
                "headers",
                "a header may be X-…, List-…, References, In-Reply-To, Auto-Submitted, Precedence, Importance or \
                 Feedback-ID, of letters, digits and hyphens; everything else has a field of its own",
            ));
        }
    };
    let wrong = |reason| FieldError::new(format!("headers.{name}"), reason);
    if value.trim().is_empty() {
        return Err(wrong("it is empty; leave it out"));
    }
    if value.chars().any(char::is_control) {
        return Err(wrong("it holds a line break or another control character; write one line, it is folded here"));
    }
    if is_structured { structured(header, value).map_err(wrong) } else { unstructured(header, value).map_err(wrong) }
}

/// Checks the headers of a request.
///
/// # Errors
/// See [`header`]; or there are too many, or one of them twice.
pub fn headers<'a>(
    given: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<HeaderValue>, FieldError> {
    if given.len() > HEADERS_MAX {
        return Err(FieldError::new("headers", "there are more than 20; leave some out"));
    }
    let mut names: Vec<&String> = Vec::with_capacity(given.len());
    let mut checked = Vec::with_capacity(given.len());
    for (name, value) in given {
        checked.push(header(name, value)?);
        if names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(FieldError::new(
                format!("headers.{name}"),
                "it is there twice, in another case; leave one out",
            ));
        }
        names.push(name);
    }
    Ok(checked)
}

fn unstructured(name: HeaderName, value: &str) -> Result<HeaderValue, &'static str> {
    match value.chars().count() <= TEXT_MAX_CHARS {
        true => Ok(message::header_value(name, value)),
        false => Err("it is longer than 500 characters; shorten it"),
    }
}

fn structured(name: HeaderName, value: &str) -> Result<HeaderValue, &'static str> {
    if !value.is_ascii() {
        return Err("programs read it, and it must be ASCII; percent-encode what is not in a URL, or leave it out");
    }
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    if words.iter().any(|word| word.len() > WORD_MAX_BYTES) {
        return Err(
            "it has a part of more than 900 characters without a space, which no line of a mail can hold; shorten it",
        );
    }
    let folded = folded(&name, &words);
    Ok(HeaderValue::dangerous_new_pre_encoded(name, value.to_owned(), folded))
}

/// The words on as many lines as it takes. Unfolded, there is one space between them.
fn folded(name: &str, words: &[&str]) -> String {
    let mut out = String::new();
    let mut line_chars = name.len() + 1;
    for (index, word) in words.iter().enumerate() {
        if index > 0 && line_chars + 1 + word.len() > LINE_CHARS {
            out.push_str("\r\n");
            line_chars = 0;
        }
        // The space before the first word is the one after the colon, which lettre writes.
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
        line_chars += 1 + word.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, value: &str) -> String {
        let mut headers = lettre::message::header::Headers::new();
        headers.insert_raw(header(name, value).unwrap());
        headers.to_string()
    }

    #[test]
    fn only_headers_of_the_safe_set_may_be_set() {
        for (name, value) in [("X-Tag", "a"), ("x-campaign", "ä"), ("References", "<a@b.c> <d@e.f>"), ("List-Id", "a")]
        {
            assert!(header(name, value).is_ok(), "{name}");
        }
        for (name, value, field) in [
            ("Bcc", "a@b.c", "headers"),
            ("To", "a@b.c", "headers"),
            ("From", "a@b.c", "headers"),
            ("Sender", "a@b.c", "headers"),
            ("Received", "x", "headers"),
            ("DKIM-Signature", "x", "headers"),
            ("Content-Type", "text/html", "headers"),
            ("X-", "a", "headers"),
            ("X-A: b\r\nBcc", "a", "headers"),
            ("X-Ä", "a", "headers"),
            ("X-A", "a\r\nBcc: b@c.d", "headers.X-A"),
            ("X-A", "", "headers.X-A"),
            ("X-A", &"x".repeat(501), "headers.X-A"),
            ("References", "<a@b.c>\r\nBcc: b@c.d", "headers.References"),
            ("References", &"x".repeat(901), "headers.References"),
            ("List-Unsubscribe", "<https://bücher.example/leave>", "headers.List-Unsubscribe"),
        ] {
            assert_eq!(header(name, value).unwrap_err().field, field, "{name}");
        }
    }

    #[test]
    fn a_structured_header_is_never_encoded_whatever_it_looks_like() {
        let link = "<https://shop.example/leave/=?utf-8?q?who?=>, <mailto:leave@shop.example?subject==?x?=>";
        assert_eq!(written("List-Unsubscribe", link).replace("\r\n ", " "), format!("List-Unsubscribe: {link}\r\n"));
        assert!(written("X-Tag", "=?utf-8?q?a?=").contains("=3D=3F"), "text that looks encoded is encoded");
    }

    #[test]
    fn references_of_any_length_are_folded_into_lines_that_a_server_takes() {
        let ids: Vec<String> =
            (0..500).map(|index| format!("<message-{index}.{}@example.com>", "x".repeat(40))).collect();
        let header = written("References", &ids.join(" "));
        assert!(header.len() > 30_000 && header.split("\r\n").all(|line| line.len() <= LINE_CHARS));
        assert_eq!(header.replace("\r\n ", " "), format!("References: {}\r\n", ids.join(" ")));
        let long = format!("<{}@b.c>", "x".repeat(WORD_MAX_BYTES - 6));
        assert!(written("References", &format!("{long} {long}")).split("\r\n").all(|line| line.len() <= 998));
    }

    #[test]
    fn a_header_that_is_there_twice_is_refused() {
        let given = |names: [&str; 2]| names.map(|name| (name.to_owned(), "x".to_owned())).to_vec();
        for (names, is_taken) in [(["X-A", "X-B"], true), (["X-A", "x-a"], false)] {
            let given = given(names);
            assert_eq!(headers(given.iter().map(|(name, value)| (name, value))).is_ok(), is_taken, "{names:?}");
        }
    }
}
