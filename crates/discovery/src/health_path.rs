use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// Where an instance answers whether it is well: a path, with a query if need be (`/healthz?deep=1`).
///
/// Visible ASCII that starts with a single `/`, at most 512 bytes, without `#` and `\`: exactly what can stand in a
/// request line (RFC 9112 section 3.2.1) and mean the same host for every URL library (`//other/` would not).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthPath(Arc<str>);

// === impl HealthPath ===

impl HealthPath {
    /// The longest path.
    pub const MAX_BYTES: usize = 512;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HealthPath {
    type Err = FieldError;

    fn from_str(path: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| Err(FieldError::new("health", format!("{} {what}", quoted(path))));
        if !path.starts_with('/') || path.starts_with("//") {
            return refuse("is no path; start it with one '/', as in /healthz");
        }
        if path.len() > Self::MAX_BYTES {
            return refuse("is too long; a health path has at most 512 bytes");
        }
        if path.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'#' | b'\\')) {
            return refuse("is no path; percent-encode spaces, '#', '\\' and everything that is not ASCII");
        }
        Ok(Self(path.into()))
    }
}

impl TryFrom<String> for HealthPath {
    type Error = FieldError;

    fn try_from(path: String) -> Result<Self, FieldError> {
        path.parse()
    }
}

impl From<HealthPath> for String {
    fn from(path: HealthPath) -> Self {
        (*path.0).into()
    }
}

impl fmt::Display for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for HealthPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Deref for HealthPath {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_a_request_line_is_a_path() {
        assert_eq!("/healthz?deep=1&x=%20".parse::<HealthPath>().unwrap().as_str(), "/healthz?deep=1&x=%20");
        let long = format!("/{}", "x".repeat(512));
        for path in ["", "healthz", "//evil", "/a b", "/a\r\nX: y", "/a#b", "/\\evil", "/ä", "http://a/", &long] {
            assert_eq!(path.parse::<HealthPath>().unwrap_err().field, "health", "{path:?}");
        }
    }
}
