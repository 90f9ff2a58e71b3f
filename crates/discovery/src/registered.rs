use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Instance, InstanceKey};

/// A point in etcd's history. It grows by one with every transaction that changes something, across all keys.
///
/// 0 is before everything; a cluster that was wiped starts again at 1, so a revision that goes backwards means that the
/// history was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

/// An etcd lease. `Display` writes 16 hexadecimal digits, as `etcdctl lease list` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

/// An instance as it stands in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Under which key.
    pub key: InstanceKey,
    /// What it says about itself.
    pub instance: Instance,
    /// The lease that it lives by; `None` for a key without a lease.
    pub lease: Option<LeaseId>,
    /// When the key came into being.
    pub created: Revision,
    /// When it was last written; two writes of the same key always differ in it.
    pub modified: Revision,
}

// === impl Revision ===

impl Revision {
    /// The revision from which to watch after a list at this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl LeaseId ===

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
