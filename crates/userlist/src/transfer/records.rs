//! The users of a file, one after the other.

mod bounded;
mod table;

use std::io;

use discovery::FieldError;
use serde::{Deserialize, de::IgnoredAny};
use service_kit::json::Object;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use self::table::Table;
use super::{Format, ImportOptions};
use crate::user::{Draft, NewUser, Tags};

/// The most bytes of one user: four times what the largest has.
const RECORD_MAX_BYTES: usize = 64 * 1024;

/// The users of a file.
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
    /// It is no text in UTF-8, but something else that is known.
    #[error("{0}")]
    Encoding(&'static str),
    /// The header of a table names no such column, or not all that are needed.
    #[error("{0}")]
    Header(String),
    /// A record has more bytes than any user.
    #[error("a line or a quoted cell has more than {RECORD_MAX_BYTES} bytes{}", of_quote(.open_quote))]
    TooLong {
        /// The line of a quote that is not closed within these.
        open_quote: Option<u64>,
    },
    /// The file ends within a quoted cell.
    #[error("the quote that opens in line {line} is not closed; everything after it is one cell")]
    OpenQuote {
        /// Where it opens.
        line: u64,
    },
    /// The file or the client broke off.
    #[error("{0}")]
    Io(#[from] io::Error),
}

type Bytes = Box<dyn AsyncRead + Send + Unpin>;

enum Source {
    Lines { input: BufReader<Bytes>, line: u64, added_tags: Tags },
    Table(Box<Table>),
}

/// A line of JSON; what an export adds is read over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    email: String,
    status: Option<String>,
    tags: Option<Vec<String>>,
    attributes: Option<Object>,
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
    /// The file is no text, the header is none, or cannot be read.
    pub async fn open(
        options: &ImportOptions,
        input: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Self, Unreadable> {
        let input = text(Box::new(input)).await?;
        let source = match options.format {
            Format::Ndjson => {
                Source::Lines { input: BufReader::new(input), line: 0, added_tags: options.added_tags.clone() }
            }
            Format::Csv => Source::Table(Box::new(Table::open(input, options).await?)),
        };
        Ok(Self { source })
    }

    /// The next user; none at the end. Lines without anything are passed over.
    ///
    /// # Errors
    /// It cannot be read any further.
    pub async fn next(&mut self) -> Result<Option<Record>, Unreadable> {
        match &mut self.source {
            Source::Lines { input, line, added_tags } => next_line(input, line, added_tags).await,
            Source::Table(table) => table.next().await,
        }
    }
}

/// The file without a byte order mark, when it may be text in UTF-8.
async fn text(mut input: Bytes) -> Result<Bytes, Unreadable> {
    let mut head = [0; 4];
    let mut count = 0;
    while count < head.len() {
        match input.read(&mut head[count..]).await? {
            0 => break,
            read => count += read,
        }
    }
    let refuse = |what| Err(Unreadable::Encoding(what));
    let head = match &head[..count] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => {
            return refuse("it is in UTF-16 or UTF-32; save it as UTF-8 (a spreadsheet calls that \"CSV UTF-8\")");
        }
        [b'P', b'K', 3, 4] => return refuse("it is a workbook or another ZIP file; save its table as \"CSV UTF-8\""),
        [0x1f, 0x8b, ..] => {
            return refuse("it is compressed by gzip; unpack it, or send it with Content-Encoding: gzip");
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => rest.to_vec(),
        head => head.to_vec(),
    };
    Ok(Box::new(io::Cursor::new(head).chain(input)))
}

async fn next_line(
    input: &mut BufReader<Bytes>,
    line: &mut u64,
    added_tags: &Tags,
) -> Result<Option<Record>, Unreadable> {
    loop {
        let mut text = Vec::new();
        let count = (&mut *input).take(RECORD_MAX_BYTES as u64 + 1).read_until(b'\n', &mut text).await?;
        if count == 0 {
            return Ok(None);
        }
        *line += 1;
        if count > RECORD_MAX_BYTES {
            return Err(Unreadable::TooLong { open_quote: None });
        }
        let text = text.trim_ascii();
        if !text.is_empty() {
            return Ok(Some(Record { line: *line, user: object(text, added_tags) }));
        }
    }
}

fn object(text: &[u8], added_tags: &Tags) -> Result<NewUser, Vec<FieldError>> {
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        let text = error.to_string();
        // "… at line 1 column 7": the line is always 1 here.
        vec![FieldError::new("line", text.split(" at line ").next().unwrap_or(&text))]
    })?;
    let Line { name, email, status, tags, attributes, .. } = line;
    let attributes = attributes.map(|Object(attributes)| attributes);
    Draft { name: Some(name), email: Some(email), status, tags, added_tags: added_tags.clone(), attributes }.check()
}

fn of_quote(open_quote: &Option<u64>) -> String {
    open_quote.map_or_else(String::new, |line| format!(", and the quote that opens in line {line} is not closed"))
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(format: Format, text: impl Into<Vec<u8>>) -> Result<Vec<(u64, Result<String, String>)>, Unreadable> {
        let options = ImportOptions { format, ..ImportOptions::default() };
        read_with(&options, text).await
    }

    async fn read_with(
        options: &ImportOptions,
        text: impl Into<Vec<u8>>,
    ) -> Result<Vec<(u64, Result<String, String>)>, Unreadable> {
        let mut records = Records::open(options, io::Cursor::new(text.into())).await?;
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
        assert!(matches!(read(Format::Csv, quoted).await, Err(Unreadable::TooLong { .. })));
        assert!(matches!(read(Format::Csv, endless()).await, Err(Unreadable::TooLong { .. })));
        assert!(matches!(read(Format::Ndjson, endless()).await, Err(Unreadable::TooLong { .. })));
        // Many small ones are no large one.
        let many = format!("name,email\n{}", "a,a@b.c\n".repeat(12_000));
        assert_eq!(read(Format::Csv, many).await.unwrap().len(), 12_000);
    }
}
