//! A table: from its header to what its columns mean, from its rows to users.

use std::io;

use csv_async::{AsyncReader, AsyncReaderBuilder, ByteRecord, Terminator};
use discovery::FieldError;
use serde_json::Value;
use service_kit::json::Object;

use super::{
    Bytes, RECORD_MAX_BYTES, Record, Unreadable,
    bounded::{Bounded, Shared, Stop},
};
use crate::{
    transfer::options::{Delimiter, Field, ImportOptions},
    user::{Draft, NewUser, Tags},
};

/// A table, at one of its rows.
pub(super) struct Table {
    reader: AsyncReader<Bounded>,
    shared: Shared,
    /// What each column is about: nothing, one field, or several.
    columns: Vec<Vec<Field>>,
    added_tags: Tags,
}

/// What an export writes and no import changes.
const IGNORED: [&str; 4] = ["id", "version", "created_at", "updated_at"];

// === impl Table ===

impl Table {
    /// Reads the header.
    pub(super) async fn open(input: Bytes, options: &ImportOptions) -> Result<Self, Unreadable> {
        let (bounded, shared) = Bounded::new(input, options.delimiter.byte());
        // A "\r" before the end of a line is taken off the last cell: the reader counts lines by "\n", and with its own
        // idea of "\r\n" it would begin a line in the middle.
        let ends = Terminator::Any(b'\n');
        let mut builder = AsyncReaderBuilder::new();
        let builder = builder.flexible(true).terminator(ends).delimiter(options.delimiter.byte());
        let mut reader = builder.create_reader(bounded);
        shared.begin_record(RECORD_MAX_BYTES);
        let header = reader.byte_headers().await.map_err(unreadable)?.clone();
        let columns = columns(&header, options).map_err(Unreadable::Header)?;
        Ok(Self { reader, shared, columns, added_tags: options.added_tags.clone() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Record>, Unreadable> {
        let mut record = ByteRecord::new();
        loop {
            self.shared.begin_record(RECORD_MAX_BYTES);
            let read = self.reader.read_byte_record(&mut record).await;
            if !read.map_err(unreadable)? {
                return Ok(None);
            }
            let is_empty = record.len() == 1 && record.iter().all(|cell| cell == b"\r");
            if !is_empty {
                // The reader is behind the end of the record, which may have lines in its cells.
                let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
                let line = self.reader.position().line().saturating_sub(1 + within);
                return Ok(Some(Record { line, user: self.row(&record) }));
            }
        }
    }

    fn row(&self, record: &ByteRecord) -> Result<NewUser, Vec<FieldError>> {
        let wrong = |field: &'static str, reason: String| vec![FieldError::new(field, reason)];
        if record.len() != self.columns.len() {
            let cells = record.len();
            let columns = self.columns.len();
            let reason = format!(
                "it has {cells} cells, the header has {columns}; a cell with a delimiter or a line end in it must be in quotes, \
                 and each quote closed"
            );
            return Err(wrong("line", reason));
        }
        let mut draft = Draft { added_tags: self.added_tags.clone(), ..Draft::default() };
        let last = self.columns.len() - 1;
        for (n, (cell, fields)) in record.iter().zip(&self.columns).enumerate() {
            let cell = if n == last { cell.strip_suffix(b"\r").unwrap_or(cell) } else { cell };
            let text = std::str::from_utf8(cell).map_err(|_| wrong("line", "it is not UTF-8".to_owned()))?;
            for field in fields {
                fill(&mut draft, field, text).map_err(|error| vec![error])?;
            }
        }
        draft.check()
    }
}

/// Of the cells that must be there, an empty one is a wrong value; of the others, none.
fn fill(draft: &mut Draft, field: &Field, text: &str) -> Result<(), FieldError> {
    match (field, text) {
        (Field::Name, name) => draft.name = Some(name.to_owned()),
        (Field::Email, email) => draft.email = Some(email.to_owned()),
        (_, "") => {}
        (Field::Status, status) => draft.status = Some(status.to_owned()),
        (Field::Tags, tags) => draft.tags = Some(tags.split(';').map(|tag| tag.trim().to_owned()).collect()),
        (Field::Attributes, json) => {
            let Object(attributes) = serde_json::from_str(json).map_err(|error| no_object(&error))?;
            draft.attributes.get_or_insert_default().extend(attributes);
        }
        (Field::Attribute(key), text) => {
            draft.attributes.get_or_insert_default().insert(key.clone(), Value::from(text));
        }
    }
    Ok(())
}

fn no_object(error: &serde_json::Error) -> FieldError {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or(&reason);
    FieldError::new("attributes", format!("the cell is not a JSON object: {reason}"))
}

fn columns(header: &ByteRecord, options: &ImportOptions) -> Result<Vec<Vec<Field>>, String> {
    let names = names(header)?;
    if let Some(n) = names.iter().position(|name| name.contains('@')) {
        return Err(format!("the first line must name the columns, and its cell {} is an address", n + 1));
    }
    other_delimiter(&names, options.delimiter)?;
    let mut columns = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if names[..n].contains(name) && !options.ignore_columns {
            return Err(format!("column {} of the header, {name:?}, is there twice", n + 1));
        }
        let mapped: Vec<_> = options.columns.iter().filter(|column| column.header == *name).collect();
        let fields: Vec<Field> = match Field::of(name) {
            _ if !mapped.is_empty() => mapped.iter().map(|column| column.field.clone()).collect(),
            Some(field @ (Field::Name | Field::Email | Field::Status | Field::Tags | Field::Attributes)) => vec![field],
            Some(Field::Attribute(_)) | None if options.ignore_columns || IGNORED.contains(name) => Vec::new(),
            Some(Field::Attribute(_)) | None => return Err(unknown(n, name)),
        };
        columns.push(fields);
    }
    check(&columns, &names, options)?;
    Ok(columns)
}

fn names(header: &ByteRecord) -> Result<Vec<&str>, String> {
    let name = |cell| std::str::from_utf8(cell).map(str::trim).map_err(|_| "the first line is not UTF-8".to_owned());
    header.iter().map(name).collect()
}

/// A header of one cell in which another delimiter stands is a header of several cells.
fn other_delimiter(names: &[&str], delimiter: Delimiter) -> Result<(), String> {
    let [only] = names else { return Ok(()) };
    let others = [Delimiter::Comma, Delimiter::Semicolon, Delimiter::Tab];
    let other = others.into_iter().find(|other| *other != delimiter && only.contains(char::from(other.byte())));
    match other.map(Delimiter::word) {
        Some(word) => Err(format!(
            "its cells are separated by a {word}, not by a {}; say delimiter={word} (--delimiter {word})",
            delimiter.word()
        )),
        None => Ok(()),
    }
}

fn unknown(n: usize, name: &str) -> String {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    format!(
        "column {} of the header, {shown:?}, is unknown; there are name, email, status, tags and attributes: leave it out, say \
         what it is (column=FIELD:{shown}), or have all such columns passed over (ignore_columns=true)",
        n + 1
    )
}

fn check(columns: &[Vec<Field>], names: &[&str], options: &ImportOptions) -> Result<(), String> {
    if let Some(column) = options.columns.iter().find(|column| !names.contains(&&*column.header)) {
        return Err(format!("there is no column {:?} in the first line", column.header));
    }
    let fields: Vec<&Field> = columns.iter().flatten().collect();
    if let Some((_, field)) = fields.iter().enumerate().find(|(n, field)| fields[..*n].contains(field)) {
        return Err(format!("two columns are {}; one must be left out", field.name()));
    }
    if !fields.contains(&&Field::Name) || !fields.contains(&&Field::Email) {
        return Err("the first line must name the columns, name and email among them".to_owned());
    }
    Ok(())
}

fn unreadable(error: csv_async::Error) -> Unreadable {
    let csv_async::ErrorKind::Io(error) = error.into_kind() else {
        return Unreadable::Io(io::Error::other("it is no table"));
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Stop::TooLong { open_quote }) => Unreadable::TooLong { open_quote: *open_quote },
        Some(Stop::OpenQuote { line }) => Unreadable::OpenQuote { line: *line },
        None => Unreadable::Io(error),
    }
}
