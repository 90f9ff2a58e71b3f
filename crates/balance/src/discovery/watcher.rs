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
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{HumanDuration, Millis},
    discovery::{
        exposure::Exposure,
        instances::{Instances, Known},
        snapshot::SnapshotFile,
    },
    health::last_resort::Prober,
    instance::candidate::Candidate,
    table::routing_table::{RoutingTable, Source, TableHandle},
};

/// How often the last resort is asked, and how often the snapshot is written at most.
const ROUND: Duration = Duration::from_secs(1);
/// So many changes that wait are applied together at most: those that do not end must not keep the first from being seen.
const TOGETHER_MAX: usize = 1024;
/// Which part of the time goes into writing the snapshot at most: a hundredth. It is written whole, so with many instances it
/// is written less often, and a gateway that is killed leaves one that is so much older.
const SAVING_PART: u32 = 100;
/// It is written so often nevertheless, when there is something new.
const SAVING_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long after a snapshot that could not be written it is tried again.
const SAVING_RETRY: Duration = Duration::from_secs(10);
/// A number that no version of the instances has.
const UNSAVED: u64 = u64::MAX;
/// So many retired tables are looked through at least, or twice as many as were still held the last time: tunnels hold theirs
/// for hours, and a change must not cost the tunnels.
const RETIRED_MIN: usize = 16;
/// So many instances that come or go at once are told by their keys; of more only the number, or a network that breaks would
/// drown its own cause in the log.
const NAMED_MAX: usize = 16;

/// What its log lines are filed under: the name that it had before it got a room, because operators filter by it.
const TARGET: &str = "balance::watcher";

/// What [`Watcher::run`] works with.
#[derive(Debug)]
pub struct Watcher {
    instances: Instances,
    table: TableHandle,
    readiness: Readiness,
    health: WatchHealth,
    snapshot: Option<SnapshotFile>,
    /// The version of the instances that is on disk, as far as is known.
    saved: u64,
    /// And of what clients must show.
    saved_rights: u64,
    saving: Option<JoinHandle<Option<Duration>>>,
    /// Not before this is the snapshot written again, unless what clients must show has changed.
    save_from: Instant,
    /// Tables that were in force, which somebody else may hold still. The last one to hold a table frees it, and that shall
    /// not be a core that serves requests: of ten thousand instances that went together, that is work.
    retired: Vec<Arc<RoutingTable>>,
    /// They are looked through when they are so many.
    retired_max: usize,
    exposure: Option<Exposure>,
}

