//! Which checkers run here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use discovery::{Incarnation, InstanceKey, LeaseId, Origin};
use service_kit::chain;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    checker::{Checker, Parts},
    document::Table,
    peers::{Term, name},
};

/// How many instances are deregistered in one turn.
const DEREGISTERED_AT_ONCE_MAX: usize = 4;

/// How long an instance that was dropped is looked after although it is not registered. Its registration may have been
/// under way, and is written after the checker that began it has ended; each attempt at etcd ends long before.
const DROPPED_KEPT: Duration = Duration::from_secs(60);

/// What runs, and what is left to be done. Dropping it ends every checker.
#[derive(Debug)]
pub(super) struct Assignment {
    parts: Parts,
    in_force: Arc<Table>,
    running: BTreeMap<InstanceKey, Running>,
    tasks: JoinSet<()>,
    /// What the table had and has no more, and since when, until it is deregistered or another registry sees to that.
    dropped: BTreeMap<InstanceKey, Instant>,
    /// The one of them that was last tried.
    after: Option<InstanceKey>,
}

#[derive(Debug)]
struct Running {
    /// Of the entry that it is for.
    digest: String,
    term: Term,
    task: AbortHandle,
}

// === impl Assignment ===

impl Assignment {
    pub(super) fn new(parts: Parts) -> Self {
        let in_force = Arc::default();
        let running = BTreeMap::new();
        let tasks = JoinSet::new();
        let dropped = BTreeMap::new();
        Self { parts, in_force, running, tasks, dropped, after: None }
    }

    /// Makes it as `table`, and what is known of the other registries, want it.
    pub(super) async fn arrange(&mut self, table: &Arc<Table>) {
        self.take(table);
        self.stop();
        self.start();
        self.announce();
        self.deregister_dropped().await;
    }

    fn take(&mut self, table: &Arc<Table>) {
        if !Arc::ptr_eq(&self.in_force, table) {
            let now = Instant::now();
            let gone = self.in_force.entries.keys().filter(|key| !table.entries.contains_key(*key));
            self.dropped.extend(gone.map(|key| (key.clone(), now)));
            self.dropped.retain(|key, _| !table.entries.contains_key(key));
            self.in_force = Arc::clone(table);
        }
    }

    /// Ends what is another registry's now or was meanwhile, and what is about an entry that has changed.
    fn stop(&mut self) {
        let entries = &self.in_force.entries;
        let peers = &self.parts.peers;
        self.running.retain(|key, running| {
            let is_wanted = entries.get(key).is_some_and(|entry| entry.digest == running.digest)
                && peers.term_of(key) == Some(running.term)
                && !running.task.is_finished();
            if !is_wanted {
                running.task.abort();
            }
            is_wanted
        });
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended.as_ref()
                && error.is_panic()
            {
                tracing::error!(error = %chain(error), "the checks of an instance ended unexpectedly; they begin again");
            }
        }
        self.parts.board.retain(|key| self.running.contains_key(key));
    }

    fn start(&mut self) {
        for (key, entry) in &self.in_force.entries {
            if self.running.contains_key(key) {
                continue;
            }
            if let Some(term) = self.parts.peers.term_of(key) {
                let digest = entry.digest.clone();
                let task = self.tasks.spawn(Checker::new(Arc::clone(entry), self.parts.clone(), term).run());
                self.running.insert(key.clone(), Running { digest, term, task });
            }
        }
    }

    fn announce(&self) {
        let entries = &self.in_force.entries;
        let instances = entries.iter().map(|(key, entry)| (name(key), entry.digest.clone())).collect();
        let states = self.parts.board.troubles();
        self.parts.peers.announce(|said| (said.instances, said.states) = (instances, states));
    }

    /// Deregisters what no registry has any more, a few per turn: each waits for etcd, and a hand-over waits for the
    /// turn. If two registries do that at once, one of them finds nothing to be done.
    async fn deregister_dropped(&mut self) {
        for (key, lease) in self.next_to_deregister() {
            self.after = Some(key.clone());
            if !self.parts.peers.are_without(&key).await {
                continue;
            }
            match self.parts.registrar.deregister(key.clone(), Some(Incarnation(lease))).await {
                Ok(_) => tracing::info!(%key, "an instance is no longer in the table and was deregistered"),
                Err(error) => {
                    tracing::debug!(%key, error = %chain(&error), "cannot deregister an instance that left the table");
                }
            }
        }
    }

    /// Those of one turn, with their leases; what has not been registered for long enough is forgotten.
    fn next_to_deregister(&mut self) -> Vec<(InstanceKey, LeaseId)> {
        let is_fresh = self.parts.mirror.is_fresh();
        let mut registered = Vec::new();
        for (key, since) in std::mem::take(&mut self.dropped) {
            let lease = self.lease_of(&key);
            let lease_here = lease.filter(|_| !self.parts.peers.has_other(&key));
            registered.extend(lease_here.map(|lease| (key.clone(), lease)));
            if lease.is_some() || !is_fresh || since.elapsed() < DROPPED_KEPT {
                self.dropped.insert(key, since);
            }
        }
        next_of(registered, self.after.as_ref())
    }

    /// By which the table's registration of it lives.
    fn lease_of(&self, key: &InstanceKey) -> Option<LeaseId> {
        let held = self.parts.mirror.read().held(key)?;
        let lease = held.lease?;
        (Origin::of(held.instance.as_ref()?, Some(lease)) == Origin::Table).then_some(lease)
    }
}

/// The next few behind `after`, then from the beginning: one that cannot be deregistered keeps no other waiting.
fn next_of<T>(mut all: Vec<(InstanceKey, T)>, after: Option<&InstanceKey>) -> Vec<(InstanceKey, T)> {
    let seen = all.iter().take_while(|(key, _)| Some(key) <= after).count();
    all.rotate_left(seen);
    all.truncate(DEREGISTERED_AT_ONCE_MAX);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_goes_on_where_the_last_one_ended() {
        let all = || (10..20).map(|id| (format!("service/a/{id}").parse::<InstanceKey>().unwrap(), id)).collect();
        let mut after = None;
        let mut turn = || {
            let next: Vec<(InstanceKey, i32)> = next_of(all(), after.as_ref());
            after = next.last().map(|(key, _)| key.clone());
            next.iter().map(|(_, id)| *id).collect::<Vec<_>>()
        };
        assert_eq!([turn(), turn(), turn()], [[10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 10, 11]]);
        assert!(next_of(Vec::<(InstanceKey, ())>::new(), None).is_empty());
    }
}
