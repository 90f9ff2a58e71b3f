//! From etcd to the routing table: the only writer of the table.
//!
//! A change of etcd's is applied as a whole, whatever else is waiting is applied with it, and then one table goes into
//! force. While etcd is out of reach nothing changes: the last table serves, and its age is visible.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use discovery::{InstanceKey, Registered, Revision, ServiceName, Update};
use discovery_etcd::{AccessKeyUpdate, Change, OverrideUpdate, PolicyUpdate, WatchHealth};
use futures::{FutureExt as _, Stream, StreamExt as _};
use service_kit::{chain, health::Readiness};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{HumanDuration, Millis},
    discovery::{
        TARGET, exposure::Exposure, instances::Instances, snapshot::SnapshotFile, snapshot_writer::SnapshotWriter,
    },
    health::last_resort::Prober,
    instance::candidate::Candidate,
    table::{
        retired_tables::RetiredTables,
        routing_table::{Source, TableHandle},
    },
};

/// How often the last resort is asked, and how often the snapshot is written at most.
const ROUND: Duration = Duration::from_secs(1);
/// So many changes that wait are applied together at most: those that do not end must not keep the first from being seen.
const TOGETHER_MAX: usize = 1024;
/// So many instances that come or go at once are told by their keys; of more only the number, or a network that breaks would
/// drown its own cause in the log.
const NAMED_MAX: usize = 16;

/// What [`Watcher::run`] works with.
#[derive(Debug)]
pub struct Watcher {
    instances: Instances,
    table: TableHandle,
    readiness: Readiness,
    health: WatchHealth,
    snapshot: Option<SnapshotWriter>,
    retired: RetiredTables,
    exposure: Option<Exposure>,
}

impl Watcher {
    /// Publishes to `table` what becomes of `instances`; reports to `readiness` whether there is anything to serve from.
    #[must_use]
    pub fn new(instances: Instances, table: TableHandle, readiness: Readiness, health: WatchHealth) -> Self {
        readiness.report("table", Err("nothing is known yet: etcd has not been reached".to_owned()));
        Self { instances, table, readiness, health, snapshot: None, retired: RetiredTables::default(), exposure: None }
    }

