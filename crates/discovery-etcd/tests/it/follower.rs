//! Keeps a table by a watch, as the gateway does, and holds the watch to its contract.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use discovery::{InstanceKey, Override, Registered, Revision, ServiceName, Update};
use discovery_etcd::{Change, Etcd, OverrideUpdate, PolicyUpdate, ResyncCause, WatchHealth, WatchOptions, watch};
use futures::StreamExt;
use testkit::wait::{SOON, wait_until};
use tokio::task::JoinHandle;

/// A task that follows a watch; it ends with this handle.
pub(crate) struct Follower {
    pub(crate) health: WatchHealth,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What it has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) instances: BTreeMap<InstanceKey, Registered>,
    pub(crate) overrides: BTreeMap<InstanceKey, Override>,
    pub(crate) policies: BTreeMap<ServiceName, String>,
    pub(crate) changes: Vec<Change>,
    pub(crate) broken: Option<String>,
}

// === impl Follower ===

impl Follower {
    pub(crate) fn start(etcd: Etcd) -> Self {
        Self::with(etcd, WatchOptions { retry_max: Duration::from_millis(500), ..WatchOptions::default() })
    }

    pub(crate) fn with(etcd: Etcd, options: WatchOptions) -> Self {
        let mut changes = watch(etcd, options);
        let health = changes.health();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let writer = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                writer.lock().unwrap().apply(change);
            }
            writer.lock().unwrap().broken = Some("a watch never ends".into());
        });
        Self { health, seen, task }
    }

    /// What it has seen up to now.
    pub(crate) fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap().clone();
        assert_eq!(seen.broken, None);
        seen
    }

    /// Waits until the table has exactly these instances, as `path value`.
    pub(crate) async fn has(&self, expected: &[(&str, &str)]) {
        let expected: Vec<String> = expected.iter().map(|(path, value)| format!("service/{path} {value}")).collect();
        let what = format!("the table {expected:?}");
        wait_until(&what, SOON, || async { self.seen().table() == expected }).await;
    }

    /// Waits until the table is what etcd lists.
    pub(crate) async fn agrees_with(&self, etcd: &Etcd) {
        wait_until("agreement of table and list", SOON, || async {
            let Ok(listed) = etcd.snapshot().await else { return false };
            let seen = self.seen();
            listed.instances.iter().eq(seen.instances.values())
                && listed.overrides == seen.overrides
                && listed.policies == seen.policies
        })
        .await;
    }

    /// Waits until both ranges are watched.
    pub(crate) async fn is_connected(&self) {
        wait_until("the watch", SOON, || async { self.health.state().connected }).await;
    }

    /// Waits until everything was listed for this cause.
    pub(crate) async fn resynced(&self, cause: ResyncCause) {
        wait_until(&format!("a list because of {cause}"), SOON, || async { self.health.state().resyncs(cause) > 0 })
            .await;
    }

    /// How many resets of instances it has seen.
    pub(crate) fn resets(&self) -> usize {
        let seen = self.seen();
        let updates = seen.changes.iter().flat_map(|change| &change.updates);
        updates.filter(|update| matches!(update, Update::Reset(_))).count()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Seen ===

impl Seen {
    pub(crate) fn table(&self) -> Vec<String> {
        self.instances.values().map(|registered| format!("{} {}", registered.key, registered.instance)).collect()
    }

    fn apply(&mut self, change: Change) {
        let mut rules = self.rules_broken_by(&change);
        for update in &change.updates {
            rules.extend(self.rule_broken_by(update, change.cause));
            match update.clone() {
                Update::Reset(all) => {
                    self.instances = all.into_iter().map(|registered| (registered.key.clone(), registered)).collect();
                }
                Update::Add(registered) => {
                    self.instances.insert(registered.key.clone(), registered);
                }
                Update::Remove(key) => {
                    self.instances.remove(&key);
                }
            }
        }
        for update in &change.overrides {
            match update.clone() {
                OverrideUpdate::Reset(all) => self.overrides = all,
                OverrideUpdate::Set(key, status) => {
                    self.overrides.insert(key, status);
                }
                OverrideUpdate::Unset(key) => {
                    self.overrides.remove(&key);
                }
            }
        }
        for update in &change.policies {
            match update.clone() {
                PolicyUpdate::Reset(all) => self.policies = all,
                PolicyUpdate::Set(service, text) => {
                    self.policies.insert(service, text);
                }
                PolicyUpdate::Unset(service) => {
                    self.policies.remove(&service);
                }
            }
        }
        if !rules.is_empty() {
            self.broken = Some(format!("{rules:?} by {change:?}"));
        }
        self.changes.push(change);
    }

    /// The contract of [`Change`].
    fn rules_broken_by(&self, change: &Change) -> Vec<&'static str> {
        let mut rules = Vec::new();
        let first = self.changes.is_empty();
        if first && !matches!(change.updates.as_slice(), [Update::Reset(_)]) {
            rules.push("the first update is a reset");
        }
        let has_settings = !change.policies.is_empty() || !change.access_keys.is_empty();
        let is_empty = change.updates.is_empty() && change.overrides.is_empty() && !has_settings;
        if is_empty && change.unreadable.is_empty() {
            rules.push("a change changes something");
        }
        let before = self.changes.last().map_or(Revision::default(), |change| change.revision);
        if change.revision < before && change.cause != Some(ResyncCause::Wiped) {
            rules.push("revisions go up, but for a wiped cluster");
        }
        rules
    }

    /// The contract of [`Update`], which may undo what an update before it in the same change did: a watch that catches
    /// up gets many transactions at once.
    fn rule_broken_by(&self, update: &Update, cause: Option<ResyncCause>) -> Option<&'static str> {
        match update {
            Update::Remove(key) if !self.instances.contains_key(key) => Some("what is removed was there"),
            Update::Add(new) if self.instances.get(&new.key) == Some(new) => Some("nothing is said twice"),
            Update::Reset(_) if cause.is_none() => Some("a reset has a cause"),
            Update::Remove(_) | Update::Add(_) | Update::Reset(_) => None,
        }
    }
}
