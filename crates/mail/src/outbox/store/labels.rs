//! What a sender gives a message so as to find it again: a tag, and metadata. Neither is in the message that is sent.

use std::collections::BTreeMap;

use discovery::FieldError;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    OutboxError,
    openapi::{Metadata, Tag},
    sql::{Connection, query},
};

/// The longest tag, and the longest name of metadata, in characters.
const NAME_MAX_CHARS: usize = 40;
/// The longest value of metadata, in characters.
const VALUE_MAX_CHARS: usize = 200;
/// The most metadata of a message.
pub(crate) const METADATA_MAX: usize = 20;

/// The name under which a tag is kept.
const TAG: &str = "tag";
/// What stands before the names of metadata.
const METADATA: &str = "metadata.";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// What kind of message it is: `welcome`. 1 to 40 letters, digits, `-`, `_` and `.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Tag>, nullable = false)]
    pub tag: Option<String>,
    /// What else the sender knows it by: `{"order":"17"}`. At most 20; names like tags, values of 1 to 200 characters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Metadata, required = false)]
    pub metadata: BTreeMap<String, String>,
}

impl Labels {
    /// Checks what a request says.
    ///
    /// # Errors
    /// Names the field and says what to change.
    pub fn new(tag: Option<String>, metadata: BTreeMap<String, String>) -> Result<Self, FieldError> {
        if let Some(tag) = &tag {
            name("tag", tag)?;
        }
        if metadata.len() > METADATA_MAX {
            return Err(FieldError::new("metadata", "there are more than 20 names; leave some out"));
        }
        for (key, text) in &metadata {
            name("metadata", key)?;
            value("metadata", text)?;
        }
        Ok(Self { tag, metadata })
    }

    /// Names and values, as they are kept.
    fn rows(&self) -> Vec<(String, &str)> {
        let tag = self.tag.iter().map(|tag| (TAG.to_owned(), tag.as_str()));
        let metadata = self.metadata.iter().map(|(name, value)| (metadata_name(name), value.as_str()));
        tag.chain(metadata).collect()
    }
}

/// Checks a tag, or a name of metadata.
///
/// # Errors
/// Says what to change, under `field`.
pub fn name(field: &'static str, text: &str) -> Result<(), FieldError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=NAME_MAX_CHARS).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(FieldError::new(field, "a tag or name is 1 to 40 letters, digits, '-', '_' and '.'")),
    }
}

/// Checks a value of metadata.
///
/// # Errors
/// Says what to change, under `field`.
pub fn value(field: &'static str, text: &str) -> Result<(), FieldError> {
    let chars = text.chars().count();
    match (1..=VALUE_MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(FieldError::new(field, "a value is 1 to 200 characters, without control characters")),
    }
}

/// The condition for messages with a label, with `?` for its name and its value.
pub(super) const CONDITION: &str = "m.id IN (SELECT l.message FROM message_labels l WHERE l.name = ? AND l.value = ?)";

/// The label that a tag is.
pub(super) fn of_tag(tag: &str) -> (String, String) {
    (TAG.to_owned(), tag.to_owned())
}

/// The name under which metadata is kept.
pub(super) fn metadata_name(name: &str) -> String {
    format!("{METADATA}{name}")
}

/// Keeps the labels of a message that is being accepted.
pub(super) async fn insert(connection: &mut Connection, message: &str, labels: &Labels) -> Result<(), OutboxError> {
    let rows = labels.rows();
    if rows.is_empty() {
        return Ok(());
    }
    let marks = vec!["(?, ?, ?)"; rows.len()].join(", ");
    let mut query = query(format!("INSERT INTO message_labels (message, name, value) VALUES {marks}"));
    for (name, value) in rows {
        query = query.bind(message).bind(name).bind(value);
    }
    query.execute(connection).await?;
    Ok(())
}

/// The labels of a message.
pub(super) async fn of(connection: &mut Connection, message: &str) -> Result<Labels, OutboxError> {
    let select = query("SELECT name, value FROM message_labels WHERE message = ?").bind(message);
    let rows: Vec<(String, String)> = select.fetch_all(connection).await?;
    let mut labels = Labels::default();
    for (name, value) in rows {
        match name.strip_prefix(METADATA) {
            Some(name) => _ = labels.metadata.insert(name.to_owned(), value),
            None => labels.tag = Some(value),
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(tag: Option<&str>, metadata: &[(&str, &str)]) -> Result<Labels, String> {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Labels::new(tag.map(str::to_owned), metadata).map_err(|error| error.field.into_owned())
    }

    #[test]
    fn tags_and_metadata_are_short_and_plain() {
        assert!(checked(None, &[]).is_ok());
        assert!(checked(Some("order-shipped.v2"), &[("a:b", "x")]).is_err());
        assert!(checked(Some("welcome"), &[("order", "№ 17")]).is_ok());
        for bad in ["", "two words", "ä", &"x".repeat(41)] {
            assert_eq!(checked(Some(bad), &[]), Err("tag".to_owned()), "{bad}");
            assert_eq!(checked(None, &[(bad, "x")]), Err("metadata".to_owned()), "{bad}");
        }
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert_eq!(checked(None, &[("a", bad)]), Err("metadata".to_owned()), "{bad}");
        }
        let many: Vec<String> = (0..21).map(|index| format!("n{index}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
        assert_eq!(checked(None, &many), Err("metadata".to_owned()));
    }
}
