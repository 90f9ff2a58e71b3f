//! A host name as an operator writes it.

use std::{fmt, str::FromStr};

/// A host name without a port, in lower case; or `*`, any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

// === impl HostName ===

impl HostName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all of them.
    pub(super) fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_valid = name == "*" || !name.is_empty() && name.bytes().all(is_name);
        let mistake = || "it is not a host name; write shop.example, without scheme and port, or *".to_owned();
        is_valid.then_some(Self(name)).ok_or_else(mistake)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
