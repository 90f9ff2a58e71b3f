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
    /// Works, but something that it needs does not (mail can queue messages, but not send them, say): in rotation, with
    /// a remark.
    Degraded,
    /// About to leave: finishes what it has, wants nothing new.
    Draining,
    /// Alive but unable to do its work (its database is gone, say): listed, out of rotation.
    Critical,
}

// === impl Status ===

impl Status {
    /// `passing`, `degraded`, `draining` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Critical => "critical",
        }
    }

    /// Whether requests go to an instance that is so.
    pub fn is_in_rotation(self) -> bool {
        match self {
            Self::Passing | Self::Degraded => true,
            Self::Draining | Self::Critical => false,
        }
    }
}

impl FromStr for Status {
    type Err = FieldError;

    fn from_str(status: &str) -> Result<Self, FieldError> {
        match status {
            "passing" => Ok(Self::Passing),
            "degraded" => Ok(Self::Degraded),
            "draining" => Ok(Self::Draining),
            "critical" => Ok(Self::Critical),
            _ => {
                let quoted = quoted(status);
                let known = "use passing, degraded, draining or critical";
                Err(FieldError::new("status", format!("{quoted} is unknown; {known}")))
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
