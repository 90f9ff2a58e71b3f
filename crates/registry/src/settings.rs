//! The config centre: settings below `config/`, read and written with their revisions, and waited for.
//!
//! Who reads one asks etcd, linearizably: settings are read seldom, and what is read is what the next writer compares
//! with. Who waits for a change is answered from a mirror that one watch feeds, so that a thousand who wait for the same
//! setting cost etcd nothing when it changes.
//!
//! `config/<service>` is the gateway's policy for a service, and is written only if it is free of mistakes
//! ([`discovery::policy`]); so is `config/key/<id>`, an API key of the gateway's clients. What is in any other setting
//! only its readers interpret.
//!
//! What is written in a minute is metered ([`crate::admission::writes`]), and what is there has a bound, of each service and in all:
//! settings do not expire.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use discovery::{AccessKey, AccessKeyId, FieldError, Revision, SettingKey, policy::PolicyDocument};
use discovery_etcd::{Etcd, EtcdError, Expected, Setting, SettingsChange, Write};
use tokio::time::{Instant, timeout_at};

use crate::{
    admission::{Admission, Denied, bound::Bound, options::WriteOptions, writes::Kind},
    concurrency_limit::ConcurrencyLimit,
    error::RegistryError,
    mirror::{ChangeNotifier, Topic},
};

/// The longest value, in bytes; also that of a policy.
pub const VALUE_MAX_BYTES: usize = PolicyDocument::MAX_BYTES;

/// How many earlier values [`Settings::history`] looks for at most.
pub const HISTORY_MAX: usize = 32;

/// A mirror that has heard nothing for longer than this is not believed. It hears something about every 5 s.
const FRESH_MAX: Duration = Duration::from_secs(12);

/// Reads, writes and waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Settings {
    etcd: Etcd,
    concurrency: ConcurrencyLimit,
    notifier: ChangeNotifier,
    admission: Admission,
    limits: Limits,
    state: Arc<RwLock<State>>,
}

/// How much of etcd settings may take, in bytes of keys and values.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Those of one service.
    service_bytes_max: u64,
    /// All together.
    bytes_max: u64,
}

/// What is known of all settings.
#[derive(Debug, Default)]
struct State {
    settings: BTreeMap<SettingKey, Setting>,
    /// The index of every setting that is not there; raised by every deletion.
    floor: Revision,
    /// Everything up to here is known.
    revision: Revision,
    /// When etcd last said anything.
    heard: Option<Instant>,
}

/// A setting as it is, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The setting.
    pub setting: Option<Setting>,
    /// What to wait for a change from: the revision of its last event.
    pub index: Revision,
    /// Up to where etcd's history is known to who says this. It goes backwards only when etcd has lost its history.
    pub revision: Revision,
}

/// One value that a setting had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Past {
    /// When it was written.
    pub revision: i64,
    /// Which value it was, counted from when the setting came into being.
    pub version: i64,
    /// The value.
    pub value: String,
}

/// What is left of a setting's past.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct History {
    /// The latest first.
    pub history: Vec<Past>,
    /// Whether it reaches back to when the setting came into being. etcd keeps what was not compacted.
    pub complete: bool,
}

// === impl Settings ===

impl Settings {
    /// Empty; [`Settings::follow`] fills it.
    pub fn new(
        etcd: Etcd,
        concurrency: ConcurrencyLimit,
        notifier: ChangeNotifier,
        admission: Admission,
        options: &WriteOptions,
    ) -> Self {
        let limits =
            Limits { service_bytes_max: options.service_settings_bytes_max, bytes_max: options.settings_bytes_max };
        Self { etcd, concurrency, notifier, admission, limits, state: Arc::default() }
    }

    /// Keeps the mirror up to date for as long as it is polled.
    pub async fn follow(&self) -> Infallible {
        self.etcd.follow_settings(|change| self.apply(change)).await
    }

    /// One setting as it is now.
    ///
    /// # Errors
    ///
    /// etcd cannot be read; see [`crate::concurrency_limit::ConcurrencyLimit::run`].
    pub async fn read(&self, key: SettingKey) -> Result<Found, RegistryError> {
        let etcd = self.etcd.clone();
        let work = move |until| async move { etcd.until(until).setting(&key, None).await.map_err(not_read) };
        let (revision, setting) = self.concurrency.run(work).await?;
        let index = setting.as_ref().map_or(revision, |setting| setting.modified);
        Ok(Found { setting, index, revision })
    }

