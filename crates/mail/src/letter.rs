//! A full message: several recipients, two kinds of text, headers, attachments; checked, and written once.
//!
//! What [`crate::message`] says holds here, too: no input adds a header, a recipient or a part that it was not asked for.
//! Headers that a request may set are a safe set: `X-…`, and a few that mean something to readers and nothing to servers.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use discovery::FieldError;
use lettre::message::{
    Attachment, Mailbox, MultiPart, SinglePart,
    header::{ContentType, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Moment,
    dkim::Dkim,
    message::{self, MessageId, Subject},
};

/// The longest html, or text, in bytes: 1 MiB.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// The most attachments.
pub const ATTACHMENTS_MAX: usize = 20;
/// The most headers that a request may add, and the longest value in characters.
const HEADERS_MAX: usize = 20;
const HEADER_MAX_CHARS: usize = 500;

/// What a request may set beside `X-…`.
const SAFE_HEADERS: [&str; 10] = [
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

/// A file that comes with a message, as a request holds it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// What the reader sees; no path.
    pub filename: String,
    /// `application/pdf`; left out, `application/octet-stream`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// The bytes, in base64.
    pub content: String,
}

impl std::fmt::Debug for AttachmentRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachmentRequest").field("len", &self.content.len()).finish_non_exhaustive()
    }
}

/// Everything about a message that readers see.
pub struct Letter {
    /// Whom it comes from.
    pub from: Mailbox,
    /// Whom it goes to, and who else is told.
    pub to: Vec<Mailbox>,
    /// See `to`.
    pub cc: Vec<Mailbox>,
    /// Where answers go instead of to `from`.
    pub reply_to: Vec<Mailbox>,
    /// One line.
    pub subject: Subject,
    /// Plain text; one of the two is there.
    pub text: Option<String>,
    /// The same for readers that show html.
    pub html: Option<String>,
    /// Checked by [`header`].
    pub headers: Vec<HeaderValue>,
    /// Checked by [`attachment`].
    pub attachments: Vec<SinglePart>,
    /// When it is sent.
    pub date: Moment,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}

impl Letter {
    /// Writes it: ASCII, lines ended by CR LF.
    ///
    /// # Errors
    /// Names the field that is wrong and says what to change.
    pub fn write(self, id: &MessageId, dkim: Option<&Dkim>) -> Result<Vec<u8>, FieldError> {
        let unwritable = |_| FieldError::new("text", "it cannot be written as a mail");
        let mut builder = lettre::Message::builder().from(self.from);
        for mailbox in self.to {
            builder = builder.to(mailbox);
        }
        for mailbox in self.cc {
            builder = builder.cc(mailbox);
        }
        for mailbox in self.reply_to {
            builder = builder.reply_to(mailbox);
        }
        builder = builder.raw_header(self.subject.header()).message_id(Some(id.to_string()));
        for header in self.headers {
            builder = builder.raw_header(header);
        }
        let builder = builder.date(self.date.system_time());
        let text = self.text.as_deref().map(|text| message::lines("text", text)).transpose()?.map(SinglePart::plain);
        let html = self.html.as_deref().map(|html| message::lines("html", html)).transpose()?.map(SinglePart::html);
        let body = match (text, html) {
            (Some(text), Some(html)) => Body::Many(MultiPart::alternative().singlepart(text).singlepart(html)),
            (Some(one), None) | (None, Some(one)) => Body::One(one),
            (None, None) => return Err(FieldError::new("text", "it is missing; write text, html or both")),
        };
        let mut message = match (body, self.attachments) {
            (Body::One(part), attachments) if attachments.is_empty() => builder.singlepart(part),
            (Body::Many(parts), attachments) if attachments.is_empty() => builder.multipart(parts),
            (body, attachments) => {
                let mixed = MultiPart::mixed();
                let first = match body {
                    Body::One(part) => mixed.singlepart(part),
                    Body::Many(parts) => mixed.multipart(parts),
                };
                builder.multipart(attachments.into_iter().fold(first, MultiPart::singlepart))
            }
        }
        .map_err(unwritable)?;
        if let Some(dkim) = dkim {
            dkim.sign(&mut message);
        }
        Ok(message.formatted())
    }
}

enum Body {
    One(SinglePart),
    Many(MultiPart),
}