impl Watcher {
    /// Publishes to `table` what becomes of `instances`; reports to `readiness` whether there is anything to serve from.
    #[must_use]
    pub fn new(instances: Instances, table: TableHandle, readiness: Readiness, health: WatchHealth) -> Self {
        readiness.report("table", Err("nothing is known yet: etcd has not been reached".to_owned()));
        Self {
            instances,
            table,
            readiness,
            health,
            snapshot: None,
            saved: 0,
            saved_rights: 0,
            saving: None,
            save_from: Instant::now(),
            retired: Vec::new(),
            retired_max: RETIRED_MIN,
            exposure: None,
        }
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
                (self.saved, self.saved_rights) = (self.instances.version(), self.instances.rights_version());
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(target: TARGET, error = %chain(&error), "starting without the snapshot"),
        }
        self.snapshot = Some(file);
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
                    self.save_in_background().await;
                    self.free_retired();
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
        self.save_at_the_end().await;
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
            self.retired.push(self.table.publish(table));
        }
        if self.retired.len() >= self.retired_max {
            self.free_retired();
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

    fn free_retired(&mut self) {
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        self.retired_max = (self.retired.len() * 2).max(RETIRED_MIN);
    }

    /// What there is to be saved: nothing before etcd was reached.
    fn unsaved(&mut self) -> Option<(SnapshotFile, Known)> {
        let file = self.snapshot.clone()?;
        let version = self.instances.version();
        if version == self.saved || self.table.load().source != Source::Etcd {
            return None;
        }
        (self.saved, self.saved_rights) = (version, self.instances.rights_version());
        Some((file, self.instances.known(Millis::now())))
    }

    async fn save_in_background(&mut self) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        if let Some(saving) = self.saving.take() {
            let pause = self.note_saved(saving.await.ok().flatten());
            self.save_from = Instant::now() + pause;
        }
        let is_urgent = self.saved_rights != self.instances.rights_version();
        if (is_urgent || Instant::now() >= self.save_from)
            && let Some((file, known)) = self.unsaved()
        {
            self.saving = Some(tokio::task::spawn_blocking(move || save(&file, known)));
        }
    }

    /// How long the next snapshot waits after one that took so long, or that failed (`None`).
    fn note_saved(&mut self, took: Option<Duration>) -> Duration {
        match took {
            Some(took) => (took * SAVING_PART).min(SAVING_PAUSE_MAX),
            None => {
                self.saved = UNSAVED;
                SAVING_RETRY
            }
        }
    }

    async fn save_at_the_end(mut self) {
        if let Some(saving) = self.saving.take() {
            self.note_saved(saving.await.ok().flatten());
        }
        if let Some((file, known)) = self.unsaved() {
            let _done = tokio::task::spawn_blocking(move || save(&file, known)).await;
        }
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

/// Writes what is known; how long that took without the disk, or `None` when it could not be written.
fn save(file: &SnapshotFile, known: Known) -> Option<Duration> {
    let started = std::time::Instant::now();
    let written = file.save_timed(known.into_saved(), started);
    written
        .inspect_err(|error| tracing::warn!(target: TARGET, error = %chain(error), "the snapshot is out of date"))
        .ok()
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
    use discovery::Instance;

    use super::*;
    use crate::addresses::AddressPolicy;

    fn watcher(snapshot: &Path) -> Watcher {
        let instances = Instances::new(1, AddressPolicy::default(), Duration::ZERO);
        let watcher = Watcher::new(instances, TableHandle::new(), Readiness::new(), WatchHealth::default());
        let mut watcher = watcher.with_snapshot(snapshot);
        watcher.instances.at(Source::Etcd, Revision(1));
        watcher
    }

    /// Something changes, and is in force.
    fn add(watcher: &mut Watcher, name: &str) {
        let instance = Instance::parse(b"http://10.0.0.1:1").unwrap();
        let (created, modified) = (Revision(1), Revision(1));
        let registered = Registered { key: name.parse().unwrap(), instance, lease: None, created, modified };
        watcher.instances.apply(Update::Add(registered), Millis(0));
        watcher.publish();
    }

    #[tokio::test]
    async fn a_revoked_key_does_not_wait_for_the_time_of_the_next_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.json");
        let mut watcher = watcher(&path);
        watcher.save_from = Instant::now() + SAVING_PAUSE_MAX;
        add(&mut watcher, "service/mail/a");
        watcher.save_in_background().await;
        assert!(watcher.saving.is_none(), "instances wait");
        watcher.instances.set_access_key(&"ci".parse().unwrap(), None);
        watcher.publish();
        watcher.save_in_background().await;
        assert!(watcher.saving.take().unwrap().await.unwrap().is_some() && path.exists());
        let text = Some(r#"{"load_balancing":{"policy":"random"}}"#.to_owned());
        let _any = watcher.instances.set_policy(&"mail".parse().unwrap(), text);
        watcher.publish();
        watcher.save_in_background().await;
        assert!(watcher.saving.is_some(), "nor does a policy");
    }

    #[tokio::test]
    async fn a_snapshot_that_could_not_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("later");
        let mut watcher = watcher(&later.join("snapshot.json"));
        add(&mut watcher, "service/mail/a");
        watcher.save_in_background().await;
        while watcher.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            tokio::task::yield_now().await;
        }
        watcher.save_in_background().await;
        assert!(watcher.saving.is_none() && watcher.save_from > Instant::now(), "not at once");
        std::fs::create_dir(&later).unwrap();
        watcher.save_from = Instant::now();
        watcher.save_in_background().await;
        assert!(watcher.saving.take().unwrap().await.unwrap().is_some());
        assert!(later.join("snapshot.json").exists(), "although nothing has changed since");
    }

    #[tokio::test]
    async fn tables_that_are_held_for_long_are_not_looked_through_at_each_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut watcher = watcher(&folder.path().join("snapshot.json"));
        let held: Vec<_> = (0..100)
            .map(|n| {
                add(&mut watcher, &format!("service/mail/{n}"));
                watcher.table.load()
            })
            .collect();
        assert!(watcher.retired_max > 100, "{}", watcher.retired_max);
        drop(held);
        watcher.free_retired();
        assert_eq!((watcher.retired.len(), watcher.retired_max), (0, RETIRED_MIN));
    }

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