    /// Writes a setting if it is as expected.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Invalid`] for a policy with a mistake, [`RegistryError::Denied`] for more than may be written; else as
    /// [`Settings::read`].
    pub async fn write(&self, key: SettingKey, value: String, expected: Expected) -> Result<Write, RegistryError> {
        check(&key, &value)?;
        let etcd = self.etcd.clone();
        let this = self.clone();
        let work = move |until| async move {
            this.check_room(&key, &value)?;
            let path = key.key();
            let bytes = path.len() + value.len();
            let reserved = this.admission.reserve_key(Kind::Settings, path, bytes)?;
            let write = etcd.until(until).put_setting(&key, &value, expected).await;
            let write = write.map_err(|source| RegistryError::Etcd { operation: "write the setting", source })?;
            if let Write::Done(Some(revision)) = write {
                reserved.done();
                tracing::info!(%key, %revision, bytes = value.len(), "setting written");
            }
            Ok(write)
        };
        self.concurrency.run(work).await
    }

    /// Deletes a setting if it is as expected.
    ///
    /// # Errors
    ///
    /// As [`Settings::read`].
    pub async fn delete(&self, key: SettingKey, expected: Expected) -> Result<Write, RegistryError> {
        let etcd = self.etcd.clone();
        let work = move |until| async move {
            let write = etcd.until(until).delete_setting(&key, expected).await;
            let write = write.map_err(|source| RegistryError::Etcd { operation: "delete the setting", source })?;
            if let Write::Done(Some(revision)) = write {
                tracing::info!(%key, %revision, "setting deleted");
            }
            Ok(write)
        };
        self.concurrency.run(work).await
    }

    /// The values that a setting had up to `at` (default: now), as far as etcd keeps them, back to when it came into
    /// being or to [`HISTORY_MAX`].
    ///
    /// # Errors
    ///
    /// As [`Settings::read`].
    pub async fn history(&self, key: SettingKey, at: Option<Revision>) -> Result<History, RegistryError> {
        let etcd = self.etcd.clone();
        self.concurrency.run(move |until| async move { walk_back(&etcd.until(until), &key, at).await }).await
    }

    /// Every setting with the revision of its last write, and the revision up to which that is known.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotLoaded`], [`RegistryError::Stale`].
    pub fn list(&self) -> Result<(Revision, Vec<(SettingKey, Revision)>), RegistryError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.check_fresh()?;
        Ok((state.revision, state.settings.iter().map(|(key, setting)| (key.clone(), setting.modified)).collect()))
    }

    /// Waits until the setting is not as it was at `seen`, at most until `until`; then says how it is.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotLoaded`], [`RegistryError::Stale`].
    pub async fn wait(&self, key: &SettingKey, seen: Revision, until: Instant) -> Result<Found, RegistryError> {
        let mut subscription = self.notifier.subscribe(Topic::Setting(key.clone()));
        loop {
            {
                let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                state.check_fresh()?;
                let index = state.index(key);
                if seen < index || seen > index.max(state.revision) || Instant::now() >= until {
                    let setting = state.settings.get(key).cloned();
                    return Ok(Found { setting, index, revision: state.revision });
                }
            }
            // That the time is over is seen above.
            let _ = timeout_at(until, subscription.changed()).await;
        }
    }

    /// Whether what is in etcd may grow by this, as far as is known.
    fn check_room(&self, key: &SettingKey, value: &str) -> Result<(), Denied> {
        let (of_service, all) = self.state.read().unwrap_or_else(PoisonError::into_inner).bytes_beside(key);
        let bytes = size(key, value);
        let denied = if of_service + bytes > self.limits.service_bytes_max {
            let whose = format!("the settings of {}", service(key));
            Denied::Stored { whose, bound: Bound::ServiceSettingsBytes, max_bytes: self.limits.service_bytes_max }
        } else if all + bytes > self.limits.bytes_max {
            let whose = "all settings together".to_owned();
            Denied::Stored { whose, bound: Bound::SettingsBytes, max_bytes: self.limits.bytes_max }
        } else {
            return Ok(());
        };
        self.admission.count(&denied);
        Err(denied)
    }

    fn apply(&self, change: SettingsChange) {
        let touched = self.state.write().unwrap_or_else(PoisonError::into_inner).apply(change, Instant::now());
        self.notifier.notify(touched.into_iter().map(Topic::Setting));
    }
}

