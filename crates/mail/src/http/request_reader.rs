//! The body of `POST /v1/messages`, read as it comes in.
//!
//! What a message says is small and kept as JSON; what it carries can be large and goes past: the base64 of a file is
//! decoded into the [spool](crate::message::content) while it is being read, whichever field comes first. So a request
//! takes the same memory whatever is attached to it.

pub(crate) mod batch;
mod limited_reader;

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write as _},
    ops::Range,
};

use axum::http::StatusCode;
use base64::{DecodeError, prelude::BASE64_STANDARD, read::DecoderReader};
use serde_json::{Map, Value};
use service_kit::{Problem, json};
use struson::{
    reader::{JsonReader as _, JsonReaderPosition, JsonStreamReader, ReaderError, ReaderSettings, ValueType},
    serde::DeserializerError,
};

use crate::{
    error::spool_problem,
    message::{
        composer::{self, ATTACHMENTS_MAX, FileRequest},
        content::{CHUNK_BYTES, Spool, SpoolDir},
    },
    submission::Submission,
};
use limited_reader::{LimitedReader, ReadLimit, TooLarge, is_too_large};

/// The most bytes of `text`, or `html`: a text of 1 MiB in which every character is escaped.
const TEXT_MAX_BYTES: usize = 6 * composer::BODY_MAX_BYTES;
/// The most bytes of `data`, from which a text of 1 MiB at most is made.
const DATA_MAX_BYTES: usize = 1024 * 1024;
/// The most bytes of any other field, as it stands in JSON: far more than fifty recipients take.
const FIELD_MAX_BYTES: usize = 128 * 1024;
/// The most fields, far more than there are.
const FIELDS_MAX: usize = 32;
/// The field with the files.
const ATTACHMENTS: &str = "attachments";

/// What a request asks for.
#[derive(Debug)]
pub struct MessageRequest {
    /// The message.
    pub submission: Submission,
    /// SHA-256 of the body, in hexadecimal: what the request is recognised by when it comes again.
    pub fingerprint: String,
}

/// Reads a whole body. It may take its time, and writes to a disk what is large.
///
/// # Errors
/// 400 when it is no JSON, 413 when there is too much of it beside the files, 422 with the field that is wrong; 503 and
/// 507 when the spool cannot be used.
pub fn read(body: impl Read, spool: &SpoolDir) -> Result<MessageRequest, Problem> {
    let limit = ReadLimit::new(FIELD_MAX_BYTES);
    let settings = ReaderSettings { restrict_number_values: false, ..ReaderSettings::default() };
    let mut reading = Reading {
        json: JsonStreamReader::new_custom(limit.read(body), settings),
        limit: limit.clone(),
        spool: BufWriter::with_capacity(CHUNK_BYTES, spool.begin()),
        spooled: 0,
    };
    let (fields, files) = reading.message()?;
    let Reading { json, spool, .. } = reading;
    // To the end of the body: only then has everything been counted and hashed.
    json.consume_trailing_whitespace().map_err(Refused::from)?;
    let mut submission: Submission = json::of_fields(fields)?;
    let spool = spool.into_inner().map_err(|error| spool_problem(error.error()))?;
    let content = spool.finish().map_err(|error| spool_problem(&error))?;
    let with_content = |file: FileFields| FileRequest {
        filename: file.filename,
        content_type: file.content_type,
        content: content.part(file.range),
    };
    submission.attachments = files.into_iter().map(with_content).collect();
    Ok(MessageRequest { submission, fingerprint: limit.fingerprint() })
}

/// Why a body is refused.
struct Refused(Problem);

impl Refused {
    fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self(Problem::field(field, reason))
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Refused> for Problem {
    fn from(Refused(problem): Refused) -> Self {
        problem
    }
}

/// A file of the request; its bytes are in the spool.
struct FileFields {
    filename: String,
    content_type: Option<String>,
    range: Range<u64>,
}

struct Reading<R: Read> {
    json: JsonStreamReader<LimitedReader<R>>,
    limit: ReadLimit,
    spool: BufWriter<Spool>,
    spooled: u64,
}

impl<R: Read> Reading<R> {
    fn message(&mut self) -> Result<(Map<String, Value>, Vec<FileFields>), Refused> {
        match self.json.peek()? {
            ValueType::Object => {}
            ValueType::Array => {
                return Err(json::is_a_list().into());
            }
            _ => return Err(Refused::field("body", "it is no JSON object; send {\"name\": value, …}")),
        }
        let mut fields = Map::new();
        let mut files = None;
        self.json.begin_object()?;
        while self.json.has_next()? {
            let name = self.json.next_name_owned()?;
            if fields.contains_key(&name) || (files.is_some() && name == ATTACHMENTS) {
                return Err(Refused::field(name, "it is there twice; leave one out"));
            }
            if fields.len() == FIELDS_MAX {
                return Err(Refused::field(name, "it is one field more than any message has"));
            }
            match name.as_str() {
                ATTACHMENTS => files = Some(self.files()?),
                _ => {
                    let value = self.value(&name)?;
                    fields.insert(name, value);
                }
            }
        }
        self.json.end_object()?;
        Ok((fields, files.unwrap_or_default()))
    }

