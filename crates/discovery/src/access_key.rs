use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{CONFIG_PREFIX, FieldError, ServiceName, SettingKey, field_error::quoted};

/// Which API key, as it may stand in logs and in headers: `[A-Za-z0-9._-]{1,64}`.
///
/// One to one with an etcd key, `config/key/<id>`. It lies among the settings, so that who may write and read it, how
/// much of it, and with which conditions, is settled as for every other setting; as it has two segments it is no
/// service's policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccessKeyId(String);

/// What etcd holds of an API key of the gateway's: what proves it, and for which services. Never the key itself.
///
/// The hash is plain SHA-256, because the key is 256 random bits: a slow hash would cost every request its milliseconds
/// and protect nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object, as {\"sha256\": \"…\", \"services\": [\"mail\"]}")]
pub struct AccessKey {
    /// The SHA-256 of the key, in 64 hexadecimal digits.
    pub sha256: String,
    /// The services that it opens; `*` is all. At least one, at most [`AccessKey::SERVICES_MAX`].
    pub services: Vec<String>,
    /// From when on it opens nothing, as in RFC 3339 and in UTC, `2027-02-28T12:00:00Z`. Absent, the default: never. A
    /// gateway of a version that does not know this field lets such a key open nothing at all.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub expires: Option<SystemTime>,
}

// === impl AccessKeyId ===

impl AccessKeyId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 64;
    const PREFIX: &str = "key/";

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The setting that holds it: `key/<id>`.
    pub fn setting(&self) -> String {
        format!("{}{}", Self::PREFIX, self.0)
    }

    /// The API key that an etcd key is about; `None` for everything else that lives below [`CONFIG_PREFIX`].
    pub fn of_key(key: &[u8]) -> Option<Self> {
        Self::of_setting(std::str::from_utf8(key).ok()?.strip_prefix(CONFIG_PREFIX)?)
    }

    /// The API key that a setting is about.
    pub fn of_setting(setting: &str) -> Option<Self> {
        setting.strip_prefix(Self::PREFIX)?.parse().ok()
    }
}

impl FromStr for AccessKeyId {
    type Err = FieldError;

    fn from_str(id: &str) -> Result<Self, FieldError> {
        let is_setting = || format!("{}{id}", Self::PREFIX).parse::<SettingKey>().is_ok();
        if id.len() <= Self::MAX_BYTES && !id.contains('/') && is_setting() {
            return Ok(Self(id.to_owned()));
        }
        let reason = format!("{} is no id of a key; give 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'", quoted(id));
        Err(FieldError::new("key", reason))
    }
}

impl TryFrom<String> for AccessKeyId {
    type Error = FieldError;

    fn try_from(id: String) -> Result<Self, FieldError> {
        id.parse()
    }
}

impl From<AccessKeyId> for String {
    fn from(id: AccessKeyId) -> Self {
        id.0
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl AccessKey ===

impl AccessKey {
    /// Stands for every service.
    pub const ALL: &str = "*";
    /// Most services of one key.
    pub const SERVICES_MAX: usize = 256;

    /// Reads what etcd holds.
    ///
    /// # Errors
    ///
    /// The first mistake. It quotes nothing of the hash.
    pub fn parse(json: &str) -> Result<Self, FieldError> {
        let key: Self = serde_json::from_str(json).map_err(|error| FieldError::new("key", error.to_string()))?;
        if key.hash().is_none() {
            return Err(FieldError::new("sha256", "is no hash; it has 64 hexadecimal digits"));
        }
        if !(1..=Self::SERVICES_MAX).contains(&key.services.len()) {
            let reason = format!("are {}; give 1 to {}", key.services.len(), Self::SERVICES_MAX);
            return Err(FieldError::new("services", reason));
        }
        for service in key.services.iter().filter(|service| *service != Self::ALL) {
            service.parse::<ServiceName>().map_err(|error| error.under("services"))?;
        }
        Ok(key)
    }

    /// The hash as bytes; `None` when it is none.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Whether its time is not over at `now`.
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it opens `service`.
    pub fn opens(&self, service: &str) -> bool {
        self.services.iter().any(|opened| opened == service || opened == Self::ALL)
    }
}

impl fmt::Display for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// A moment as text (RFC 3339, in UTC).
mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(moment: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => serializer.collect_str(&humantime::format_rfc3339_seconds(*moment)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| D::Error::custom("expires is no moment; give it as 2027-02-28T12:00:00Z");
        humantime::parse_rfc3339(&text).map(Some).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_it_is_read_and_opens_its_services_only() {
        let text = format!(r#"{{"sha256":"{}","services":["mail"]}}"#, "ab".repeat(32));
        let key = AccessKey::parse(&text).unwrap();
        assert_eq!((key.to_string(), key.hash()), (text.clone(), Some([0xab; 32])));
        assert!(key.opens("mail") && !key.opens("web"));
        assert!(AccessKey::parse(&text.replace("mail", "*")).unwrap().opens("web"));
    }

    #[test]
    fn a_key_is_in_force_until_the_moment_that_it_names() {
        let text = format!(r#"{{"sha256":"{}","services":["*"],"expires":"1970-01-02T00:00:00Z"}}"#, "ab".repeat(32));
        let key = AccessKey::parse(&text).unwrap();
        assert_eq!(key.to_string(), text);
        let at = |secs| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        assert!(key.is_in_force(at(86_399)) && !key.is_in_force(at(86_400)));
        for wrong in ["1970-01-02", "tomorrow", "", "1970-01-02T00:00:00+01:00"] {
            assert!(AccessKey::parse(&text.replace("1970-01-02T00:00:00Z", wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_with_a_mistake_names_it_and_never_shows_the_hash() {
        for (text, field) in [
            ("", "key"),
            (r#"{"sha256":"secret","services":["mail"]}"#, "sha256"),
            (&format!(r#"{{"sha256":"{}","services":[]}}"#, "ab".repeat(32)), "services"),
            (&format!(r#"{{"sha256":"{}","services":["Mail"]}}"#, "ab".repeat(32)), "services"),
            (&format!(r#"{{"sha256":"{}","services":["mail"],"x":1}}"#, "ab".repeat(32)), "key"),
        ] {
            let error = AccessKey::parse(text).unwrap_err();
            assert!(error.field == field && !error.to_string().contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn an_id_is_one_to_one_with_its_etcd_key() {
        let id = AccessKeyId::of_key(b"config/key/ci-1").unwrap();
        assert_eq!((id.as_str(), id.setting().as_str()), ("ci-1", "key/ci-1"));
        for other in ["config/key", "config/key/", "config/key/a/b", "config/keys/a", "config/key/..", "key/a"] {
            assert_eq!(AccessKeyId::of_key(other.as_bytes()), None, "{other}");
        }
    }
}
