//! A full message: several recipients, two kinds of text, headers, attachments; checked, and written once.
//!
//! What [`crate::message`] says holds here, too: no input adds a header, a recipient or a part that it was not asked
//! for.
//!
//! | module | what it settles |
//! |---|---|
//! | `header` | headers that a request sets |
//! | `file` | names, types and bytes of files |

mod file;
mod header;

use std::{
    fmt,
    io::{self, Write as _},
};

use discovery::FieldError;
use lettre::message::{Mailbox, MultiPart, SinglePart, header::HeaderValue};
use service_kit::time::UnixMillis;

use super::{
    MessageId, Subject,
    content::{Content, SpoolDir},
    dkim::{BodyHash, Dkim},
};
use crate::message;

pub use file::{AttachedFile, FileRequest, file};
pub use header::{header, headers};

use file::in_base64;

/// The longest html, or text, in bytes: 1 MiB.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// The most attachments.
pub const ATTACHMENTS_MAX: usize = 20;

/// Why a letter could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
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
pub struct Composer {
    /// Whom it comes from.
    pub from: Mailbox,
    /// Recipients: `To` and `Cc`.
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
    /// Checked by [`header()`].
    pub headers: Vec<HeaderValue>,
    /// Checked by [`file()`].
    pub files: Vec<AttachedFile>,
    /// When it is sent.
    pub date: UnixMillis,
}

impl fmt::Debug for Composer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Composer").finish_non_exhaustive()
    }
}

impl Composer {
    /// Writes it: ASCII, lines ended by CR LF. Files go from their place in the spool to the letter's, chunk by chunk.
    ///
    /// # Errors
    /// Names the field that is wrong and says what to change; or the spool cannot be used.
    pub fn write(self, id: &MessageId, dkim: Option<&Dkim>, spool: &SpoolDir) -> Result<Content, ComposeError> {
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
        let mut parts = Vec::new();
        let mut places = Vec::new();
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

    fn spooled(&self, dkim: Option<&Dkim>, at: UnixMillis, spool: &SpoolDir) -> Result<Content, ComposeError> {
        let mut out = spool.begin();
        if let Some(dkim) = dkim {
            out.write_all(self.signature(dkim, at)?.as_bytes())?;
        }
        out.write_all(self.headers.as_bytes())?;
        self.each(|bytes| out.write_all(bytes))?;
        Ok(out.finish()?)
    }

    /// Goes over the body once more before it is written, because the signature comes first.
    fn signature(&self, dkim: &Dkim, at: UnixMillis) -> Result<String, ComposeError> {
        let mut hash = BodyHash::new();
        let mut line_end = Some(b"\r\n");
        self.each(|bytes| {
            // The empty line after the headers is not of the body.
            hash.update(match line_end.take() {
                Some(line_end) => bytes.strip_prefix(line_end).unwrap_or(bytes),
                None => bytes,
            });
            Ok(())
        })?;
        dkim.sign(self.headers, hash, at).map_err(|_| ComposeError::Unsigned)
    }

    fn each(&self, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for piece in &self.body {
            match piece {
                Piece::Text(text) => sink(text.as_bytes())?,
                Piece::File(content) => in_base64(content, &mut sink)?,
            }
        }
        Ok(())
    }
}