// === impl State ===

impl State {
    /// Takes in a change; says which settings are not as before.
    fn apply(&mut self, change: SettingsChange, now: Instant) -> Vec<SettingKey> {
        self.heard = Some(now);
        match change {
            SettingsChange::Listed(revision, settings) => self.list(revision, settings.into_iter().collect()),
            SettingsChange::Changed(revision, changed) => {
                self.revision = self.revision.max(revision);
                let keys = changed.iter().map(|(key, _)| key.clone()).collect();
                for (key, setting) in changed {
                    match setting {
                        Some(setting) => drop(self.settings.insert(key, setting)),
                        None => {
                            self.settings.remove(&key);
                            self.floor = self.floor.max(revision);
                        }
                    }
                }
                keys
            }
        }
    }

    fn list(&mut self, revision: Revision, settings: BTreeMap<SettingKey, Setting>) -> Vec<SettingKey> {
        let is_new_history = revision < self.revision || self.floor == Revision::default();
        let before = std::mem::replace(&mut self.settings, settings);
        let changed = |key: &&SettingKey| before.get(*key) != self.settings.get(*key);
        let mut keys: Vec<SettingKey> = before.keys().chain(self.settings.keys()).filter(changed).cloned().collect();
        keys.dedup();
        if is_new_history || before.keys().any(|key| !self.settings.contains_key(key)) {
            self.floor = revision;
        }
        self.revision = revision;
        keys
    }

    /// What the other settings of the same service take in etcd, and all others.
    fn bytes_beside(&self, key: &SettingKey) -> (u64, u64) {
        let mut of_service = 0;
        let mut all = 0;
        for (other, setting) in self.settings.iter().filter(|(other, _)| *other != key) {
            let bytes = size(other, &setting.value);
            all += bytes;
            of_service += if service(other) == service(key) { bytes } else { 0 };
        }
        (of_service, all)
    }

    /// The revision of the setting's last event.
    fn index(&self, key: &SettingKey) -> Revision {
        self.settings.get(key).map_or(self.floor, |setting| setting.modified)
    }

    fn check_fresh(&self) -> Result<(), RegistryError> {
        match self.heard.map(|heard| heard.elapsed()) {
            None => Err(RegistryError::NotLoaded),
            Some(silence) if silence > FRESH_MAX => Err(RegistryError::Stale(silence)),
            Some(_) => Ok(()),
        }
    }
}

/// The service that a setting belongs to: whose scope it takes to write it.
fn service(key: &SettingKey) -> &str {
    key.as_str().split('/').next().unwrap_or_default()
}

/// What a setting takes in etcd, in bytes.
fn size(key: &SettingKey, value: &str) -> u64 {
    u64::try_from(key.key().len() + value.len()).unwrap_or(u64::MAX)
}

/// What may be written: text of bounded length; a policy that has no mistakes.
fn check(key: &SettingKey, value: &str) -> Result<(), RegistryError> {
    if value.len() > VALUE_MAX_BYTES {
        let reason = format!("has {} bytes; {VALUE_MAX_BYTES} are allowed", value.len());
        return Err(RegistryError::Invalid(FieldError::new("value", reason)));
    }
    if key.policy_of().is_some() {
        PolicyDocument::parse(value.as_bytes()).map_err(RegistryError::Invalid)?;
    }
    if AccessKeyId::of_setting(key.as_str()).is_some() {
        AccessKey::parse(value).map_err(RegistryError::Invalid)?;
    }
    Ok(())
}

async fn walk_back(etcd: &Etcd, key: &SettingKey, mut at: Option<Revision>) -> Result<History, RegistryError> {
    let mut history = Vec::new();
    loop {
        let setting = match etcd.setting(key, at).await {
            Ok((_, setting)) => setting,
            Err(error) if error.is_compacted() => return Ok(History { history, complete: false }),
            Err(error) => return Err(not_read(error)),
        };
        let Some(Setting { value, modified, version, .. }) = setting else {
            return Ok(History { history, complete: true });
        };
        history.push(Past { revision: modified.0, version, value });
        if version == 1 || history.len() >= HISTORY_MAX {
            return Ok(History { history, complete: version == 1 });
        }
        at = Some(Revision(modified.0 - 1));
    }
}

fn not_read(source: EtcdError) -> RegistryError {
    RegistryError::Etcd { operation: "read the setting", source }
}

#[cfg(test)]
mod tests;
