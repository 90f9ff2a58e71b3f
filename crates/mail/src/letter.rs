//! A full message: several recipients, two kinds of text, headers, attachments; checked, and written once.
//!
//! What [`crate::message`] says holds here, too: no input adds a header, a recipient or a part that it was not asked for.
//! Headers that a request may set are a safe set: `X-…`, and a few that mean something to readers and nothing to servers.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use discovery::FieldError;
use lettre::message::{
    Attachment, Body, Mailbox, MultiPart, SinglePart,
    header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
};
use uuid::Uuid;

use crate::{
    clock::Moment,
    content::{BLOCK_BYTES, Content, SpoolDir},
    dkim::{BodyHash, Dkim},
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

/// Bytes of a file on one line: 76 characters of base64, the most that RFC 2045, section 6.8, allows.
const LINE_BYTES: usize = 57;

/// A file that comes with a message, as a request names it.
#[derive(Debug, Clone)]
pub struct FileRequest {
    /// What the reader sees; no path.
    pub filename: String,
    /// `application/pdf`; left out, `application/octet-stream`.
    pub content_type: Option<String>,
    /// Its bytes.
    pub content: Content,
}

/// A file with a name and a type that were checked.
pub struct LetterFile {
    /// The part of the message, with a mark where the bytes belong.
    part: SinglePart,
    mark: String,
    content: Content,
}

/// Why a letter could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// Something of the request is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The folder for large contents cannot be used.
    #[error("the folder for large messages cannot be used")]
    Spool(#[from] io::Error),
    /// The system gives no random numbers, which a signature needs.
    #[error("the message could not be signed")]
    Unsigned,
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
    /// Checked by [`file()`].
    pub files: Vec<LetterFile>,
    /// When it is sent.
    pub date: Moment,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}

impl Letter {
    /// Writes it: ASCII, lines ended by CR LF. Files go from their place in the spool to the letter's, block by block.
    ///
    /// # Errors
    /// Names the field that is wrong and says what to change; or the spool cannot be used.
    pub fn write(self, id: &MessageId, dkim: Option<&Dkim>, spool: &SpoolDir) -> Result<Content, LetterError> {
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
            (Some(text), Some(html)) => Bodies::Many(MultiPart::alternative().singlepart(text).singlepart(html)),
            (Some(one), None) | (None, Some(one)) => Bodies::One(one),
            (None, None) => return Err(FieldError::new("text", "it is missing; write text, html or both").into()),
        };
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        for file in self.files {
            parts.push(file.part);
            places.push((file.mark, file.content));
        }
        let message = match (body, parts) {
            (Bodies::One(part), parts) if parts.is_empty() => builder.singlepart(part),
            (Bodies::Many(bodies), parts) if parts.is_empty() => builder.multipart(bodies),
            (body, parts) => {
                let mixed = MultiPart::mixed();
                let first = match body {
                    Bodies::One(part) => mixed.singlepart(part),
                    Bodies::Many(bodies) => mixed.multipart(bodies),
                };
                builder.multipart(parts.into_iter().fold(first, MultiPart::singlepart))
            }
        }
        .map_err(unwritable)?;
        let frame = String::from_utf8(message.formatted())
            .map_err(|_| FieldError::new("text", "it cannot be written as a mail"))?;
        Written::new(&frame, places).spooled(dkim, self.date, spool)
    }
}

impl fmt::Debug for LetterFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LetterFile").field("content", &self.content).finish_non_exhaustive()
    }
}

enum Bodies {
    One(SinglePart),
    Many(MultiPart),
}

/// A letter, with its files where they are.
struct Written<'f> {
    headers: &'f str,
    body: Vec<Piece<'f>>,
}

enum Piece<'f> {
    Text(&'f str),
    File(Content),
}

impl<'f> Written<'f> {
    /// Cuts the `frame` where the marks are: lettre wrote it with a mark in the place of each file, in their order.
    fn new(frame: &'f str, places: Vec<(String, Content)>) -> Self {
        let (headers, mut rest) =
            frame.split_once("\r\n\r\n").map_or((frame, ""), |(head, _)| frame.split_at(head.len() + 2));
        let mut body = Vec::with_capacity(2 * places.len() + 1);
        for (mark, content) in places {
            let (before, after) = rest.split_once(&mark).expect("lettre writes a part's body as it was given");
            body.extend([Piece::Text(before), Piece::File(content)]);
            rest = after;
        }
        body.push(Piece::Text(rest));
        Self { headers, body }
    }

