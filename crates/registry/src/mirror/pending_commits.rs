//! What this replica has committed to etcd and its mirror has not shown yet.
//!
//! The mirror follows etcd within milliseconds, but not at once: an instance whose second heartbeat comes right behind
//! its first would look unknown. So every commit is noted here together with its revision, and counts for more than the
//! mirror until the mirror has reached that revision; then the note is dropped. What is left in the table is therefore
//! what etcd has been told within the last few milliseconds, not one entry per instance: the lease of an instance is
//! kept in etcd, with its key, where every replica finds it.
//!
//! Plain values, no clock: revisions are the only order there is.

use std::collections::HashMap;

use discovery::{InstanceKey, Revision};
use discovery_etcd::Held;

/// Commits that the mirror has not reached.
#[derive(Debug, Default)]
pub struct PendingCommits {
    commits: HashMap<InstanceKey, Commit>,
}

/// `held: None` is a commit, too: the instance was deregistered.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    held: Option<Held>,
}

// === impl PendingCommits ===

impl PendingCommits {
    /// Notes that `key` has been committed as `held` (`None`: removed) at `revision`, unless the table knows of a later
    /// commit already, or the mirror at `mirrored` has seen it.
    pub fn commit(&mut self, key: InstanceKey, revision: Revision, held: Option<Held>, mirrored: Revision) {
        let known = self.commits.get(&key).map_or(mirrored, |commit| commit.revision);
        if revision > known {
            self.commits.insert(key, Commit { revision, held });
        }
    }

    /// The commit that is newer than the mirror, if there is one: `Some(None)` says that the instance was removed.
    pub fn get(&self, key: &InstanceKey) -> Option<Option<&Held>> {
        self.commits.get(key).map(|commit| commit.held.as_ref())
    }

    /// Whom the commits are about.
    pub fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.commits.keys()
    }

    /// Drops what the mirror has reached, now that it has everything up to `mirrored`.
    pub fn settle(&mut self, mirrored: Revision) {
        if !self.commits.is_empty() {
            self.commits.retain(|_, commit| commit.revision > mirrored);
        }
    }

    /// Drops everything: the history that these revisions belong to is gone (etcd was wiped).
    pub fn clear(&mut self) {
        self.commits.clear();
    }

    /// How many commits the mirror has not reached.
    pub fn count(&self) -> usize {
        self.commits.len()
    }
}

#[cfg(test)]
mod tests {
    use discovery::{Instance, LeaseId};

    use super::*;

    fn key() -> InstanceKey {
        "service/mail/10.0.0.5:7070".parse().unwrap()
    }

    fn held(lease: i64, modified: i64) -> Held {
        let instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        Held { instance: Some(instance), lease: Some(LeaseId(lease)), modified: Revision(modified) }
    }

    fn lease(table: &PendingCommits) -> Option<Option<i64>> {
        table.get(&key()).map(|held| held.and_then(|held| held.lease).map(|lease| lease.0))
    }

    #[test]
    fn a_commit_counts_until_the_mirror_has_reached_it() {
        let mut table = PendingCommits::default();
        table.commit(key(), Revision(7), Some(held(1, 7)), Revision(5));
        table.settle(Revision(6));
        assert_eq!(lease(&table), Some(Some(1)));
        table.settle(Revision(7));
        assert_eq!((lease(&table), table.count()), (None, 0));
    }

    #[test]
    fn commits_that_arrive_out_of_order_leave_the_later_one() {
        let mut table = PendingCommits::default();
        table.commit(key(), Revision(9), None, Revision(5));
        table.commit(key(), Revision(8), Some(held(1, 8)), Revision(5));
        assert_eq!(lease(&table), Some(None), "the instance is gone since revision 9");
    }

    #[test]
    fn what_the_mirror_has_seen_already_is_not_noted() {
        let mut table = PendingCommits::default();
        table.commit(key(), Revision(7), Some(held(1, 7)), Revision(7));
        assert_eq!(table.count(), 0);
    }
}
