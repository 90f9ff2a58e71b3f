//! How a file is to be read: what its columns mean, what separates its cells, and what is done to every user in it.

use std::str::FromStr;

use discovery::FieldError;

use super::Format;
use crate::user::{Attributes, Tags};

/// How to read a file.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// In which format it is.
    pub format: Format,
    /// What separates the cells of a table.
    pub delimiter: Delimiter,
    /// Columns of a table whose names are others than those of a user's fields.
    pub columns: Vec<ColumnName>,
    /// Whether columns that mean nothing here are passed over, and not refused.
    pub ignore_columns: bool,
    /// Tags that every user of the file gets beside those that they have.
    pub added_tags: Tags,
}

/// What separates the cells of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Delimiter {
    /// `,`, as RFC 4180 has it.
    #[default]
    Comma,
    /// `;`, which spreadsheets write where a comma is a decimal point.
    Semicolon,
    /// A tab.
    Tab,
}

/// A column of a table under another name than the field's: `email:E-mail address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName {
    pub(super) field: Field,
    pub(super) header: String,
}

/// What a cell is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    Email,
    Status,
    Tags,
    Attributes,
    /// One attribute; the cell is its text.
    Attribute(String),
}

// === impl ImportOptions ===

impl ImportOptions {
    /// What cannot be meant together: columns are those of a table.
    #[must_use]
    pub fn mistakes(&self) -> Vec<FieldError> {
        let only =
            |field: &'static str| FieldError::new(field, "it is about a table; leave it out, or give format=csv");
        if self.format == Format::Csv {
            return Vec::new();
        }
        let given = [
            ("delimiter", self.delimiter != Delimiter::Comma),
            ("column", !self.columns.is_empty()),
            ("ignore_columns", self.ignore_columns),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).map(|(field, _)| only(field)).collect()
    }
}

// === impl Delimiter ===

impl Delimiter {
    /// The byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Comma => "comma",
            Self::Semicolon => "semicolon",
            Self::Tab => "tab",
        }
    }
}

impl FromStr for Delimiter {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let all = [Self::Comma, Self::Semicolon, Self::Tab];
        let named = all.into_iter().find(|delimiter| delimiter.word() == text);
        named.ok_or_else(|| FieldError::new("delimiter", "it must be comma, semicolon or tab"))
    }
}

// === impl ColumnName ===

impl FromStr for ColumnName {
    type Err = FieldError;

    /// Reads `FIELD:HEADER`.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let wrong = |reason: &str| FieldError::new("column", reason);
        let (field, header) = text
            .split_once(':')
            .filter(|(_, header)| !header.trim().is_empty())
            .ok_or_else(|| wrong("write FIELD:HEADER, as email:E-mail address"))?;
        let field = Field::of(field.trim()).ok_or_else(|| {
            wrong("before the colon must be name, email, status, tags, attributes or attributes.KEY; after it, the name in the file")
        })?;
        Ok(Self { field, header: header.trim().to_owned() })
    }
}

// === impl Field ===

impl Field {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "name" => Self::Name,
            "email" => Self::Email,
            "status" => Self::Status,
            "tags" => Self::Tags,
            "attributes" => Self::Attributes,
            _ => {
                let key = name.strip_prefix("attributes.")?;
                let is_key = (1..=Attributes::KEY_MAX_CHARS).contains(&key.chars().count());
                is_key.then(|| Self::Attribute(key.to_owned()))?
            }
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Name => "name".to_owned(),
            Self::Email => "email".to_owned(),
            Self::Status => "status".to_owned(),
            Self::Tags => "tags".to_owned(),
            Self::Attributes => "attributes".to_owned(),
            Self::Attribute(key) => format!("attributes.{key}"),
        }
    }
}
