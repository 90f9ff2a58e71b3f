//! The body of `POST /v1/messages`, read as it comes in.
//!
//! What a message says is small and kept as JSON; what it carries can be large and goes past: the base64 of a file is
//! decoded into the [spool](crate::content) while it is being read, whichever field comes first. So a request takes the same
//! memory whatever is attached to it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, BufWriter, Read, Write as _},
    ops::Range,
    rc::Rc,
};

use axum::http::StatusCode;
use base64::{DecodeError, prelude::BASE64_STANDARD, read::DecoderReader};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};
use service_kit::{Problem, json};
use struson::{
    reader::{JsonReader as _, JsonReaderPosition, JsonStreamReader, ReaderError, ReaderSettings, ValueType},
    serde::DeserializerError,
};

use crate::{
    content::{BLOCK_BYTES, Spool, SpoolDir},
    http::spool_problem,
    letter::{self, ATTACHMENTS_MAX, FileRequest},
    submission::Submission,
};

/// The most bytes of `text`, or `html`: a text of 1 MiB in which every character is escaped.
const TEXT_MAX_BYTES: usize = 6 * letter::BODY_MAX_BYTES;
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
pub struct Intake {
    /// The message.
    pub submission: Submission,
    /// SHA-256 of the body, in hexadecimal: what the request is recognised by when it comes again.
    pub fingerprint: String,
}

/// Reads a whole body. It may take its time, and writes to a disk what is large.
///
/// # Errors
/// 400 when it is no JSON, 413 when there is too much of it beside the files, 422 with the field that is wrong; 503 and 507
/// when the spool cannot be used.
pub fn read(body: impl Read, spool: &SpoolDir) -> Result<Intake, Problem> {
    let meter =
        Rc::new(Meter { hash: RefCell::new(Context::new(&SHA256)), allowance: Cell::new(Some(FIELD_MAX_BYTES)) });
    let settings = ReaderSettings { restrict_number_values: false, ..ReaderSettings::default() };
    let mut reading = Reading {
        json: JsonStreamReader::new_custom(Metered { body, meter: Rc::clone(&meter) }, settings),
        meter: Rc::clone(&meter),
        spool: BufWriter::with_capacity(BLOCK_BYTES, spool.begin()),
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
    let mut fingerprint = String::with_capacity(64);
    for byte in meter.hash.borrow().clone().finish().as_ref() {
        let _infallible = write!(fingerprint, "{byte:02x}");
    }
    Ok(Intake { submission, fingerprint })
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
    json: JsonStreamReader<Metered<R>>,
    meter: Rc<Meter>,
    spool: BufWriter<Spool>,
    spooled: u64,
}

impl<R: Read> Reading<R> {
    fn message(&mut self) -> Result<(Map<String, Value>, Vec<FileFields>), Refused> {
        match self.json.peek()? {
            ValueType::Object => {}
            ValueType::Array => {
                return Err(Refused::field("body", "it is a list; send a JSON object, {\"name\": value, …}"));
            }
            _ => return Err(Refused::field("body", "it is no JSON object; send {\"name\": value, …}")),
        }
        let (mut fields, mut files) = (Map::new(), None);
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
        let (mut texts, mut range) = (BTreeMap::new(), None);
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
        self.meter.allowance.set(None);
        let start = self.spooled;
        let text = self.json.next_string_reader()?;
        let mut bytes = DecoderReader::new(text, &BASE64_STANDARD);
        // As much as the decoder hands out at once.
        let mut block = [0; 1024];
        loop {
            let count = match bytes.read(&mut block) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(field, &error).into()),
            };
            self.spool.write_all(&block[..count]).map_err(|error| spool_problem(&error))?;
            self.spooled += u64::try_from(count).unwrap_or(u64::MAX);
        }
        self.meter.allowance.set(Some(FIELD_MAX_BYTES));
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
        self.meter.allowance.set(Some(max_bytes));
        let value = self.json.deserialize_next().map_err(|error| match error {
            DeserializerError::ReaderError(ReaderError::IoError { error, .. }) if is_too_large(&error) => {
                Refused::field(field, format!("it has more than {max_bytes} bytes"))
            }
            DeserializerError::ReaderError(error) => error.into(),
            // A number that nothing can hold, for example.
            DeserializerError::InvalidNumber(reason) | DeserializerError::Custom(reason) => {
                Refused::field(field, reason)
            }
            other => malformed(&other.to_string()).into(),
        });
        self.meter.allowance.set(Some(FIELD_MAX_BYTES));
        value
    }

    fn expect(&mut self, wanted: ValueType, field: &str, reason: &str) -> Result<(), Refused> {
        match self.json.peek()? {
            found if found == wanted => Ok(()),
            _ => Err(Refused::field(field, reason)),
        }
    }
}

