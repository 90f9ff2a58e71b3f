use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// Which instance of a service: `[A-Za-z0-9._:-]{1,128}`, but neither `.` nor `..`.
///
/// By default [`Address::instance_id`](crate::Address::instance_id), that is `host:port`. Those two dots are refused
/// because the id is a path segment in the registry's URLs, where clients and proxies would resolve them away.
/// Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Arc<str>);

// === impl InstanceId ===

impl InstanceId {
    /// The longest id.
    pub const MAX_BYTES: usize = 128;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = FieldError;

    fn from_str(id: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| {
            let quoted = quoted(id);
            Err(FieldError::new(
                "instance",
                format!("{quoted} {what}; use 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'"),
            ))
        };
        if id.is_empty() {
            return refuse("is empty");
        }
        if id.len() > Self::MAX_BYTES {
            return refuse("is too long");
        }
        if let Some(c) = id.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-'))) {
            return refuse(&format!("has a {c:?}"));
        }
        if matches!(id, "." | "..") {
            return refuse("means a folder in a path");
        }
        Ok(Self(id.into()))
    }
}

impl TryFrom<String> for InstanceId {
    type Error = FieldError;

    fn try_from(id: String) -> Result<Self, FieldError> {
        id.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        (*id.0).into()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Deref for InstanceId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_ids() {
        for id in ["10.0.0.5:7070", "::1:7070", "mail_1", "web-2.example", "...", &"x".repeat(128)] {
            assert_eq!(id.parse::<InstanceId>().unwrap().as_str(), id);
        }
    }

    #[test]
    fn an_id_that_is_an_address_has_one_spelling_and_a_name_keeps_its_own() {
        for (given, spelled) in [
            ("::ffff:10.0.0.5:7070", "10.0.0.5:7070"),
            ("2001:0DB8::01:80", "2001:db8::1:80"),
            ("10.0.0.5:7070", "10.0.0.5:7070"),
            ("Mail:7070", "Mail:7070"),
            ("mail-1", "mail-1"),
            ("::1", "::1"),
            ("::1:99999", "::1:99999"),
        ] {
            assert_eq!(given.parse::<InstanceId>().unwrap().in_one_spelling().as_str(), spelled);
        }
    }

    #[test]
    fn path_tricks_and_foreign_characters_are_refused() {
        let long = "x".repeat(129);
        for id in ["", ".", "..", "a/b", "../x", "a b", "a%2fb", "[::1]:7070", "ä", "a\0", &long] {
            assert_eq!(id.parse::<InstanceId>().unwrap_err().field, "instance", "{id:?}");
        }
    }
}
