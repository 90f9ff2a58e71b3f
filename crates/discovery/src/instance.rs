use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Address, FieldError, HealthPath, Reason, Scheme, Status, Weight, field_error::quoted, text};

/// One running process of a service: where it is, and what it says about itself.
///
/// `Display` is the value that is written to etcd, [`Instance::parse`] its liberal reader; see there for the forms.
/// The text fields are plain `String`s within the bounds below, which [`Instance::check`] holds: every way from a wire
/// into an `Instance` calls it, and so does every writer to etcd.
///
/// The JSON form (serde) has the fields of the full heartbeat and leaves out what is default.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(description = "One running process of a service: where it is, and what it says about itself.")]
#[serde(try_from = "Unchecked")]
pub struct Instance {
    /// Where it listens.
    pub address: Address,
    /// The protocol it speaks; default `http`.
    #[serde(skip_serializing_if = "is_default")]
    pub scheme: Scheme,
    /// Its share of the traffic; default 1.
    #[serde(skip_serializing_if = "is_default")]
    pub weight: Weight,
    /// Where it runs (a rack, a data centre), so that a reader may prefer its own zone. 1 to 63 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 63)]
    pub zone: Option<String>,
    /// Which release it is. 1 to 64 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    pub version: Option<String>,
    /// Where it answers whether it is well; absent: not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub health: Option<HealthPath>,
    /// Whether it wants traffic; default `passing`.
    #[serde(skip_serializing_if = "is_default")]
    pub status: Status,
    /// Why it is not `passing`; absent when it is, or does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<Reason>,
    /// Labels to select by. At most 32 of 1 to 256 bytes.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schema(schema_with = crate::openapi::tags, required = false)]
    pub tags: BTreeSet<String>,
    /// Whatever else is worth knowing. At most 32 entries; keys 1 to 64 of `[A-Za-z0-9._/-]`, values up to 256 bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = crate::openapi::meta, required = false)]
    pub meta: BTreeMap<String, String>,
}

/// An [`Instance`] as it comes from JSON, before [`Instance::check`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    address: Address,
    #[serde(default)]
    scheme: Scheme,
    #[serde(default)]
    weight: Weight,
    zone: Option<String>,
    version: Option<String>,
    health: Option<HealthPath>,
    #[serde(default)]
    status: Status,
    reason: Option<Reason>,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
}

// === impl Instance ===

impl Instance {
    /// Most bytes of [`Instance::zone`].
    pub const ZONE_MAX_BYTES: usize = 63;
    /// Most bytes of [`Instance::version`].
    pub const VERSION_MAX_BYTES: usize = 64;
    /// Most [`Instance::tags`].
    pub const TAGS_MAX: usize = 32;
    /// Most bytes of one tag.
    pub const TAG_MAX_BYTES: usize = 256;
    /// Most entries of [`Instance::meta`].
    pub const META_MAX: usize = 32;
    /// Most bytes of a key of [`Instance::meta`].
    pub const META_KEY_MAX_BYTES: usize = 64;
    /// Most bytes of a value of [`Instance::meta`].
    pub const META_VALUE_MAX_BYTES: usize = 256;

    /// The key of [`Instance::meta`] under which an instance says that it honours `X-Forwarded-Prefix`: `honoured`.
    pub const FORWARDED_PREFIX: &str = "forwarded-prefix";

    /// Whether its redirects, cookies and links begin with what `X-Forwarded-Prefix` says already, so that nothing is
    /// to be added to them.
    pub fn honours_forwarded_prefix(&self) -> bool {
        self.meta.get(Self::FORWARDED_PREFIX).is_some_and(|value| value == "honoured")
    }

