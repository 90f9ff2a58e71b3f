//! One life of a registration.
//!
//! An instance id is a name: it is used again after a restart, and two programs may claim it at the same time. What a
//! heartbeat keeps alive, what a DELETE ends and what an operator drains is one *life* of that name. It is told by the
//! etcd lease that the key lives by: granted when the life begins, gone when it ends, never the same again. So it costs
//! neither a key nor a byte of a value, and a watcher of etcd sees it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Address, LeaseId,
    field_error::{FieldError, quoted},
};

/// One life of a registration: from its first heartbeat to its end. Never used again for the same id.
///
/// Written as 16 hexadecimal digits, as `etcdctl lease list` writes the lease that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(pub LeaseId);

/// Which life a heartbeat is of. A heartbeat that does not say speaks for whatever life is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Life {
    /// `new`: one that begins now. The registry gives it an incarnation.
    New,
    /// `new:4f2a90c1d3e5b677`: one that begins now, as this incarnation, which the caller has drawn at random. The same
    /// again, at another registry or after a lost answer, is the same life.
    NewAs(Incarnation),
    /// `4f2a90c1d3e5b677`: this one, if it has not ended.
    Of(Incarnation),
}

/// Another program that claims the same instance id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherHolder {
    /// Where that one is.
    pub address: Address,
    /// Which life that is; none when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub incarnation: Option<Incarnation>,
    /// Since when both have been heard, in milliseconds since 1970.
    pub since_ms: u64,
}

// === impl Incarnation ===

impl FromStr for Incarnation {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let is_hexadecimal = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = is_hexadecimal.then(|| i64::from_str_radix(text, 16).ok()).flatten().filter(|id| *id > 0);
        id.map(|id| Self(LeaseId(id))).ok_or_else(|| {
            let what = "is no incarnation; send back the 16 hexadecimal digits of the last reply";
            FieldError::new("incarnation", format!("{} {what}", quoted(text)))
        })
    }
}

impl TryFrom<String> for Incarnation {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        text.parse()
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> Self {
        incarnation.to_string()
    }
}

impl From<LeaseId> for Incarnation {
    fn from(lease: LeaseId) -> Self {
        Self(lease)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Life ===

impl FromStr for Life {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        match text.strip_prefix("new") {
            Some("") => Ok(Self::New),
            Some(rest) if rest.starts_with(':') => rest[1..].parse().map(Self::NewAs),
            _ => text.parse().map(Self::Of),
        }
    }
}

impl TryFrom<String> for Life {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        text.parse()
    }
}

impl From<Life> for String {
    fn from(life: Life) -> Self {
        life.to_string()
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::NewAs(incarnation) => write!(f, "new:{incarnation}"),
            Self::Of(incarnation) => incarnation.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_written_as_it_is_read() {
        for text in ["new", "new:00000000000000ff", "4f2a90c1d3e5b677"] {
            assert_eq!(text.parse::<Life>().unwrap().to_string(), text);
        }
        assert_eq!("00000000000000FF".parse::<Incarnation>().unwrap(), Incarnation(LeaseId(255)));
    }

    #[test]
    fn what_is_no_lease_is_no_incarnation() {
        for text in ["", "0", "New", "new:", "new:1", "newer", "ff", "0000000000000000", "-000000000000001", "+1"] {
            assert_eq!(text.parse::<Life>().unwrap_err().field, "incarnation", "{text:?}");
        }
        for text in ["8000000000000000", "ffffffffffffffff", "00000000000000fg", "00000000000000ff0"] {
            assert_eq!(text.parse::<Incarnation>().unwrap_err().field, "incarnation", "{text:?}");
        }
    }
}