    fn spooled(&self, dkim: Option<&Dkim>, at: Moment, spool: &SpoolDir) -> Result<Content, LetterError> {
        let mut out = spool.begin();
        if let Some(dkim) = dkim {
            out.write_all(self.signature(dkim, at)?.as_bytes())?;
        }
        out.write_all(self.headers.as_bytes())?;
        self.each(|bytes| out.write_all(bytes))?;
        Ok(out.finish()?)
    }

    /// Goes over the body once more before it is written, because the signature comes first.
    fn signature(&self, dkim: &Dkim, at: Moment) -> Result<String, LetterError> {
        let (mut hash, mut line_end) = (BodyHash::new(), Some(b"\r\n"));
        self.each(|bytes| {
            // The empty line after the headers is not of the body.
            hash.update(match line_end.take() {
                Some(line_end) => bytes.strip_prefix(line_end).unwrap_or(bytes),
                None => bytes,
            });
            Ok(())
        })?;
        dkim.sign(self.headers, hash, at).map_err(|_| LetterError::Unsigned)
    }

    fn each(&self, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for piece in &self.body {
            match piece {
                Piece::Text(text) => tell(text.as_bytes())?,
                Piece::File(content) => in_base64(content, &mut tell)?,
            }
        }
        Ok(())
    }
}

/// Lines of base64, with CR LF between them.
fn in_base64(content: &Content, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const WHOLE_LINES: usize = BLOCK_BYTES / LINE_BYTES * LINE_BYTES;
    let (mut bytes, mut lines) = (Vec::with_capacity(WHOLE_LINES), String::new());
    let mut reader = content.reader();
    loop {
        bytes.clear();
        reader.by_ref().take(u64::try_from(WHOLE_LINES).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Between what was told before and this.
        let goes_on = !lines.is_empty();
        lines.clear();
        for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
            if goes_on || index > 0 {
                lines.push_str("\r\n");
            }
            BASE64_STANDARD.encode_string(line, &mut lines);
        }
        tell(lines.as_bytes())?;
    }
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

/// Checks one file.
///
/// # Errors
/// Names the field and says what to change.
pub fn file(index: usize, request: FileRequest) -> Result<LetterFile, FieldError> {
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
    // Nobody can guess it, so that it stands nowhere else.
    let mark = Uuid::new_v4().simple().to_string();
    let body = Body::dangerous_pre_encoded(mark.clone().into_bytes(), ContentTransferEncoding::Base64);
    Ok(LetterFile { part: Attachment::new(name.to_owned()).body(body, kind), mark, content: request.content })
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
        let request = |filename: &str, kind: Option<&str>| FileRequest {
            filename: filename.to_owned(),
            content_type: kind.map(str::to_owned),
            content: Content::from(b"hello".to_vec()),
        };
        assert!(file(0, request("büro.pdf", Some("application/pdf"))).is_ok());
        for (bad, field) in [
            (request("", None), "attachments[3].filename"),
            (request("../a", None), "attachments[3].filename"),
            (request("a\r\nb", None), "attachments[3].filename"),
            (request("a", Some("nothing")), "attachments[3].content_type"),
            (request("a", Some("multipart/mixed; boundary=x")), "attachments[3].content_type"),
            (request("a", Some("text/plain\r\nX: y")), "attachments[3].content_type"),
        ] {
            assert_eq!(file(3, bad).unwrap_err().field, field);
        }
    }

    #[test]
    fn lines_of_base64_are_whole_wherever_a_block_ends() {
        for len in [0, 1, 56, 57, 58, 114, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 1] {
            let bytes = vec![b'x'; len];
            let mut text = Vec::new();
            in_base64(&Content::from(bytes.clone()), |lines| text.write_all(lines)).unwrap();
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<&str> = text.split("\r\n").collect();
            assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 76), "{len}");
            assert_eq!(BASE64_STANDARD.decode(lines.concat()).unwrap(), bytes, "{len}");
        }
    }
}
