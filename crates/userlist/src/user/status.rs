use std::str::FromStr;

use discovery::FieldError;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether mail may be sent to a user. A user who is not active stays on the list: after a deletion the next import
/// would subscribe them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Mail is welcome.
    #[default]
    Active,
    /// They asked for no more.
    Unsubscribed,
    /// Their address takes no mail.
    Bounced,
}

// === impl Status ===

impl Status {
    /// The word for it in JSON, CSV and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unsubscribed => "unsubscribed",
            Self::Bounced => "bounced",
        }
    }
}

impl FromStr for Status {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text {
            "active" => Ok(Self::Active),
            "unsubscribed" => Ok(Self::Unsubscribed),
            "bounced" => Ok(Self::Bounced),
            _ => Err(FieldError::new("status", "it is unknown; give active, unsubscribed or bounced")),
        }
    }
}