/// What was read so far.
struct Meter {
    hash: RefCell<Context>,
    /// What is left for the field that is being read; `None`: the content of a file may have any size.
    allowance: Cell<Option<usize>>,
}

/// Counts and hashes what is read.
struct Metered<R> {
    body: R,
    meter: Rc<Meter>,
}

/// There is more than the allowance.
#[derive(Debug, thiserror::Error)]
#[error("there are more than {FIELD_MAX_BYTES} bytes between two fields")]
struct TooLarge;

fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<TooLarge>())
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(out)?;
        self.meter.hash.borrow_mut().update(&out[..count]);
        if let Some(left) = self.meter.allowance.get() {
            self.meter.allowance.set(Some(left.checked_sub(count).ok_or_else(|| io::Error::other(TooLarge))?));
        }
        Ok(count)
    }
}

/// What is wrong with a text in base64: its alphabet, or the JSON around it.
fn unreadable(field: &str, error: &io::Error) -> Problem {
    match error.get_ref() {
        Some(cause) if cause.is::<DecodeError>() => {
            Problem::field(field.to_owned(), "it is not base64 with the standard alphabet and padding")
        }
        _ => malformed(&error.to_string()),
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
        ReaderError::SyntaxError(error) => malformed(&format!("{}{}", error.kind, place(&error.location))),
        ReaderError::MaxNestingDepthExceeded { location, .. } => {
            malformed(&format!("it is nested too deeply{}", place(location)))
        }
        ReaderError::IoError { error, .. } => malformed(&error.to_string()),
        other => malformed(&other.to_string()),
    }
}

fn place(location: &JsonReaderPosition) -> String {
    let line = |position| {
        let struson::reader::LinePosition { line, column } = position;
        format!(" at line {} column {}", line + 1, column + 1)
    };
    location.line_pos.map(line).unwrap_or_default()
}

