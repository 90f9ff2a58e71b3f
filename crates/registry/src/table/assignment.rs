//! Which checkers run here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use discovery::{Incarnation, InstanceKey, Origin};
use service_kit::chain;
use tokio::task::{AbortHandle, JoinSet};

use super::{
    checker::{Checker, Parts},
    document::Table,
    peers::{Term, name},
};

/// What runs, and what is left to be done. Dropping it ends every checker.
#[derive(Debug)]
pub(super) struct Assignment {
    parts: Parts,
    in_force: Arc<Table>,
    running: BTreeMap<InstanceKey, Running>,
    tasks: JoinSet<()>,
    /// What the table had and has no more, until it is deregistered or another registry sees to that.
    dropped: BTreeSet<InstanceKey>,
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
        let dropped = BTreeSet::new();
        Self { parts, in_force, running, tasks, dropped }
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
            self.dropped.extend(self.in_force.entries.keys().cloned());
            self.dropped.retain(|key| !table.entries.contains_key(key));
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

    /// Deregisters what no registry has any more. If two do that at once, one of them finds nothing to be done.
    async fn deregister_dropped(&mut self) {
        for key in self.dropped.clone() {
            let held = self.parts.mirror.read().held(&key);
            let lease = held.and_then(|held| {
                let lease = held.lease?;
                let origin = Origin::of(held.instance.as_ref()?, Some(lease));
                (origin == Origin::Table).then_some(lease)
            });
            if lease.is_none() && self.parts.mirror.is_fresh() {
                self.dropped.remove(&key);
            }
            let Some(lease) = lease else { continue };
            if !self.parts.peers.are_without(&key).await {
                continue;
            }
            match self.parts.registrar.deregister(key.clone(), Some(Incarnation(lease))).await {
                Ok(_) => {
                    tracing::info!(%key, "an instance is no longer in the table and was deregistered");
                    self.dropped.remove(&key);
                }
                Err(error) => {
                    tracing::debug!(%key, error = %chain(&error), "cannot deregister an instance that left the table");
                }
            }
        }
    }
}