    /// Keeps the instances in the file at `path`, and starts from what an earlier run left there. A file that cannot be
    /// used is a warning: etcd will tell.
    #[must_use]
    pub fn with_snapshot(mut self, path: &Path) -> Self {
        let file = SnapshotFile::at(path);
        match file.load() {
            Ok(Some((saved, at))) => {
                let (revision, number) = (saved.revision, saved.instances.len());
                let age = HumanDuration(at.elapsed().unwrap_or_default());
                tracing::info!(
                    target: TARGET, %revision, instances = number,
                    "starting from the snapshot on disk, which is {age} old",
                );
                for key in self.instances.restore(saved, at.elapsed().unwrap_or_default(), Millis::now()) {
                    tracing::warn!(
                        target: TARGET, %key,
                        "the snapshot has an invalid value; it is left out",
                    );
                }
                self.instances.at(Source::Disk(at), revision);
                self.publish();
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(target: TARGET, error = %chain(&error), "starting without the snapshot"),
        }
        self.snapshot = Some(SnapshotWriter::new(file, &self.instances));
        self
    }

    /// Warns of services that are open to everyone who comes in at `listen`, if that is not only this machine.
    #[must_use]
    pub fn warning_of_what_is_open_at(mut self, listen: SocketAddr) -> Self {
        self.exposure = Some(Exposure::at(listen));
        self
    }

    /// Applies `changes` until `shutdown`.
    pub async fn run(mut self, mut changes: impl Stream<Item = Change> + Unpin, shutdown: CancellationToken) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (suspects, mut found_dead) = spawn_prober(Prober::new(self.instances.addresses().clone()));
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                // Before the changes, which may be without an end.
                Some(dead) = found_dead.recv() => {
                    self.record_removal(&dead);
                }
                _ = rounds.tick() => {
                    self.instances.tick(Millis::now());
                    let all: Vec<_> = self.instances.suspects().cloned().collect();
                    if !all.is_empty() {
                        // A full channel: the round before is still going on.
                        let _next_time = suspects.try_send(all);
                    }
                    // Nothing before etcd was reached: what is there is better than nothing.
                    if let Some(snapshot) = self.snapshot.as_mut().filter(|_| self.table.load().source == Source::Etcd) {
                        snapshot.save_in_background(&self.instances).await;
                    }
                    self.retired.free();
                }
                change = changes.next() => {
                    let Some(change) = change else { break };
                    self.apply(change);
                    // Ten thousand leases that end together are many changes and few tables.
                    for _ in 1..TOGETHER_MAX {
                        let Some(Some(change)) = changes.next().now_or_never() else { break };
                        self.apply(change);
                    }
                }
            }
            self.publish();
        }
        if let Some(snapshot) = self.snapshot.filter(|_| self.table.load().source == Source::Etcd) {
            snapshot.save_at_the_end(&self.instances).await;
        }
    }

    fn apply(&mut self, change: Change) {
        let now = Millis::now();
        for unreadable in &change.unreadable {
            tracing::warn!(
                target: TARGET, key = unreadable.key,
                "a key in etcd is invalid and is left out: {}",
                unreadable.reason,
            );
        }
        self.tell(&change.updates, change.revision);
        for update in change.updates {
            self.instances.apply(update, now);
        }
        for update in change.overrides {
            match update {
                OverrideUpdate::Reset(all) => self.instances.replace_overrides(all),
                OverrideUpdate::Set(key, order) => self.instances.set_override(key, Some(order)),
                OverrideUpdate::Unset(key) => self.instances.set_override(key, None),
            }
        }
        for update in change.policies {
            let mistakes = match update {
                PolicyUpdate::Reset(all) => self.instances.replace_policies(all),
                PolicyUpdate::Set(service, text) => {
                    let mistake = self.instances.set_policy(&service, Some(text)).err();
                    tracing::info!(
                        target: TARGET, { service.name = %service, is_used = mistake.is_none() },
                        "policy changed",
                    );
                    mistake.map(|mistake| (service, mistake)).into_iter().collect()
                }
                PolicyUpdate::Unset(service) => {
                    tracing::info!(
                        target: TARGET, { service.name = %service },
                        "policy removed: the defaults are in force",
                    );
                    let mistake = self.instances.set_policy(&service, None).err();
                    mistake.map(|mistake| (service, mistake)).into_iter().collect()
                }
            };
            for (service, mistake) in mistakes {
                tracing::warn!(
                    target: TARGET, key = service.config_key(),
                    "a policy is not used, the last good one stays in force: {mistake}"
                );
            }
        }
        self.apply_access_keys(change.access_keys);
        self.instances.at(Source::Etcd, change.revision);
    }

    fn apply_access_keys(&mut self, updates: Vec<AccessKeyUpdate>) {
        for update in updates {
            let mistakes = match update {
                AccessKeyUpdate::Reset(all) => self.instances.replace_access_keys(all),
                AccessKeyUpdate::Set(id, text) => {
                    let mistake = self.instances.set_access_key(&id, Some(text));
                    tracing::info!(target: TARGET, { key.id = %id, is_used = mistake.is_none() }, "API key set");
                    mistake.map(|mistake| (id, mistake)).into_iter().collect()
                }
                AccessKeyUpdate::Unset(id) => {
                    tracing::info!(target: TARGET, { key.id = %id }, "API key revoked");
                    self.instances.set_access_key(&id, None);
                    Vec::new()
                }
            };
            for (id, mistake) in mistakes {
                tracing::warn!(target: TARGET, { key.id = %id }, "an API key in etcd is invalid and opens nothing: {mistake}");
            }
        }
    }

    fn record_removal(&mut self, dead: &Dead) {
        if dead.len() > NAMED_MAX {
            tracing::info!(
                target: TARGET, instances = dead.len(),
                "they are gone: their leases had expired, and they accept no connections"
            );
        }
        for (key, serial) in dead {
            if dead.len() <= NAMED_MAX {
                tracing::info!(
                    target: TARGET, %key,
                    "instance is gone: its lease had expired, and it accepts no connections",
                );
            }
            self.instances.found_dead(key, *serial);
        }
    }

    /// Says what is new: of each instance, or of each service when they are many.
    fn tell(&mut self, updates: &[Update], revision: Revision) {
        let are_many = updates.len() > NAMED_MAX;
        if are_many {
            for (service, (added, removed)) in crowds(updates) {
                tracing::info!(
                    target: TARGET, { service.name = %service, %revision, added, removed },
                    "many instances changed at once",
                );
            }
        }
        for update in updates {
            let added = match update {
                Update::Reset(all) => {
                    tracing::info!(target: TARGET, %revision, instances = all.len(), "reset");
                    &all[..]
                }
                Update::Add(new) => {
                    if !are_many {
                        tracing::info!(
                            target: TARGET, key = %new.key, value = %new.instance,
                            "instance added or changed",
                        );
                    }
                    std::slice::from_ref(new)
                }
                Update::Remove(key) => {
                    if !are_many {
                        tracing::info!(target: TARGET, %key, "instance removed");
                    }
                    &[]
                }
            };
            self.warn_of_forbidden(added);
            if let Some(exposure) = &mut self.exposure {
                exposure.look_at(added);
            }
        }
    }

    fn warn_of_forbidden(&self, added: &[Registered]) {
        for new in added {
            if let Err(forbidden) = self.instances.check_address(new) {
                tracing::warn!(
                    target: TARGET, key = %new.key, address = %new.instance.address,
                    "instance is not used: it {forbidden}",
                );
            }
        }
    }

    fn publish(&mut self) {
        if let Some(table) = self.instances.table() {
            self.retired.add(self.table.publish(table));
        }
        let state = match self.table.load().source {
            Source::Etcd | Source::Disk(_) => Ok(()),
            Source::Nothing => {
                let why = self.health.state().last_error.map(|error| format!(" ({error})")).unwrap_or_default();
                Err(format!("nothing is known yet: etcd has not been reached{why}"))
            }
        };
        self.readiness.report("table", state);
    }
}

