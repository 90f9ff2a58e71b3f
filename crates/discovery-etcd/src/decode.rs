//! etcd's keys and values, made sense of.

use discovery::{
    FieldError, Instance, InstanceKey, LeaseId, OVERRIDE_PREFIX, Registered, Revision, SERVICE_PREFIX, Status,
};
use etcd_client::KeyValue;

/// A key or value in etcd that makes no sense to us. It says nothing about the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The etcd key, with what is not UTF-8 replaced.
    pub key: String,
    /// What is wrong with it or with its value.
    pub reason: FieldError,
}

/// One of the two ranges that we list and watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    Instances,
    Overrides,
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
    pub(crate) const ALL: [Self; 2] = [Self::Instances, Self::Overrides];

    /// All keys of the range start with this.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Instances => SERVICE_PREFIX,
            Self::Overrides => OVERRIDE_PREFIX,
        }
    }

    /// Its place in [`Range::ALL`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Instances => 0,
            Self::Overrides => 1,
        }
    }

    /// The id of our watcher of this range; 0 would let etcd choose one.
    pub(crate) fn watch_id(self) -> i64 {
        match self {
            Self::Instances => 1,
            Self::Overrides => 2,
        }
    }

    /// The range of a watcher, by its id.
    pub(crate) fn of_watch(id: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.watch_id() == id)
    }

    /// The instance that `key`, in this range, is about.
    pub(crate) fn instance_key(self, key: &[u8]) -> Result<InstanceKey, Unreadable> {
        let parsed = match self {
            Self::Instances => InstanceKey::parse(key),
            Self::Overrides => InstanceKey::parse_override(key),
        };
        parsed.map_err(|reason| unreadable(key, reason))
    }
}

// === impl Entry ===

impl Entry {
    /// The registration that this is.
    pub(crate) fn registered(&self) -> Result<Registered, Unreadable> {
        let key = Range::Instances.instance_key(&self.key)?;
        let instance = Instance::parse(&self.value).map_err(|reason| unreadable(&self.key, reason))?;
        Ok(Registered {
            key,
            instance,
            lease: (self.lease != 0).then_some(LeaseId(self.lease)),
            created: Revision(self.created),
            modified: Revision(self.modified),
        })
    }

    /// The operator's word that this is.
    pub(crate) fn overridden(&self) -> Result<(InstanceKey, Status), Unreadable> {
        let key = Range::Overrides.instance_key(&self.key)?;
        let text = String::from_utf8_lossy(&self.value);
        let status = text.trim().parse().map_err(|reason| unreadable(&self.key, reason))?;
        Ok((key, status))
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
