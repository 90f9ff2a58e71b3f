//! One service, as its readers get it.

use std::{sync::Arc, time::SystemTime};

use discovery::{InstanceId, OtherHolder, Override, Reason, Registered, Revision, ServiceName, Status};

use super::{Cause, Rendered, Tombstone};

/// Everything about one service at one moment; never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Which service.
    pub name: ServiceName,
    /// The etcd revision of its last event; see [`crate::catalog`].
    pub index: Revision,
    /// Its instances, in the order of their ids.
    pub instances: Vec<Arc<Entry>>,
    /// Its tombstones of the last [`KEPT_FOR`](super::KEPT_FOR), the oldest first.
    pub tombstones: Vec<Tombstone>,
    /// From this index on, every change can be told from the fields above.
    pub(crate) complete_since: Revision,
}

/// One instance: what etcd holds, and what an operator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As etcd holds it.
    pub registered: Registered,
    /// The operator's word, if there is one for this life.
    pub overridden: Option<Override>,
    /// Who else claims its id.
    pub other_holder: Option<OtherHolder>,
    /// The service's index when this last changed.
    pub changed: Revision,
    /// As lists and event streams show it.
    pub json: Rendered,
    /// For how long it has been registered, as far as this registry knows.
    pub since: Since,
}

/// When a registration began, by what this registry has seen. etcd keeps revisions and no times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// When this registry first saw it.
    pub at: SystemTime,
    /// It was there already when this registry listed everything: it has been registered for at least so long.
    pub from_start: bool,
}

/// What happened to a service since an earlier index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Who is new or different.
    pub changed: Vec<Arc<Entry>>,
    /// Who is gone.
    pub removed: Vec<Tombstone>,
}

// === impl ServiceView ===

impl ServiceView {
    /// The instances that want requests.
    pub fn in_rotation(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.instances.iter().filter(|entry| entry.status().is_in_rotation())
    }

    /// What happened after `index`; `None` when that cannot be told any more, or `index` is of another history.
    pub fn since(&self, index: Revision) -> Option<Delta> {
        (self.complete_since <= index && index <= self.index).then(|| Delta {
            changed: self.instances.iter().filter(|entry| entry.changed > index).cloned().collect(),
            removed: self.tombstones.iter().filter(|tombstone| tombstone.revision > index).cloned().collect(),
        })
    }
}

// === impl Entry ===

impl Entry {
    /// What the instance is to others: the operator's word if there is one, else its own.
    pub fn status(&self) -> Status {
        self.overridden.as_ref().map_or(self.registered.instance.status, |order| order.status)
    }

    /// Why [`Entry::status`] is not passing; `None` when it is, or no reason was given.
    pub fn reason(&self) -> Option<&Reason> {
        if self.overridden.is_some() { None } else { self.registered.instance.reason.as_ref() }
    }

    /// Whether `other` is the same registration and not another one under the same name: it lives by the same lease.
    pub(crate) fn is_same_life(&self, other: &Registered) -> bool {
        let ours = &self.registered;
        ours.lease == other.lease && (ours.lease.is_some() || ours.created == other.created)
    }

    /// Why it is gone, when this is how it was last seen.
    pub(crate) fn cause_of_end(&self) -> Cause {
        match (self.overridden.as_ref().map(|order| order.status), self.registered.instance.status) {
            (Some(Status::Draining), _) => Cause::Drained,
            (_, Status::Draining) => Cause::Deregistered,
            (_, Status::Passing | Status::Degraded | Status::Critical) => Cause::Expired,
        }
    }

    /// Its id within its service; `None` for the nameless one that other registries write.
    pub fn id(&self) -> Option<&InstanceId> {
        self.registered.key.instance.as_ref()
    }
}
