use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{FieldError, InstanceId, ServiceName, field_error::quoted};

/// Where the instances are: `service/<service>/<instance>`, or `service/<service>` for a nameless one.
pub const SERVICE_PREFIX: &str = "service/";

/// Where an operator's word about an instance is: `override/<service>/<instance>`.
pub const OVERRIDE_PREFIX: &str = "override/";

/// Where the policies of the services are: `config/<service>`.
pub const CONFIG_PREFIX: &str = "config/";

/// Which instance of which service; one to one with an etcd key.
///
/// `Display`, `FromStr` and serde use the key below [`SERVICE_PREFIX`]. As neither part can contain a `/`, no input
/// whatsoever makes a key outside its prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceKey {
    /// The service.
    pub service: ServiceName,
    /// The instance; `None` for the one nameless instance that other registries write to `service/<service>`.
    pub instance: Option<InstanceId>,
}

// === impl ServiceName ===

impl ServiceName {
    /// The etcd key of the service's policy: `config/mail`.
    pub fn config_key(&self) -> String {
        format!("{CONFIG_PREFIX}{self}")
    }
}

// === impl InstanceKey ===

impl InstanceKey {
    /// The key of a named instance.
    pub fn new(service: ServiceName, instance: InstanceId) -> Self {
        Self { service, instance: Some(instance) }
    }

    /// The key of the one instance that has no name of its own.
    pub fn nameless(service: ServiceName) -> Self {
        Self { service, instance: None }
    }

    /// The etcd key of the instance: `service/mail/10.0.0.5:7070`.
    pub fn key(&self) -> String {
        self.under(SERVICE_PREFIX)
    }

    /// The etcd key of an operator's word about it: `override/mail/10.0.0.5:7070`.
    pub fn override_key(&self) -> String {
        self.under(OVERRIDE_PREFIX)
    }

    /// Reads the etcd key of an instance.
    ///
    /// # Errors
    ///
    /// The key is not ours: outside [`SERVICE_PREFIX`], too deep, or with a part that is no name.
    pub fn parse(key: &[u8]) -> Result<Self, FieldError> {
        Self::below(SERVICE_PREFIX, key)
    }

    /// Reads the etcd key of an operator's word.
    ///
    /// # Errors
    ///
    /// As [`InstanceKey::parse`], for [`OVERRIDE_PREFIX`].
    pub fn parse_override(key: &[u8]) -> Result<Self, FieldError> {
        Self::below(OVERRIDE_PREFIX, key)
    }

    fn under(&self, prefix: &str) -> String {
        match &self.instance {
            Some(instance) => format!("{prefix}{}/{instance}", self.service),
            None => format!("{prefix}{}", self.service),
        }
    }

    fn below(prefix: &str, key: &[u8]) -> Result<Self, FieldError> {
        let refused = || {
            let quoted = quoted(&String::from_utf8_lossy(key));
            FieldError::new("key", format!("{quoted} is not {prefix}SERVICE/INSTANCE"))
        };
        let text = std::str::from_utf8(key).map_err(|_| refused())?;
        let path = text.strip_prefix(prefix).ok_or_else(refused)?;
        let named = |error: FieldError| FieldError::new("key", error.reason);
        match path.split_once('/') {
            None => Ok(Self::nameless(path.parse().map_err(named)?)),
            Some((service, instance)) => {
                Ok(Self::new(service.parse().map_err(named)?, instance.parse().map_err(named)?))
            }
        }
    }
}

impl FromStr for InstanceKey {
    type Err = FieldError;

    fn from_str(key: &str) -> Result<Self, FieldError> {
        Self::parse(key.as_bytes())
    }
}

impl TryFrom<String> for InstanceKey {
    type Error = FieldError;

    fn try_from(key: String) -> Result<Self, FieldError> {
        key.parse()
    }
}

impl From<InstanceKey> for String {
    fn from(key: InstanceKey) -> Self {
        key.key()
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        for key in ["service/mail/10.0.0.5:7070", "service/mail"] {
            assert_eq!(InstanceKey::parse(key.as_bytes()).unwrap().key(), key);
        }
        let key = InstanceKey::parse_override(b"override/mail/a").unwrap();
        assert_eq!(key.override_key(), "override/mail/a");
        assert_eq!(key.key(), "service/mail/a");
    }

    #[test]
    fn foreign_keys_are_refused() {
        for key in [
            "",
            "service/",
            "service",
            "services/mail",
            "Service/mail",
            "override/mail/a",
            "service//a",
            "service/mail/",
            "service/mail/a/b",
            "service/../a",
            "service/mail/..",
            "service/Mail/a",
            "service/mail/a b",
            "/service/mail/a",
        ] {
            assert_eq!(InstanceKey::parse(key.as_bytes()).unwrap_err().field, "key", "{key:?}");
        }
        assert_eq!(InstanceKey::parse(b"service/\xff").unwrap_err().field, "key");
    }
}
