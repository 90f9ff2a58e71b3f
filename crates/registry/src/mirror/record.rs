//! What is remembered of one service beside its instances. Plain values.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use discovery::Revision;

use super::{ServiceView, Tombstone, Tombstones};

/// The memory of one service.
#[derive(Debug)]
pub(crate) struct Record {
    /// The revision of its last event.
    pub(crate) index: Revision,
    /// How many instances it has.
    pub(crate) count: usize,
    /// What their keys and values take in etcd.
    pub(crate) bytes: u64,
    pub(crate) tombstones: Tombstones,
    /// What happened after this index is all known.
    pub(crate) complete_since: Revision,
    /// What readers get, once one has asked.
    pub(crate) view: OnceLock<Arc<ServiceView>>,
    /// The step in which it last changed.
    step: u64,
}

// === impl Record ===

impl Record {
    /// A service of which nothing was known up to `floor`; `step` if it was found there, else 0.
    pub(crate) fn new(floor: Revision, step: u64) -> Self {
        let tombstones = Tombstones::default();
        Self { index: floor, count: 0, bytes: 0, tombstones, complete_since: floor, view: OnceLock::new(), step }
    }

    /// Something happened at `revision`; returns the new index. It is higher than before this step, and all that happens
    /// in one step, which readers see as a whole, makes one index.
    pub(crate) fn touch(&mut self, revision: Revision, step: u64) -> Revision {
        let least = if self.step == step { self.index } else { self.index.next() };
        self.index = revision.max(least);
        self.step = step;
        self.view = OnceLock::new();
        self.index
    }

    /// Another history begins at `revision`.
    pub(crate) fn restart(&mut self, revision: Revision, step: u64) {
        (self.index, self.complete_since, self.step) = (revision, revision, step);
        self.tombstones.restart(revision);
        self.view = OnceLock::new();
    }

    pub(crate) fn add_tombstone(&mut self, tombstone: Tombstone) {
        let forgotten = self.tombstones.add(tombstone);
        self.forgot(forgotten);
    }

    /// Drops expired tombstones.
    pub(crate) fn expire(&mut self, now: SystemTime) {
        let forgotten = self.tombstones.expire(now);
        self.forgot(forgotten);
    }

    /// Whether there is nothing left to say about the service.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.tombstones.is_empty()
    }

    fn forgot(&mut self, up_to: Option<Revision>) {
        if let Some(revision) = up_to {
            self.complete_since = self.complete_since.max(revision);
            self.view = OnceLock::new();
        }
    }
}
