//! What is known about `service/` and `override/`, as one value.
//!
//! Pure: changes go in ([`View::apply`]), answers come out. Who feeds it, and how old it may be, is the business of
//! [`crate::mirror`].

use std::collections::BTreeMap;

use discovery::{InstanceKey, Registered, Revision, ServiceName, Status, Update};
use discovery_etcd::{Change, Held, OverrideUpdate};

use crate::lease_table::LeaseTable;

/// All instances and overrides at one revision, and what this replica has committed since.
#[derive(Debug, Default)]
pub struct View {
    revision: Revision,
    instances: BTreeMap<InstanceKey, Registered>,
    overrides: BTreeMap<InstanceKey, Status>,
    commits: LeaseTable,
}

// === impl View ===

impl View {
    /// Takes in one change, that is everything that one etcd transaction or one list brought.
    pub fn apply(&mut self, change: Change) {
        self.advance(change.revision);
        for update in change.updates {
            match update {
                Update::Reset(all) => self.instances = all.into_iter().map(|one| (one.key.clone(), one)).collect(),
                Update::Add(one) => drop(self.instances.insert(one.key.clone(), one)),
                Update::Remove(key) => drop(self.instances.remove(&key)),
            }
        }
        for update in change.overrides {
            match update {
                OverrideUpdate::Reset(all) => self.overrides = all,
                OverrideUpdate::Set(key, status) => drop(self.overrides.insert(key, status)),
                OverrideUpdate::Unset(key) => drop(self.overrides.remove(&key)),
            }
        }
    }

    /// Everything up to `revision` is known now, even if nothing of it was about us.
    pub fn advance(&mut self, revision: Revision) {
        if revision < self.revision {
            // etcd was wiped: revisions of the old history say nothing about the new one.
            self.commits.clear();
        }
        self.revision = revision;
        self.commits.settle(revision);
    }

    /// Notes what this replica has committed; see [`LeaseTable`].
    pub fn commit(&mut self, key: InstanceKey, revision: Revision, held: Option<Held>) {
        self.commits.commit(key, revision, held, self.revision);
    }

    /// The revision up to which everything is known.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How etcd holds the instance, by the later of the mirror's word and this replica's own last commit.
    pub fn held(&self, key: &InstanceKey) -> Option<Held> {
        match self.commits.get(key) {
            Some(committed) => committed.cloned(),
            None => self.instances.get(key).map(held),
        }
    }

    /// What an operator said about the instance.
    pub fn overridden(&self, key: &InstanceKey) -> Option<Status> {
        self.overrides.get(key).copied()
    }

    /// Every instance of every service, in the order of the keys.
    pub fn instances(&self) -> impl Iterator<Item = &Registered> {
        self.instances.values()
    }

    /// The instances of one service.
    pub fn of_service<'view>(&'view self, service: &ServiceName) -> impl Iterator<Item = &'view Registered> {
        // The nameless instance is the first of its service, because nothing sorts before something.
        self.instances
            .range(InstanceKey::nameless(service.clone())..)
            .take_while(move |(key, _)| key.service == *service)
            .map(|(_, registered)| registered)
    }

    /// How many of this replica's own commits are not shown yet.
    pub fn unsettled(&self) -> usize {
        self.commits.count()
    }

    /// How many instances there are.
    pub fn count(&self) -> usize {
        self.instances.len()
    }
}

fn held(registered: &Registered) -> Held {
    let Registered { instance, lease, modified, .. } = registered;
    Held { instance: Some(instance.clone()), lease: *lease, modified: *modified }
}

#[cfg(test)]
mod tests {
    use discovery::{Instance, LeaseId};

    use super::*;

    fn registered(key: &str, lease: i64, revision: i64) -> Registered {
        Registered {
            key: key.parse().unwrap(),
            instance: Instance::at("10.0.0.5:7070".parse().unwrap()),
            lease: Some(LeaseId(lease)),
            created: Revision(revision),
            modified: Revision(revision),
        }
    }

    fn change(revision: i64, updates: Vec<Update>) -> Change {
        Change { revision: Revision(revision), cause: None, updates, overrides: Vec::new(), unreadable: Vec::new() }
    }

    fn lease(view: &View, key: &str) -> Option<i64> {
        view.held(&key.parse().unwrap()).and_then(|held| held.lease).map(|lease| lease.0)
    }

    #[test]
    fn the_instances_of_a_service_are_its_own_and_no_others() {
        let mut view = View::default();
        let keys = ["service/mail", "service/mail-2/a", "service/mail/a", "service/mail/b", "service/mailbox/a"];
        let all = keys.iter().map(|key| registered(key, 1, 1)).collect();
        view.apply(change(1, vec![Update::Reset(all)]));
        let of = |service: &str| -> Vec<String> {
            view.of_service(&service.parse().unwrap()).map(|one| one.key.to_string()).collect()
        };
        assert_eq!(of("mail"), ["service/mail", "service/mail/a", "service/mail/b"]);
        assert_eq!(of("mail-2"), ["service/mail-2/a"]);
        assert!(of("nobody").is_empty());
    }

    #[test]
    fn our_own_commit_counts_until_the_mirror_has_reached_it() {
        let (mut view, key) = (View::default(), "service/mail/a");
        view.apply(change(5, vec![Update::Reset(vec![registered(key, 1, 5)])]));
        view.commit(key.parse().unwrap(), Revision(7), Some(held(&registered(key, 2, 7))));
        assert_eq!(lease(&view, key), Some(2));
        view.apply(change(6, vec![Update::Add(registered("service/other/b", 9, 6))]));
        assert_eq!(lease(&view, key), Some(2));
        view.apply(change(8, vec![Update::Remove(key.parse().unwrap())]));
        assert_eq!(lease(&view, key), None, "the mirror has seen our commit, and the end of it");
    }

    #[test]
    fn a_wiped_etcd_takes_our_commits_with_it() {
        let (mut view, key) = (View::default(), "service/mail/a");
        view.apply(change(50, vec![Update::Reset(Vec::new())]));
        view.commit(key.parse().unwrap(), Revision(51), Some(held(&registered(key, 2, 51))));
        view.advance(Revision(1));
        assert_eq!(lease(&view, key), None);
    }

    #[test]
    fn a_commit_is_settled_when_the_mirror_gets_there_without_a_word_about_it() {
        // Registered and expired between two lists that are identical.
        let (mut view, key) = (View::default(), "service/mail/a");
        view.apply(change(5, vec![Update::Reset(Vec::new())]));
        view.commit(key.parse().unwrap(), Revision(6), Some(held(&registered(key, 2, 6))));
        view.advance(Revision(9));
        assert_eq!(lease(&view, key), None);
    }
}
