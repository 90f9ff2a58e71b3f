//! Files that come with a message: their names, in every form that readers know, and their bytes in base64.
//!
//! | form | who reads it |
//! |---|---|
//! | `filename*=utf-8''b%C3%BCro.txt` (RFC 2231) | whatever was written after 1997 |
//! | `filename="=?utf-8?q?b=C3=BCro.txt?="` there | older ones: forbidden by RFC 2047, decoded by all |
//! | `name="…"` in Content-Type, the same | those that look only there |
//!
//! A name in ASCII is the same in all of them, so it is written plain, twice.

use std::io::{self, Read as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use discovery::FieldError;
use lettre::message::{
    Body, SinglePart,
    header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue},
};
use uuid::Uuid;

use crate::message::{
    self,
    content::{CHUNK_BYTES, Content},
};

/// Bytes of a file on one line: 76 characters of base64, the most that RFC 2045, section 6.8, allows.
const LINE_BYTES: usize = 57;
/// The longest name in characters.
const NAME_MAX_CHARS: usize = 200;
/// Characters of a parameter on one line.
const LINE_CHARS: usize = 76;

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
pub struct AttachedFile {
    /// The part of the message, with a mark where the bytes belong.
    pub(super) part: SinglePart,
    pub(super) mark: String,
    pub(super) content: Content,
}

impl std::fmt::Debug for AttachedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttachedFile").field("content", &self.content).finish_non_exhaustive()
    }
}

/// Checks one file.
///
/// # Errors
/// Names the field and says what to change.
pub fn file(index: usize, request: FileRequest) -> Result<AttachedFile, FieldError> {
    let wrong = |field: &str, reason: &str| FieldError::new(format!("attachments[{index}].{field}"), reason);
    let name = request.filename.trim();
    checked_name(name).map_err(|reason| wrong("filename", reason))?;
    let kind = request.content_type.as_deref().unwrap_or("application/octet-stream").trim();
    checked_kind(kind).map_err(|reason| wrong("content_type", reason))?;
    // It cannot be guessed, so that it stands nowhere else.
    let mark = Uuid::new_v4().simple().to_string();
    let body = Body::dangerous_pre_encoded(mark.clone().into_bytes(), ContentTransferEncoding::Base64);
    let part = SinglePart::builder().header(Disposition::of(name)).header(Kind::of(kind, name)).body(body);
    Ok(AttachedFile { part, mark, content: request.content })
}

fn checked_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty; name the file");
    }
    if name.chars().count() > NAME_MAX_CHARS {
        return Err("it is longer than 200 characters; shorten it");
    }
    if name.chars().any(char::is_control) {
        return Err("it holds a line break or another control character; take it out");
    }
    if name.contains(['/', '\\', '"']) {
        return Err("it holds a slash, a backslash or a quotation mark; write the file's name without its folder");
    }
    if name.contains("=?") {
        return Err("it holds \"=?\", which readers take for an encoded word; take it out");
    }
    Ok(())
}

fn checked_kind(kind: &str) -> Result<(), &'static str> {
    let is_plain = kind.is_ascii() && kind.len() <= 100 && !kind.chars().any(char::is_control);
    if !is_plain || ContentType::parse(kind).is_err() {
        return Err("it is no media type; write for example application/pdf");
    }
    let lower = kind.to_ascii_lowercase();
    // The reader would take it apart.
    match lower.starts_with("multipart/") || lower.starts_with("message/") {
        true => Err("it is a message of its own; attach it as application/octet-stream, or as an archive"),
        false => Ok(()),
    }
}

/// The header `Content-Disposition`.
#[derive(Clone)]
struct Disposition(String);

/// The header `Content-Type`, with the name.
#[derive(Clone)]
struct Kind(String);

impl Disposition {
    fn of(name: &str) -> Self {
        let mut value = format!("attachment;\r\n filename=\"{}\"", quoted(name));
        if !name.is_ascii() {
            value.push_str(&extended(name));
        }
        Self(value)
    }
}

impl Kind {
    fn of(kind: &str, name: &str) -> Self {
        let has_name = kind.to_ascii_lowercase().contains("name=");
        Self(if has_name { kind.to_owned() } else { format!("{kind};\r\n name=\"{}\"", quoted(name)) })
    }
}

/// What stands between the quotation marks for readers that know no RFC 2231.
fn quoted(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { message::encoded_words(name) }
}

