//! Tombstones: which instances are gone, since when, and why; kept for a while.
//!
//! etcd says that a key is gone, not why. What it said last tells: an instance that leaves says `draining` first (the
//! registry says it for those who only deregister), one that vanishes does not.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use discovery::{Address, InstanceId, Revision};
use serde::Serialize;
use utoipa::ToSchema;

/// How long a dead instance is remembered.
pub const KEPT_FOR: Duration = Duration::from_secs(600);

/// How many tombstones of one service are kept at most; the oldest are dropped first. A service that crashes and comes
/// back under another port every few seconds must not fill the memory.
const MAX: usize = 128;

/// Why an instance is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// An operator had drained it.
    Drained,
    /// It said that it leaves, or was deregistered.
    Deregistered,
    /// Its heartbeats stopped, or its key or lease was removed in etcd.
    Expired,
}

/// One dead instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Which instance; `None` for a nameless one.
    pub id: Option<InstanceId>,
    /// Where it was.
    pub address: Address,
    /// Why it is gone.
    pub cause: Cause,
    /// When this registry learned of it.
    pub at: SystemTime,
    /// The service's index from then on.
    pub revision: Revision,
}

/// The tombstones of one service, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tombstones(VecDeque<Tombstone>);

// === impl Cause ===

impl Cause {
    /// `drained`, `deregistered` or `expired`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Deregistered => "deregistered",
            Self::Expired => "expired",
        }
    }
}

// === impl Tombstones ===

impl Tombstones {
    /// Remembers; says up to which revision something had to be forgotten for it.
    pub(crate) fn add(&mut self, tombstone: Tombstone) -> Option<Revision> {
        self.remove(tombstone.id.as_ref());
        self.0.push_back(tombstone);
        (self.0.len() > MAX).then(|| self.0.pop_front()).flatten().map(|forgotten| forgotten.revision)
    }

    /// It is back.
    pub(crate) fn remove(&mut self, id: Option<&InstanceId>) {
        self.0.retain(|tombstone| tombstone.id.as_ref() != id);
    }

    /// Forgets instances that ended long enough before `now`; returns up to which revision, if there were any.
    pub(crate) fn expire(&mut self, now: SystemTime) -> Option<Revision> {
        let mut forgotten = None;
        // After a clock was set back, tombstones may be from the future: the bound on their number still holds.
        while let Some(oldest) = self.0.front()
            && now.duration_since(oldest.at).is_ok_and(|age| age >= KEPT_FOR)
        {
            forgotten = self.0.pop_front().map(|tombstone| tombstone.revision);
        }
        forgotten
    }

    /// Another history begins at `revision`: there, they died before it.
    pub(crate) fn restart(&mut self, revision: Revision) {
        self.0.iter_mut().for_each(|tombstone| tombstone.revision = revision);
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.0.iter()
    }

    /// Whether none is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(id: &str, secs: u64) -> Tombstone {
        Tombstone {
            id: Some(id.parse().unwrap()),
            address: "10.0.0.5:7070".parse().unwrap(),
            cause: Cause::Expired,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(secs),
            revision: Revision(i64::try_from(secs).unwrap()),
        }
    }

    #[test]
    fn the_dead_are_forgotten_after_ten_minutes() {
        let mut tombstones = Tombstones::default();
        tombstones.add(tombstone("a", 0));
        tombstones.add(tombstone("b", 100));
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(tombstones.expire(at(599)), None);
        assert_eq!(tombstones.expire(at(600)), Some(Revision(0)));
        assert_eq!(tombstones.iter().count(), 1);
        assert_eq!(tombstones.expire(at(700)), Some(Revision(100)));
        assert!(tombstones.is_empty());
    }

    #[test]
    fn who_comes_back_is_not_among_the_dead_and_who_dies_twice_is_so_once() {
        let mut tombstones = Tombstones::default();
        tombstones.add(tombstone("a", 1));
        tombstones.add(tombstone("a", 2));
        assert_eq!(tombstones.iter().map(|one| one.revision.0).collect::<Vec<_>>(), [2]);
        tombstones.remove(Some(&"a".parse().unwrap()));
        assert!(tombstones.is_empty());
    }

    #[test]
    fn a_service_that_crashes_for_ever_is_remembered_by_its_latest_dead() {
        let mut tombstones = Tombstones::default();
        let forgotten: Vec<_> = (0..1000).filter_map(|n| tombstones.add(tombstone(&format!("i{n}"), n))).collect();
        assert_eq!(tombstones.iter().count(), MAX);
        assert_eq!(forgotten.last(), Some(&Revision(999 - 128)));
    }
}
