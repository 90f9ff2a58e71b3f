//! The body of `POST /v1/batch`, cut into its messages, each of which is then read like one of `POST /v1/messages`.

use service_kit::{Problem, json};
use struson::{
    reader::{JsonReader as _, JsonStreamReader, ReaderSettings, TransferError, ValueType},
    writer::{JsonStreamWriter, JsonWriter as _},
};

use super::{Refused, problem};

/// The most messages of one request.
pub(crate) const BATCH_MAX: usize = 100;
/// The field with the messages.
const MESSAGES: &str = "messages";
/// The field of a message with its key, which a message of `/v1/messages` has in a header.
const KEY: &str = "idempotency_key";

/// One message as it stands in the request.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its own key.
    pub(crate) key: Option<String>,
    /// JSON.
    pub(crate) message: Vec<u8>,
}

type Reader<'b> = JsonStreamReader<&'b [u8]>;

/// Cuts `body`.
///
/// # Errors
/// 400 when it is no JSON, 422 when it is no object with a list of 1 to [`BATCH_MAX`] `messages`.
pub(crate) fn entries(body: &[u8]) -> Result<Vec<Entry>, Problem> {
    let settings = ReaderSettings { restrict_number_values: false, ..ReaderSettings::default() };
    let mut reader = JsonStreamReader::new_custom(body, settings);
    let entries = read(&mut reader)?;
    reader.consume_trailing_whitespace().map_err(|error| problem(&error))?;
    match entries.len() {
        0 => Err(Problem::field(MESSAGES, "it is missing or empty; write {\"messages\": [{\"to\": …}, …]}")),
        _ => Ok(entries),
    }
}

fn read(reader: &mut Reader<'_>) -> Result<Vec<Entry>, Refused> {
    match reader.peek()? {
        ValueType::Object => {}
        ValueType::Array => return Err(json::is_a_list().into()),
        _ => return Err(Refused::field("body", "it is no JSON object; write {\"messages\": [{\"to\": …}, …]}")),
    }
    let mut entries = Vec::new();
    reader.begin_object()?;
    while reader.has_next()? {
        match reader.next_name_owned()?.as_str() {
            MESSAGES if entries.is_empty() => entries = list(reader)?,
            MESSAGES => return Err(Refused::field(MESSAGES, "it is there twice; leave one out")),
            other => return Err(Refused::field(other, "it is unknown; there is messages")),
        }
    }
    reader.end_object()?;
    Ok(entries)
}

fn list(reader: &mut Reader<'_>) -> Result<Vec<Entry>, Refused> {
    if reader.peek()? != ValueType::Array {
        return Err(Refused::field(MESSAGES, "it is a list of messages"));
    }
    let mut entries = Vec::new();
    reader.begin_array()?;
    while reader.has_next()? {
        if entries.len() == BATCH_MAX {
            return Err(Refused::field(MESSAGES, "there are more than 100; send several requests"));
        }
        let entry = entry(reader, entries.len())?;
        entries.push(entry);
    }
    reader.end_array()?;
    Ok(entries)
}

fn entry(reader: &mut Reader<'_>, index: usize) -> Result<Entry, Refused> {
    let mut key = None;
    let mut message = Vec::new();
    let mut writer = JsonStreamWriter::new(&mut message);
    if reader.peek()? == ValueType::Object {
        reader.begin_object()?;
        writer.begin_object()?;
        while reader.has_next()? {
            let name = reader.next_name_owned()?;
            if name == KEY {
                key = own_key(reader, index)?;
            } else {
                writer.name(&name)?;
                reader.transfer_to(&mut writer)?;
            }
        }
        reader.end_object()?;
        writer.end_object()?;
    } else {
        // What it is instead, is said where it is read.
        reader.transfer_to(&mut writer)?;
    }
    writer.finish_document()?;
    Ok(Entry { key, message })
}

fn own_key(reader: &mut Reader<'_>, index: usize) -> Result<Option<String>, Refused> {
    match reader.peek()? {
        ValueType::String => Ok(Some(reader.next_string()?)),
        ValueType::Null => Ok(reader.next_null().map(|()| None)?),
        _ => Err(Refused::field(format!("{MESSAGES}[{index}].{KEY}"), "it is a text")),
    }
}

impl From<TransferError> for Refused {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::ReaderError(error) => error.into(),
            TransferError::WriterError(error) => error.into(),
        }
    }
}

/// Memory takes everything; a string that is not UTF-8 was found by the reader.
impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self(json::malformed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_found_with_its_key() {
        let body =
            r#" {"messages":[{"to":"a@b.c","data":{"n":[1e100,"\u00e4"]}},{"idempotency_key":"k","to":"d"},7]} "#;
        let found = entries(body.as_bytes()).unwrap();
        let shown: Vec<_> =
            found.iter().map(|entry| (entry.key.as_deref(), std::str::from_utf8(&entry.message).unwrap())).collect();
        assert_eq!(
            shown,
            [(None, r#"{"to":"a@b.c","data":{"n":[1e100,"ä"]}}"#), (Some("k"), r#"{"to":"d"}"#), (None, "7")]
        );
    }

    #[test]
    fn a_body_that_is_no_list_of_messages_is_refused_as_a_whole() {
        let many = format!(r#"{{"messages":[{}]}}"#, ["{}"; BATCH_MAX + 1].join(","));
        for (body, status, field) in [
            ("", 400, ""),
            (r#"{"messages":[{"to":"#, 400, ""),
            (r#"{"messages":[{}]} x"#, 400, ""),
            ("[]", 422, "body"),
            ("7", 422, "body"),
            ("{}", 422, "messages"),
            (r#"{"messages":[]}"#, 422, "messages"),
            (r#"{"messages":{}}"#, 422, "messages"),
            (r#"{"messages":[{}],"messages":[{}]}"#, 422, "messages"),
            (r#"{"messages":[{"idempotency_key":7}]}"#, 422, "messages[0].idempotency_key"),
            (r#"{"letters":[{}]}"#, 422, "letters"),
            (many.as_str(), 422, "messages"),
        ] {
            let refused = entries(body.as_bytes()).unwrap_err();
            let named = refused.errors.first().map_or("", |error| error.field.as_str());
            assert_eq!((refused.status.as_u16(), named), (status, field), "{body}");
        }
    }
}
