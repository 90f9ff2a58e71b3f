use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, Terminator};
use discovery::FieldError;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use super::Format;
use crate::user::{Draft, NewUser};

/// The most bytes of one user: four times what the largest has.
const RECORD_MAX_BYTES: usize = 64 * 1024;

/// What a reader may have taken ahead of the record that it is at.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// The users of a file, one after the other.
pub struct Records {
    source: Source,
}

/// One user of a file.
#[derive(Debug)]
pub struct Record {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// The user, or all that is wrong with them.
    pub user: Result<NewUser, Vec<FieldError>>,
}

/// Why a file cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The header of a table names no such column, or not all that are needed.
    #[error("{0}")]
    Header(String),
    /// A record has more bytes than any user.
    #[error("a line or a quoted cell has more than {RECORD_MAX_BYTES} bytes")]
    TooLong,
    /// The file or the client broke off.
    #[error("{0}")]
    Io(#[from] io::Error),
}

type Bytes = Box<dyn AsyncRead + Send + Unpin>;

enum Source {
    Lines { input: BufReader<Bytes>, line: u64 },
    Table { reader: Box<AsyncReader<Bounded>>, left: Arc<AtomicUsize>, columns: Vec<Column> },
}

/// Ends with an error instead of reading a record without an end into memory; and lets the last line have an end.
struct Bounded {
    input: Bytes,
    left: Arc<AtomicUsize>,
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    Email,
    Status,
    Tags,
    Attributes,
    Ignored,
}

/// A line of JSON; what an export adds is read over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    email: String,
    status: Option<String>,
    tags: Option<Vec<String>>,
    attributes: Option<Map<String, Value>>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "version")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "created_at")]
    _created_at: Option<IgnoredAny>,
    #[serde(rename = "updated_at")]
    _updated_at: Option<IgnoredAny>,
}

// === impl Records ===

impl Records {
    /// Begins to read; for a table, reads its header.
    ///
    /// # Errors
    /// The header is none, or cannot be read.
    pub async fn open(format: Format, input: impl AsyncRead + Send + Unpin + 'static) -> Result<Self, Unreadable> {
        let input: Bytes = Box::new(input);
        let source = match format {
            Format::Ndjson => Source::Lines { input: BufReader::new(input), line: 0 },
            Format::Csv => {
                let left = Arc::new(AtomicUsize::new(RECORD_MAX_BYTES));
                let bounded = Bounded { input, left: Arc::clone(&left), has_ended: false };
                // A "\r" before the end of a line is taken off the last cell: the reader counts lines by "\n", and with its
                // own idea of "\r\n" it would begin a line in the middle.
                let ends = Terminator::Any(b'\n');
                let mut reader = AsyncReaderBuilder::new().flexible(true).terminator(ends).create_reader(bounded);
                let header = reader.byte_headers().await.map_err(unreadable)?.clone();
                Source::Table { reader: Box::new(reader), left, columns: columns(&header)? }
            }
        };
        Ok(Self { source })
    }

    /// The next user; none at the end. Lines without anything are passed over.
    ///
    /// # Errors
    /// It cannot be read any further.
    pub async fn next(&mut self) -> Result<Option<Record>, Unreadable> {
        match &mut self.source {
            Source::Lines { input, line } => next_line(input, line).await,
            Source::Table { reader, left, columns } => next_row(reader, left, columns).await,
        }
    }
}

async fn next_row(
    reader: &mut AsyncReader<Bounded>,
    left: &AtomicUsize,
    columns: &[Column],
) -> Result<Option<Record>, Unreadable> {
    let mut record = ByteRecord::new();
    loop {
        left.store(RECORD_MAX_BYTES + READ_AHEAD_BYTES, Relaxed);
        if !reader.read_byte_record(&mut record).await.map_err(unreadable)? {
            return Ok(None);
        }
        let is_empty = record.len() == 1 && record.iter().all(|cell| cell == b"\r");
        if !is_empty {
            // The reader is behind the end of the record, which may have lines in its cells.
            let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
            let line = reader.position().line().saturating_sub(1 + within);
            return Ok(Some(Record { line, user: row(&record, columns) }));
        }
    }
}

