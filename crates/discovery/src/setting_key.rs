use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{CONFIG_PREFIX, FieldError, ServiceName, field_error::quoted};

/// Which setting: `mail` for the gateway's policy of a service, `mail/limits` or `a/b/c` for anything else.
///
/// One to one with an etcd key below [`CONFIG_PREFIX`]. Up to eight segments of `[A-Za-z0-9._-]{1,128}`, none of them
/// `.` or `..`, at most [`SettingKey::MAX_BYTES`] in all; a key of one segment is the name of a service, so that a slip
/// of the pen is no policy without a reader.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SettingKey(String);

// === impl SettingKey ===

impl SettingKey {
    /// The longest key, without its prefix.
    pub const MAX_BYTES: usize = 256;
    const SEGMENTS_MAX: usize = 8;
    const SEGMENT_MAX_BYTES: usize = 128;

    /// The key without its prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The etcd key: `config/mail`.
    pub fn key(&self) -> String {
        format!("{CONFIG_PREFIX}{}", self.0)
    }

    /// The service whose policy this is; `None` for a free key.
    pub fn policy_of(&self) -> Option<ServiceName> {
        self.0.parse().ok()
    }

    /// Reads an etcd key.
    ///
    /// # Errors
    ///
    /// It is outside [`CONFIG_PREFIX`], or nothing that we would write.
    pub fn parse(key: &[u8]) -> Result<Self, FieldError> {
        let key = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(CONFIG_PREFIX));
        key.ok_or_else(|| FieldError::new("key", format!("is not below {CONFIG_PREFIX}")))?.parse()
    }
}

impl FromStr for SettingKey {
    type Err = FieldError;

    fn from_str(key: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| {
            let quoted = quoted(key);
            Err(FieldError::new("key", format!("{quoted} {what}")))
        };
        if key.len() > Self::MAX_BYTES || key.split('/').count() > Self::SEGMENTS_MAX {
            return refuse("is too long; use at most 256 bytes and eight segments");
        }
        if !key.contains('/') && key.parse::<ServiceName>().is_err() {
            return refuse("is no service, whose policy it would be; other settings have two segments or more");
        }
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for segment in key.split('/') {
            if segment.is_empty() || segment.len() > Self::SEGMENT_MAX_BYTES || !segment.chars().all(is_allowed) {
                return refuse("has a segment that is not 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'");
            }
            if matches!(segment, "." | "..") {
                return refuse("has a segment that means a folder in a path");
            }
        }
        Ok(Self(key.to_owned()))
    }
}

impl TryFrom<String> for SettingKey {
    type Error = FieldError;

    fn try_from(key: String) -> Result<Self, FieldError> {
        key.parse()
    }
}

impl From<SettingKey> for String {
    fn from(key: SettingKey) -> Self {
        key.0
    }
}

impl fmt::Display for SettingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_a_policy_and_everything_deeper_is_free() {
        let policy: SettingKey = "mail".parse().unwrap();
        assert_eq!((policy.key().as_str(), policy.policy_of()), ("config/mail", Some("mail".parse().unwrap())));
        let free = SettingKey::parse(b"config/mail/Limits.v2_x/a-b").unwrap();
        assert_eq!((free.as_str(), free.policy_of()), ("mail/Limits.v2_x/a-b", None));
    }

    #[test]
    fn no_key_leaves_its_prefix_or_looks_like_another() {
        let deep = ["a"; 9].join("/");
        let long = format!("a/{}", "b".repeat(129));
        for key in
            ["", "/", "a/", "/a", "a//b", "a/../b", "a/.", "Mail", "a b/c", "a/b\n", "ä/b", "a/%2e", &deep, &long]
        {
            assert_eq!(key.parse::<SettingKey>().unwrap_err().field, "key", "{key:?}");
        }
        assert!(SettingKey::parse(b"service/mail").is_err());
        assert!(SettingKey::parse(b"config/\xff").is_err());
    }
}
