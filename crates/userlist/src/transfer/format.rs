use std::{path::Path, str::FromStr};

use discovery::FieldError;

/// How users are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table with a header (RFC 4180), in UTF-8.
    #[default]
    Csv,
    /// A JSON object a line.
    Ndjson,
}

// === impl Format ===

impl Format {
    /// The media type (RFC 7111; `application/x-ndjson` is not registered, and what is sent in practice).
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The format with this media type, whatever its parameters.
    #[must_use]
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().map(str::trim) {
            Some("text/csv") => Some(Self::Csv),
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// The format that a file's name ends with.
    #[must_use]
    pub fn of_file(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text {
            "csv" => Ok(Self::Csv),
            "ndjson" => Ok(Self::Ndjson),
            _ => Err(FieldError::new("format", "it must be csv or ndjson")),
        }
    }
}