async fn next_line(input: &mut BufReader<Bytes>, line: &mut u64) -> Result<Option<Record>, Unreadable> {
    loop {
        let mut text = Vec::new();
        let count = (&mut *input).take(RECORD_MAX_BYTES as u64 + 1).read_until(b'\n', &mut text).await?;
        if count == 0 {
            return Ok(None);
        }
        *line += 1;
        if count > RECORD_MAX_BYTES {
            return Err(Unreadable::TooLong);
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text).trim_ascii();
        if !text.is_empty() {
            return Ok(Some(Record { line: *line, user: object(text) }));
        }
    }
}

fn object(text: &[u8]) -> Result<NewUser, Vec<FieldError>> {
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        let text = error.to_string();
        // "… at line 1 column 7": the line is always 1 here.
        vec![FieldError::new("line", text.split(" at line ").next().unwrap_or(&text))]
    })?;
    let Line { name, email, status, tags, attributes, .. } = line;
    Draft { name: Some(name), email: Some(email), status, tags, attributes }.check()
}

fn columns(header: &ByteRecord) -> Result<Vec<Column>, Unreadable> {
    let refuse = |reason: String| Err(Unreadable::Header(reason));
    let mut columns = Vec::new();
    for (n, cell) in header.iter().enumerate() {
        let cell = if n == 0 { cell.strip_prefix(b"\xef\xbb\xbf").unwrap_or(cell) } else { cell };
        let column = match cell.trim_ascii() {
            b"name" => Column::Name,
            b"email" => Column::Email,
            b"status" => Column::Status,
            b"tags" => Column::Tags,
            b"attributes" => Column::Attributes,
            b"id" | b"version" | b"created_at" | b"updated_at" => Column::Ignored,
            _ => {
                return refuse(format!(
                    "column {} of the header is unknown; there are name, email, status, tags and attributes",
                    n + 1
                ));
            }
        };
        if column != Column::Ignored && columns.contains(&column) {
            return refuse(format!("column {} of the header is there twice", n + 1));
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Name) || !columns.contains(&Column::Email) {
        return refuse("the first line must name the columns, name and email among them".to_owned());
    }
    Ok(columns)
}

fn row(record: &ByteRecord, columns: &[Column]) -> Result<NewUser, Vec<FieldError>> {
    if record.len() != columns.len() {
        let reason = format!("it has {} cells, the header has {}", record.len(), columns.len());
        return Err(vec![FieldError::new("line", reason)]);
    }
    let mut draft = Draft::default();
    let last = columns.len() - 1;
    for (n, (cell, column)) in record.iter().zip(columns).enumerate() {
        let cell = if n == last { cell.strip_suffix(b"\r").unwrap_or(cell) } else { cell };
        let text = std::str::from_utf8(cell).map_err(|_| vec![FieldError::new("line", "it is not UTF-8")])?;
        // Of the cells that must be there, an empty one is a wrong value; of the others, none.
        match (column, text) {
            (Column::Name, name) => draft.name = Some(name.to_owned()),
            (Column::Email, email) => draft.email = Some(email.to_owned()),
            (Column::Ignored, _) | (_, "") => {}
            (Column::Status, status) => draft.status = Some(status.to_owned()),
            (Column::Tags, tags) => draft.tags = Some(tags.split(';').map(|tag| tag.trim().to_owned()).collect()),
            (Column::Attributes, json) => {
                let wrong = |_| vec![FieldError::new("attributes", "the cell is not a JSON object")];
                draft.attributes = Some(serde_json::from_str(json).map_err(wrong)?);
            }
        }
    }
    draft.check()
}

fn unreadable(error: csv_async::Error) -> Unreadable {
    match error.into_kind() {
        csv_async::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => Unreadable::TooLong,
        csv_async::ErrorKind::Io(error) => Unreadable::Io(error),
        _ => Unreadable::Io(io::Error::other("it is no table")),
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.input).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        let left = self.left.load(Relaxed);
        if count > left {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        self.left.store(left - count, Relaxed);
        if matches!(polled, Poll::Ready(Ok(()))) && count == 0 && !self.has_ended && buffer.remaining() > 0 {
            self.has_ended = true;
            buffer.put_slice(b"\n");
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(format: Format, text: impl Into<Vec<u8>>) -> Result<Vec<(u64, Result<String, String>)>, Unreadable> {
        let mut records = Records::open(format, io::Cursor::new(text.into())).await?;
        let mut found = Vec::new();
        while let Some(Record { line, user }) = records.next().await? {
            let fields =
                |errors: Vec<FieldError>| errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>().join(" ");
            found.push((line, user.map(|user| user.name.as_str().to_owned()).map_err(fields)));
        }
        Ok(found)
    }

    fn ok(name: &str) -> Result<String, String> {
        Ok(name.to_owned())
    }

    fn wrong(fields: &str) -> Result<String, String> {
        Err(fields.to_owned())
    }

    #[tokio::test]
    async fn every_mistake_in_a_table_has_its_line() {
        let table = "\u{feff}email,name,tags,attributes,id\r\n\
                     a@b.c,a,x;y,\"{\"\"k\"\": 1}\",1\r\n\
                     \r\n\
                     nowhere,b,,,\n\
                     c@b.c,\"c\nd\",,,\n\
                     d@b.c,d\n\
                     e@b.c,e,a b,,\n\
                     f@b.c,f,,no,\n\
                     g@b.c,g,,,";
        let found = read(Format::Csv, table).await.unwrap();
        let expected = [
            (2, ok("a")),
            (4, wrong("email")),
            (5, wrong("name")),
            (7, wrong("line")),
            (8, wrong("tags")),
            (9, wrong("attributes")),
            (10, ok("g")),
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn every_mistake_in_lines_of_json_has_its_line() {
        let lines = "{\"name\":\"a\",\"email\":\"a@b.c\",\"id\":7,\"created_at\":\"x\"}\n\n{\"name\":\"b\"}\nnonsense\n\
                     {\"name\":\"\",\"email\":\"\"}\n{\"name\":\"c\",\"email\":\"c@b.c\",\"mail\":1}\r\n{\"name\":\"d\",\"email\":\"d@b.c\"}";
        let found = read(Format::Ndjson, lines).await.unwrap();
        let expected = [
            (1, ok("a")),
            (3, wrong("line")),
            (4, wrong("line")),
            (5, wrong("name email")),
            (6, wrong("line")),
            (7, ok("d")),
        ];
        assert_eq!(found, expected);
        assert_eq!(read(Format::Ndjson, "").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_header_that_is_none_is_refused_before_anything_is_stored() {
        for (header, hint) in [
            ("", "first line"),
            ("name\na", "first line"),
            ("name,email,mail\n", "column 3"),
            ("name,email,name\n", "twice"),
        ] {
            let error = read(Format::Csv, header).await.unwrap_err().to_string();
            assert!(error.contains(hint), "{header:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_record_without_an_end_does_not_fill_the_memory() {
        let endless = || "x".repeat(200_000);
        let quoted = format!("name,email\na,\"{}", endless());
        assert!(matches!(read(Format::Csv, quoted).await, Err(Unreadable::TooLong)));
        assert!(matches!(read(Format::Csv, endless()).await, Err(Unreadable::TooLong)));
        assert!(matches!(read(Format::Ndjson, endless()).await, Err(Unreadable::TooLong)));
        // Many small ones are no large one.
        let many = format!("name,email\n{}", "a,a@b.c\n".repeat(12_000));
        assert_eq!(read(Format::Csv, many).await.unwrap().len(), 12_000);
    }
}