    /// An instance of which nothing but its address is known.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            scheme: Scheme::default(),
            weight: Weight::default(),
            zone: None,
            version: None,
            health: None,
            status: Status::default(),
            reason: None,
            tags: BTreeSet::new(),
            meta: BTreeMap::new(),
        }
    }

    /// Whether every text is within its bounds and free of control characters, and a reason has something to explain.
    ///
    /// # Errors
    ///
    /// The first field that is not; `meta.owner` for an entry of `meta`.
    pub fn check(&self) -> Result<(), FieldError> {
        if let Some(zone) = &self.zone {
            text::check("zone", zone, Self::ZONE_MAX_BYTES)?;
        }
        if let Some(version) = &self.version {
            text::check("version", version, Self::VERSION_MAX_BYTES)?;
        }
        if self.status == Status::Passing && self.reason.is_some() {
            let what = "says why an instance is degraded, draining or critical; leave it out while it is passing";
            return Err(FieldError::new("reason", what));
        }
        if self.tags.len() > Self::TAGS_MAX {
            return Err(FieldError::new("tags", format!("are {}; 32 are allowed", self.tags.len())));
        }
        for tag in &self.tags {
            text::check("tags", tag, Self::TAG_MAX_BYTES)?;
        }
        if self.meta.len() > Self::META_MAX {
            return Err(FieldError::new("meta", format!("has {} entries; 32 are allowed", self.meta.len())));
        }
        for (key, value) in &self.meta {
            check_meta_key(key)?;
            text::check_or_empty("meta", value, Self::META_VALUE_MAX_BYTES)
                .map_err(|error| error.under(format!("meta.{key}")))?;
        }
        Ok(())
    }
}

impl TryFrom<Unchecked> for Instance {
    type Error = FieldError;

    fn try_from(given: Unchecked) -> Result<Self, FieldError> {
        let Unchecked { address, scheme, weight, zone, version, health, status, reason, tags, meta } = given;
        let instance = Self { address, scheme, weight, zone, version, health, status, reason, tags, meta };
        instance.check()?;
        Ok(instance)
    }
}

fn check_meta_key(key: &str) -> Result<(), FieldError> {
    let fits = (1..=Instance::META_KEY_MAX_BYTES).contains(&key.len());
    if fits && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-')) {
        return Ok(());
    }
    let quoted = quoted(key);
    Err(FieldError::new("meta", format!("key {quoted} is refused; use 1 to 64 of A-Z, a-z, 0-9, '.', '_', '/', '-'")))
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Instance {
        Instance::at("10.0.0.5:7070".parse().unwrap())
    }

    #[test]
    fn the_json_of_a_plain_instance_is_its_address() {
        let json = serde_json::to_string(&plain()).unwrap();
        assert_eq!(json, r#"{"address":"10.0.0.5:7070"}"#);
        assert_eq!(serde_json::from_str::<Instance>(&json).unwrap(), plain());
    }

    #[test]
    fn every_bound_is_held_and_names_its_field() {
        let field = |change: fn(&mut Instance)| {
            let mut instance = plain();
            change(&mut instance);
            instance.check().unwrap_err().field.into_owned()
        };
        assert_eq!(field(|i| i.zone = Some(String::new())), "zone");
        assert_eq!(field(|i| i.zone = Some("x".repeat(64))), "zone");
        assert_eq!(field(|i| i.version = Some("1\n2".into())), "version");
        assert_eq!(field(|i| i.reason = Reason::shorten("all is well")), "reason");
        assert_eq!(field(|i| i.tags = (0..33).map(|n| n.to_string()).collect()), "tags");
        assert_eq!(field(|i| i.tags = [String::new()].into()), "tags");
        assert_eq!(field(|i| i.meta = (0..33).map(|n| (n.to_string(), String::new())).collect()), "meta");
        assert_eq!(field(|i| i.meta = [("a b".into(), String::new())].into()), "meta");
        assert_eq!(field(|i| i.meta = [("owner".into(), "x".repeat(257))].into()), "meta.owner");
    }

    #[test]
    fn json_is_held_to_the_same_bounds() {
        let json = r#"{"address":"10.0.0.5:7070","meta":{"a":"b\u0000"}}"#;
        let error = serde_json::from_str::<Instance>(json).unwrap_err().to_string();
        assert!(error.contains("meta.a"), "{error}");
    }
}