/// Checks a header that a request sets.
///
/// # Errors
/// Says what to change, under `headers.NAME`.
pub fn header(name: &str, value: &str) -> Result<HeaderValue, FieldError> {
    let wrong = |reason: &str| Err(FieldError::new("headers", reason));
    let is_safe = SAFE_HEADERS.iter().any(|safe| safe.eq_ignore_ascii_case(name))
        || name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")) && name.len() > 2;
    let is_token = name.len() <= 60 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_safe || !is_token {
        return wrong(
            "a header may be X-…, List-…, References, In-Reply-To, Auto-Submitted, Precedence, Importance or Feedback-ID; everything else has a field of its own",
        );
    }
    if value.trim().is_empty() || value.chars().any(char::is_control) || value.chars().count() > HEADER_MAX_CHARS {
        return wrong("a header's value is one line of 1 to 500 characters, without control characters");
    }
    let Ok(name) = HeaderName::new_from_ascii(name.to_owned()) else {
        return wrong("a header's name is letters, digits and hyphens");
    };
    Ok(message::header_value(name, value))
}

/// Checks the headers of a request.
///
/// # Errors
/// See [`header`]; or there are too many.
pub fn headers<'a>(
    given: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<HeaderValue>, FieldError> {
    if given.len() > HEADERS_MAX {
        return Err(FieldError::new("headers", "there are more than 20; leave some out"));
    }
    given.map(|(name, value)| header(name, value)).collect()
}

/// Checks one attachment. What it was in JSON is gone afterwards: it may be large.
///
/// # Errors
/// Names the field and says what to change.
pub fn attachment(index: usize, request: AttachmentRequest) -> Result<SinglePart, FieldError> {
    let wrong = |field: &str, reason: &str| FieldError::new(format!("attachments[{index}].{field}"), reason);
    let name = request.filename.trim();
    let is_bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '"');
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(is_bad) || name.contains("=?") {
        return Err(wrong(
            "filename",
            "it is a name of 1 to 200 characters without slashes, quotes or control characters",
        ));
    }
    let kind = request.content_type.as_deref().unwrap_or("application/octet-stream");
    let is_plain = kind.is_ascii() && kind.len() <= 100 && !kind.chars().any(char::is_control);
    // A part of many parts would be taken apart by the reader.
    let kind = ContentType::parse(kind).ok().filter(|_| is_plain && !is_composite(kind));
    let kind = kind.ok_or_else(|| wrong("content_type", "it is no media type; write for example application/pdf"))?;
    let bytes = BASE64_STANDARD
        .decode(request.content)
        .map_err(|_| wrong("content", "it is not base64 with the standard alphabet and padding"))?;
    Ok(Attachment::new(name.to_owned()).body(bytes, kind))
}

fn is_composite(kind: &str) -> bool {
    let kind = kind.trim_start().to_ascii_lowercase();
    kind.starts_with("multipart/") || kind.starts_with("message/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_the_safe_set_may_be_set() {
        for (name, value) in [("X-Tag", "a"), ("x-campaign", "ä"), ("References", "<a@b.c> <d@e.f>"), ("List-Id", "a")]
        {
            assert!(header(name, value).is_ok(), "{name}");
        }
        for (name, value) in [
            ("Bcc", "a@b.c"),
            ("To", "a@b.c"),
            ("From", "a@b.c"),
            ("Sender", "a@b.c"),
            ("Received", "x"),
            ("DKIM-Signature", "x"),
            ("Content-Type", "text/html"),
            ("X-", "a"),
            ("X-A: b\r\nBcc", "a"),
            ("X-Ä", "a"),
            ("X-A", "a\r\nBcc: b@c.d"),
            ("X-A", ""),
            ("X-A", &"x".repeat(501)),
        ] {
            assert_eq!(header(name, value).unwrap_err().field, "headers", "{name}");
        }
    }

    #[test]
    fn an_attachment_is_a_file_and_not_a_path_or_a_message() {
        let request = |filename: &str, kind: Option<&str>, content: &str| AttachmentRequest {
            filename: filename.to_owned(),
            content_type: kind.map(str::to_owned),
            content: content.to_owned(),
        };
        assert!(attachment(0, request("büro.pdf", Some("application/pdf"), "aGVsbG8=")).is_ok());
        for (bad, field) in [
            (request("", None, ""), "attachments[3].filename"),
            (request("../a", None, ""), "attachments[3].filename"),
            (request("a\r\nb", None, ""), "attachments[3].filename"),
            (request("a", Some("nothing"), ""), "attachments[3].content_type"),
            (request("a", Some("multipart/mixed; boundary=x"), ""), "attachments[3].content_type"),
            (request("a", Some("text/plain\r\nX: y"), ""), "attachments[3].content_type"),
            (request("a", None, "not base64!"), "attachments[3].content"),
        ] {
            assert_eq!(attachment(3, bad).unwrap_err().field, field);
        }
    }
}
