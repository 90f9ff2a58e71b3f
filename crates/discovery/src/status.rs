use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// What an instance says about itself, or an operator about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Status {
    /// Ready for requests.
    #[default]
    Passing,
    /// About to leave: finishes what it has, wants nothing new.
    Draining,
    /// Alive but unable to do its work (its database is gone, say): listed, out of rotation.
    Critical,
}

// === impl Status ===

impl Status {
    /// `passing`, `draining` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Draining => "draining",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Status {
    type Err = FieldError;

    fn from_str(status: &str) -> Result<Self, FieldError> {
        match status {
            "passing" => Ok(Self::Passing),
            "draining" => Ok(Self::Draining),
            "critical" => Ok(Self::Critical),
            _ => {
                let quoted = quoted(status);
                Err(FieldError::new("status", format!("{quoted} is unknown; use passing, draining or critical")))
            }
        }
    }
}

impl TryFrom<String> for Status {
    type Error = FieldError;

    fn try_from(status: String) -> Result<Self, FieldError> {
        status.parse()
    }
}

impl From<Status> for &'static str {
    fn from(status: Status) -> Self {
        status.as_str()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
