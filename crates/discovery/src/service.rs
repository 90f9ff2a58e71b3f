use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// The name of a service: interchangeable instances are found under it (`mail`).
///
/// A DNS label in lower case, `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, of at most [`ServiceName::MAX_BYTES`] bytes
/// (RFC 1035 section 2.3.1, with the digit in front that RFC 1123 section 2.1 allows), so that it can be an etcd key
/// segment, a path segment, a host name and a metric label without any escaping. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

// === impl ServiceName ===

impl ServiceName {
    /// The longest DNS label.
    pub const MAX_BYTES: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = FieldError;

    fn from_str(name: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| {
            let quoted = quoted(name);
            Err(FieldError::new(
                "service",
                format!("{quoted} {what}; use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end"),
            ))
        };
        if name.is_empty() {
            return refuse("is empty");
        }
        if name.len() > Self::MAX_BYTES {
            return refuse("is too long");
        }
        if let Some(c) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return refuse(&format!("has a {c:?}"));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return refuse("has a '-' at an end");
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = FieldError;

    fn try_from(name: String) -> Result<Self, FieldError> {
        name.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        (*name.0).into()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Deref for ServiceName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_label_is_a_name() {
        for name in ["mail", "a", "0", "user-list-2", &"x".repeat(63)] {
            assert_eq!(name.parse::<ServiceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn anything_else_is_refused_by_name_of_the_field() {
        let long = "x".repeat(64);
        for name in ["", "-", "-a", "a-", "Mail", "a.b", "a/b", "..", "a b", "ä", "a\0", "a\n", &long] {
            let error = name.parse::<ServiceName>().unwrap_err();
            assert_eq!(error.field, "service", "{name:?}");
        }
    }
}