fn malformed(cause: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is not JSON: {cause}"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::content::IN_MEMORY_MAX_BYTES;

    fn taken(body: &str) -> Result<Intake, Problem> {
        read(body.as_bytes(), &SpoolDir::of_the_system())
    }

    fn field(body: &str) -> (u16, String) {
        let problem = taken(body).unwrap_err();
        let field = problem.errors.first().map_or(problem.code.into_owned(), |error| error.field.clone());
        (problem.status.as_u16(), field)
    }

    #[test]
    fn files_are_found_wherever_they_stand_and_the_rest_is_as_it_was() {
        let bytes = b"\xfb\xff/\0".repeat(1000);
        // Some encoders escape the slash.
        let content = base64::prelude::BASE64_STANDARD.encode(&bytes).replace('/', "\\/");
        let file = |name: &str| format!(r#"{{"content":"{content}","filename":"{name}","content_type":null}}"#);
        for (before, after) in [("", r#","subject":"x","to":"a@b.c""#), (r#""subject":"x","to":"a@b.c","#, "")] {
            let body = format!(r#" {{{before}"attachments":[{},{}]{after}}} "#, file("a"), file("b"));
            let submission = taken(&body).unwrap().submission;
            assert_eq!((submission.subject.as_deref(), &submission.to), (Some("x"), &Value::from("a@b.c")));
            assert_eq!(submission.attachments.len(), 2);
            for (file, name) in submission.attachments.iter().zip(["a", "b"]) {
                let mut content = Vec::new();
                file.content.reader().read_to_end(&mut content).unwrap();
                assert!(file.filename == name && content == bytes);
            }
        }
        let none = taken(r#"{"to":"a@b.c","attachments":[{"filename":"empty","content":""}]}"#).unwrap().submission;
        assert!(none.attachments[0].content.is_empty());
    }

    #[test]
    fn the_same_bytes_have_the_same_fingerprint_however_they_come_in() {
        /// One byte at a time.
        struct Drops<'b>(&'b [u8]);
        impl Read for Drops<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(out.len()).min(1);
                self.0.read(&mut out[..count])
            }
        }
        let body = r#"{"to":"a@b.c","attachments":[{"filename":"a","content":"aGVsbG8="}]}   "#;
        let whole = taken(body).unwrap().fingerprint;
        let drops = read(Drops(body.as_bytes()), &SpoolDir::of_the_system()).unwrap().fingerprint;
        assert!(whole == drops && whole.len() == 64);
        assert_ne!(taken(body.trim_end()).unwrap().fingerprint, whole);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, status, named) in [
            ("", 400, "malformed_json"),
            ("{", 400, "malformed_json"),
            ("{\"to\":\"a@b.c\"", 400, "malformed_json"),
            ("{\"to\":\"a@b.c\",}", 400, "malformed_json"),
            ("{\"to\":\"a@b.c\"} x", 400, "malformed_json"),
            ("{\"to\":\"\x07\"}", 400, "malformed_json"),
            ("{\"attachments\":[{\"content\":\"aGVs", 400, "malformed_json"),
            ("{\"attachments\":[{\"content\":\"\\q\"}]}", 400, "malformed_json"),
            ("[]", 422, "body"),
            ("17", 422, "body"),
            ("{\"subject\":1}", 422, "subject"),
            ("{\"color\":1}", 422, "color"),
            ("{\"to\":1,\"to\":2}", 422, "to"),
            ("{\"attachments\":null}", 422, "attachments"),
            ("{\"attachments\":[],\"attachments\":[]}", 422, "attachments"),
            ("{\"attachments\":[1]}", 422, "attachments[0]"),
            ("{\"attachments\":[{\"filename\":\"a\"}]}", 422, "attachments[0].content"),
            ("{\"attachments\":[{\"content\":\"\"}]}", 422, "attachments[0].filename"),
            ("{\"attachments\":[{\"filename\":1}]}", 422, "attachments[0].filename"),
            ("{\"attachments\":[{\"filename\":\"a\",\"content\":1}]}", 422, "attachments[0].content"),
            ("{\"attachments\":[{\"filename\":\"a\",\"content\":\"a b\"}]}", 422, "attachments[0].content"),
            ("{\"attachments\":[{\"filename\":\"a\",\"content\":\"aGVsbG8\"}]}", 422, "attachments[0].content"),
            ("{\"attachments\":[{\"content\":\"\",\"content\":\"\"}]}", 422, "attachments[0].content"),
            ("{\"attachments\":[{\"color\":\"\"}]}", 422, "attachments[0].color"),
        ] {
            assert_eq!(field(body), (status, named.to_owned()), "{body}");
        }
        let deep = format!("{{\"data\":{}", "[".repeat(1000));
        assert_eq!(field(&deep), (400, "malformed_json".to_owned()));
    }

    #[test]
    fn only_files_may_be_large() {
        let large = "x".repeat(TEXT_MAX_BYTES + 2048);
        assert_eq!(field(&format!(r#"{{"text":"{large}"}}"#)), (422, "text".to_owned()));
        assert_eq!(field(&format!(r#"{{"to":"{}"}}"#, &large[..FIELD_MAX_BYTES + 2048])), (422, "to".to_owned()));
        assert_eq!(field(&format!(r#"{{{}"to":1}}"#, " ".repeat(2 * FIELD_MAX_BYTES))).0, 413);
        assert_eq!(field(&format!(r#"{{"{large}":1}}"#)).0, 413);
        assert_eq!(field(r#"{"text":[0,0]}"#), (422, "text".to_owned()));
        let many: Vec<String> = (0..=FIELDS_MAX).map(|index| format!(r#""{index}":1"#)).collect();
        assert_eq!(field(&format!("{{{}}}", many.join(","))), (422, "32".to_owned()));
        let files = [r#"{"filename":"a","content":""}"#; ATTACHMENTS_MAX + 1].join(",");
        assert_eq!(field(&format!(r#"{{"attachments":[{files}]}}"#)), (422, "attachments".to_owned()));
        let content = "AAAA".repeat(IN_MEMORY_MAX_BYTES / 3 + 1);
        let body = format!(r#"{{"attachments":[{{"filename":"a","content":"{content}"}}],"text":"x"}}"#);
        assert!(taken(&body).unwrap().submission.attachments[0].content.in_memory().is_none());
    }

    #[test]
    fn numbers_of_any_size_are_numbers() {
        let data = taken(r#"{"data":{"a":1e100,"b":-0.5,"c":18446744073709551615}}"#).unwrap().submission.data;
        assert_eq!(data, serde_json::json!({ "a": 1e100, "b": -0.5, "c": u64::MAX }));
        assert_eq!(field(r#"{"data":184467440737095516150}"#), (422, "data".to_owned()));
    }
}