    fn files(&mut self) -> Result<Vec<FileFields>, Refused> {
        self.expect(ValueType::Array, ATTACHMENTS, "it is a list of files")?;
        self.json.begin_array()?;
        let mut files = Vec::new();
        while self.json.has_next()? {
            if files.len() == ATTACHMENTS_MAX {
                return Err(Refused::field(ATTACHMENTS, "there are more than 20; send an archive"));
            }
            let file = self.file(&format!("{ATTACHMENTS}[{}]", files.len()))?;
            files.push(file);
        }
        self.json.end_array()?;
        Ok(files)
    }

    fn file(&mut self, path: &str) -> Result<FileFields, Refused> {
        self.expect(ValueType::Object, path, "it is an object, {\"filename\", \"content_type\", \"content\"}")?;
        self.json.begin_object()?;
        let mut texts = BTreeMap::new();
        let mut range = None;
        while self.json.has_next()? {
            let name = self.json.next_name_owned()?;
            let field = format!("{path}.{name}");
            if texts.contains_key(&name) || (range.is_some() && name == "content") {
                return Err(Refused::field(field, "it is there twice; leave one out"));
            }
            match name.as_str() {
                "content" => range = Some(self.content(&field)?),
                "filename" | "content_type" => {
                    let text = match self.value(&field)? {
                        Value::String(text) => Some(text),
                        Value::Null if name == "content_type" => None,
                        _ => return Err(Refused::field(field, "it is a text")),
                    };
                    texts.insert(name, text);
                }
                _ => return Err(Refused::field(field, "it is unknown; there are filename, content_type and content")),
            }
        }
        self.json.end_object()?;
        let missing = |name: &str| Problem::field(format!("{path}.{name}"), format!("missing field `{name}`"));
        Ok(FileFields {
            filename: texts.remove("filename").flatten().ok_or_else(|| missing("filename"))?,
            content_type: texts.remove("content_type").flatten(),
            range: range.ok_or_else(|| missing("content"))?,
        })
    }

    /// Base64, decoded into the spool.
    fn content(&mut self, field: &str) -> Result<Range<u64>, Refused> {
        self.expect(ValueType::String, field, "it is a text in base64")?;
        self.limit.allow(None);
        let start = self.spooled;
        let text = self.json.next_string_reader()?;
        let mut bytes = DecoderReader::new(text, &BASE64_STANDARD);
        // As much as the decoder hands out at once.
        let mut chunk = [0; 1024];
        loop {
            let count = match bytes.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(field, &error).into()),
            };
            self.spool.write_all(&chunk[..count]).map_err(|error| spool_problem(&error))?;
            self.spooled += u64::try_from(count).unwrap_or(u64::MAX);
        }
        self.limit.allow(Some(FIELD_MAX_BYTES));
        Ok(start..self.spooled)
    }

    fn value(&mut self, field: &str) -> Result<Value, Refused> {
        let max_bytes = match field {
            "text" | "html" => TEXT_MAX_BYTES,
            "data" => DATA_MAX_BYTES,
            _ => FIELD_MAX_BYTES,
        };
        // A list of numbers takes sixteen times as much memory as it has bytes.
        let is_nested = |found| matches!(found, ValueType::Array | ValueType::Object);
        if max_bytes == TEXT_MAX_BYTES && self.json.peek().is_ok_and(is_nested) {
            return Err(Refused::field(field, "it is a text"));
        }
        self.limit.allow(Some(max_bytes));
        let value = self.json.deserialize_next().map_err(|error| match error {
            DeserializerError::ReaderError(ReaderError::IoError { error, .. }) if is_too_large(&error) => {
                Refused::field(field, format!("it has more than {max_bytes} bytes"))
            }
            DeserializerError::ReaderError(error) => error.into(),
            // A number that nothing can hold, for example.
            DeserializerError::InvalidNumber(reason) | DeserializerError::Custom(reason) => {
                Refused::field(field, reason)
            }
            other => json::malformed(other).into(),
        });
        self.limit.allow(Some(FIELD_MAX_BYTES));
        value
    }

    fn expect(&mut self, wanted: ValueType, field: &str, reason: &str) -> Result<(), Refused> {
        match self.json.peek()? {
            found if found == wanted => Ok(()),
            _ => Err(Refused::field(field, reason)),
        }
    }
}

/// What is wrong with a text in base64: its alphabet, or the JSON around it.
fn unreadable(field: &str, error: &io::Error) -> Problem {
    match error.get_ref() {
        Some(cause) if cause.is::<DecodeError>() => {
            Problem::field(field.to_owned(), "it is not base64 with the standard alphabet and padding")
        }
        _ => json::malformed(error),
    }
}

impl From<ReaderError> for Refused {
    fn from(error: ReaderError) -> Self {
        Self(problem(&error))
    }
}

fn problem(error: &ReaderError) -> Problem {
    match error {
        ReaderError::IoError { error, .. } if is_too_large(error) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", TooLarge.to_string())
        }
        ReaderError::SyntaxError(error) => json::malformed(format!("{}{}", error.kind, place(&error.location))),
        ReaderError::MaxNestingDepthExceeded { location, .. } => {
            json::malformed(format!("it is nested too deeply{}", place(location)))
        }
        ReaderError::IoError { error, .. } => json::malformed(error),
        other => json::malformed(other),
    }
}

fn place(location: &JsonReaderPosition) -> String {
    let line = |position| {
        let struson::reader::LinePosition { line, column } = position;
        format!(" at line {} column {}", line + 1, column + 1)
    };
    location.line_pos.map(line).unwrap_or_default()
}

#[cfg(test)]
mod tests;