/// How many instances of each service come, or change, and how many go.
fn crowds(updates: &[Update]) -> BTreeMap<&ServiceName, (usize, usize)> {
    let mut crowds = BTreeMap::<_, (usize, usize)>::new();
    for update in updates {
        match update {
            Update::Reset(_) => {}
            Update::Add(new) => crowds.entry(&new.key.service).or_default().0 += 1,
            Update::Remove(key) => crowds.entry(&key.service).or_default().1 += 1,
        }
    }
    crowds
}

type Suspects = Vec<Arc<Candidate>>;
type Dead = Vec<(InstanceKey, u64)>;

/// Asks who is sent to it, round by round, and sends back who is dead. Ends with the sender.
fn spawn_prober(mut prober: Prober) -> (mpsc::Sender<Suspects>, mpsc::Receiver<Dead>) {
    let (suspects, mut rounds) = mpsc::channel::<Suspects>(1);
    let (dead, found_dead) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(suspects) = rounds.recv().await {
            let found = prober.round(suspects).await;
            if !found.is_empty() && dead.send(found).await.is_err() {
                return;
            }
        }
    });
    (suspects, found_dead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_with_many_others_is_counted_by_service() {
        let key = |service: &str, n: usize| format!("service/{service}/{n}").parse().unwrap();
        let mut updates: Vec<Update> = (0..10_000).map(|n| Update::Remove(key("crowd", n))).collect();
        updates.push(Update::Remove(key("mail", 1)));
        let mail: ServiceName = "mail".parse().unwrap();
        let crowd: ServiceName = "crowd".parse().unwrap();
        assert_eq!(crowds(&updates), [(&crowd, (0, 10_000)), (&mail, (0, 1))].into());
    }
}