/// `filename*`, in several parts when it does not fit into one line (RFC 2231, sections 3 and 4).
fn extended(name: &str) -> String {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        let encoded = percent_encoded(c);
        match parts.last_mut() {
            Some(part) if part.len() + encoded.len() + " filename*12*=utf-8'';".len() <= LINE_CHARS => {
                part.push_str(&encoded);
            }
            _ => parts.push(encoded),
        }
    }
    if let [whole] = parts.as_slice() {
        return format!(";\r\n filename*=utf-8''{whole}");
    }
    let numbered = parts.iter().enumerate().map(|(index, part)| {
        let charset = if index == 0 { "utf-8''" } else { "" };
        format!(";\r\n filename*{index}*={charset}{part}")
    });
    numbered.collect()
}

/// What is not an `attribute-char` of RFC 2231, section 7, is encoded.
fn percent_encoded(c: char) -> String {
    if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '!' | '+') {
        return c.to_string();
    }
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// lettre asks each header for its name, and never reads these.
macro_rules! written_header {
    ($header:ty, $name:literal) => {
        impl Header for $header {
            fn name() -> HeaderName {
                HeaderName::new_from_ascii_str($name)
            }

            fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                Err(concat!($name, " is written here, and not read").into())
            }

            fn display(&self) -> HeaderValue {
                HeaderValue::dangerous_new_pre_encoded(Self::name(), self.0.clone(), self.0.clone())
            }
        }
    };
}

written_header!(Disposition, "Content-Disposition");
written_header!(Kind, "Content-Type");

/// Lines of base64, with CR LF between them.
pub(super) fn in_base64(content: &Content, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const WHOLE_LINES: usize = CHUNK_BYTES / LINE_BYTES * LINE_BYTES;
    let mut bytes = Vec::with_capacity(WHOLE_LINES);
    let mut lines = String::new();
    let mut reader = content.reader();
    loop {
        bytes.clear();
        reader.by_ref().take(u64::try_from(WHOLE_LINES).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(());
        }
        // The range between the event before and this one.
        let goes_on = !lines.is_empty();
        lines.clear();
        for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
            if goes_on || index > 0 {
                lines.push_str("\r\n");
            }
            BASE64_STANDARD.encode_string(line, &mut lines);
        }
        sink(lines.as_bytes())?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn request(filename: &str, kind: Option<&str>) -> FileRequest {
        FileRequest {
            filename: filename.to_owned(),
            content_type: kind.map(str::to_owned),
            content: Content::from(b"hello".to_vec()),
        }
    }

    fn written(filename: &str, kind: Option<&str>) -> String {
        file(0, request(filename, kind)).unwrap().part.headers().to_string()
    }

    #[test]
    fn an_attachment_is_a_file_and_not_a_path_or_a_message() {
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
    fn a_name_in_ascii_is_plain_in_both_places() {
        let headers = written("report 1.pdf", Some("application/pdf"));
        assert!(headers.contains("Content-Disposition: attachment;\r\n filename=\"report 1.pdf\"\r\n"), "{headers}");
        assert!(headers.contains("Content-Type: application/pdf;\r\n name=\"report 1.pdf\"\r\n"), "{headers}");
        let own = written("a", Some("text/plain; name=b"));
        assert!(own.contains("Content-Type: text/plain; name=b\r\n"), "{own}");
    }

    #[test]
    fn a_name_outside_ascii_has_the_forms_of_old_readers_and_of_new_ones() {
        let headers = written("büro.txt", None);
        for form in [
            "filename=\"=?utf-8?q?b=C3=BCro=2Etxt?=\"",
            "filename*=utf-8''b%C3%BCro.txt",
            "Content-Type: application/octet-stream;\r\n name=\"=?utf-8?q?b=C3=BCro=2Etxt?=\"",
        ] {
            assert!(headers.contains(form), "{form} in\n{headers}");
        }
        let long = written(&"日本語 ".repeat(50), None);
        assert!(long.contains("filename*0*=utf-8''%E6%97%A5") && long.contains("filename*1*=%"), "{long}");
        assert!(long.is_ascii() && long.split("\r\n").all(|line| line.len() <= 78), "{long}");
    }

    #[test]
    fn lines_of_base64_are_whole_wherever_a_block_ends() {
        for len in [0, 1, 56, 57, 58, 114, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
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
