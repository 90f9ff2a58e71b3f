//! etcd's keys and values, parsed.

use discovery::{
    AccessKeyId, CONFIG_PREFIX, FieldError, Instance, InstanceKey, LeaseId, OVERRIDE_PREFIX, Override, Registered,
    Revision, SERVICE_PREFIX, ServiceName,
};
use etcd_client::KeyValue;

/// A key or value in etcd that cannot be parsed. It says nothing about the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The etcd key, with what is not UTF-8 replaced.
    pub key: String,
    /// What is wrong with it or with its value.
    pub reason: FieldError,
}

/// One of the ranges that we list and watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    Instances,
    Overrides,
    Policies,
}

/// One key as a list or a watch reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) lease: i64,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}

// === impl Range ===

impl Range {
    pub(crate) const ALL: [Self; 3] = [Self::Instances, Self::Overrides, Self::Policies];

    /// All keys of the range start with this.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Instances => SERVICE_PREFIX,
            Self::Overrides => OVERRIDE_PREFIX,
            Self::Policies => CONFIG_PREFIX,
        }
    }

    /// Its place in [`Range::ALL`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Instances => 0,
            Self::Overrides => 1,
            Self::Policies => 2,
        }
    }

    /// The id of our watcher of this range; 0 would let etcd choose one.
    pub(crate) fn watch_id(self) -> i64 {
        match self {
            Self::Instances => 1,
            Self::Overrides => 2,
            Self::Policies => 3,
        }
    }

    /// The range of a watcher, by its id.
    pub(crate) fn of_watch(id: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.watch_id() == id)
    }
}

/// The instance that a key of [`Range::Instances`] is about.
pub(crate) fn instance_key(key: &[u8]) -> Result<InstanceKey, Unreadable> {
    InstanceKey::parse(key).map_err(|reason| unreadable(key, reason))
}

/// The instance that a key of [`Range::Overrides`] is about.
pub(crate) fn override_key(key: &[u8]) -> Result<InstanceKey, Unreadable> {
    InstanceKey::parse_override(key).map_err(|reason| unreadable(key, reason))
}

/// The service that a key of [`Range::Policies`] is about; `None` for all the other configuration that lives there.
pub(crate) fn policy_key(key: &[u8]) -> Option<ServiceName> {
    std::str::from_utf8(key).ok()?.strip_prefix(CONFIG_PREFIX)?.parse().ok()
}

// === impl Entry ===

impl Entry {
    /// The registration that this is.
    pub(crate) fn registered(&self) -> Result<Registered, Unreadable> {
        let key = instance_key(&self.key)?;
        let instance = Instance::parse(&self.value).map_err(|reason| unreadable(&self.key, reason))?;
        Ok(Registered {
            key,
            instance,
            lease: (self.lease != 0).then_some(LeaseId(self.lease)),
            created: Revision(self.created),
            modified: Revision(self.modified),
        })
    }

    /// The override that this is.
    pub(crate) fn overridden(&self) -> Result<(InstanceKey, Override), Unreadable> {
        let key = override_key(&self.key)?;
        let text = String::from_utf8_lossy(&self.value);
        let order = text.parse().map_err(|reason| unreadable(&self.key, reason))?;
        Ok((key, order))
    }

    /// The policy that this is, as it was written.
    pub(crate) fn policy(&self) -> Option<(ServiceName, String)> {
        Some((policy_key(&self.key)?, String::from_utf8_lossy(&self.value).into_owned()))
    }
}

impl Entry {
    /// The gateway's API key that this is, as it was written.
    pub(crate) fn access_key(&self) -> Option<(AccessKeyId, String)> {
        Some((AccessKeyId::of_key(&self.key)?, String::from_utf8_lossy(&self.value).into_owned()))
    }
}

impl From<&KeyValue> for Entry {
    fn from(kv: &KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            lease: kv.lease(),
            created: kv.create_revision(),
            modified: kv.mod_revision(),
        }
    }
}

fn unreadable(key: &[u8], reason: FieldError) -> Unreadable {
    Unreadable { key: String::from_utf8_lossy(key).into_owned(), reason }
}
