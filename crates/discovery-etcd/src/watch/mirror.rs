//! What etcd is known to hold. Pure: lists and events go in, changes come out.

use std::collections::{BTreeMap, BTreeSet};

use discovery::{
    AccessKeyId, CONFIG_PREFIX, FieldError, InstanceKey, Override, Registered, Revision, ServiceName, Update,
};

use crate::{
    keys::{
        decode::{Entry, Range, Unreadable, instance_key, override_key, policy_key},
        snapshot::Snapshot,
    },
    watch::change::{AccessKeyUpdate, OverrideUpdate, PolicyUpdate},
};

/// A copy of all ranges, as of the last list or event.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    instances: BTreeMap<InstanceKey, Registered>,
    overrides: BTreeMap<InstanceKey, Override>,
    policies: BTreeMap<ServiceName, String>,
    access_keys: BTreeMap<AccessKeyId, String>,
    unreadable: BTreeMap<String, FieldError>,
    /// By range: everything up to here is in. The watchers run independently of each other.
    applied: [Revision; Range::ALL.len()],
    /// False until the first list.
    known: bool,
}

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Put(Entry),
    Delete { key: Vec<u8>, modified: i64 },
}

/// What a list or a watch response changed. Empty when it changed nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) updates: Vec<Update>,
    pub(crate) overrides: Vec<OverrideUpdate>,
    pub(crate) policies: Vec<PolicyUpdate>,
    pub(crate) access_keys: Vec<AccessKeyUpdate>,
    pub(crate) unreadable: Vec<Unreadable>,
}

/// Keys that changed while a list was compared, with the revision of their last change: the list may be older than
/// that.
pub(crate) type Touched = BTreeMap<(usize, Vec<u8>), i64>;

// === impl Mirror ===

impl Mirror {
    /// How many keys cannot be parsed.
    pub(crate) fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Becomes what a list found. The first list is a change in any case; then, identical data changes nothing.
    pub(crate) fn reset(&mut self, snapshot: Snapshot) -> Changes {
        let first = !std::mem::replace(&mut self.known, true);
        self.applied = [snapshot.revision; Range::ALL.len()];
        let mut changes = Changes::default();
        let instances: BTreeMap<_, _> =
            snapshot.instances.into_iter().map(|registered| (registered.key.clone(), registered)).collect();
        if first || self.instances != instances {
            changes.updates.push(Update::Reset(instances.values().cloned().collect()));
            self.instances = instances;
        }
        if first || self.overrides != snapshot.overrides {
            changes.overrides.push(OverrideUpdate::Reset(snapshot.overrides.clone()));
            self.overrides = snapshot.overrides;
        }
        if first || self.policies != snapshot.policies {
            changes.policies.push(PolicyUpdate::Reset(snapshot.policies.clone()));
            self.policies = snapshot.policies;
        }
        if first || self.access_keys != snapshot.access_keys {
            changes.access_keys.push(AccessKeyUpdate::Reset(snapshot.access_keys.clone()));
            self.access_keys = snapshot.access_keys;
        }
        let before = std::mem::take(&mut self.unreadable);
        for unreadable in snapshot.unreadable {
            self.unreadable.insert(unreadable.key.clone(), unreadable.reason.clone());
            if before.get(&unreadable.key) != Some(&unreadable.reason) {
                changes.unreadable.push(unreadable);
            }
        }
        changes
    }

    /// Applies the events of one watch response, in order. Those that are in already are skipped: etcd has been seen to
    /// repeat events after a partition (etcd issue 15271).
    pub(crate) fn apply(&mut self, range: Range, events: &[Event]) -> Changes {
        let applied = self.applied[range.index()];
        let mut changes = Changes::default();
        for event in events.iter().filter(|event| event.modified() > applied) {
            match range {
                Range::Instances => self.apply_instance(event, &mut changes),
                Range::Overrides => self.apply_override(event, &mut changes),
                Range::Policies => self.apply_policy(event, &mut changes),
            }
            let applied = &mut self.applied[range.index()];
            *applied = (*applied).max(event.modified());
        }
        changes
    }

    fn apply_instance(&mut self, event: &Event, changes: &mut Changes) {
        let name = event.name();
        match event.put(Entry::registered) {
            Some(Ok(registered)) => {
                self.unreadable.remove(&name);
                self.instances.insert(registered.key.clone(), registered.clone());
                changes.updates.push(Update::Add(registered));
            }
            nothing_or_unreadable => {
                // What can no longer be read can no longer be used.
                if let Ok(key) = instance_key(event.key())
                    && self.instances.remove(&key).is_some()
                {
                    changes.updates.push(Update::Remove(key));
                }
                self.note_unreadable(name, nothing_or_unreadable.and_then(Result::err), changes);
            }
        }
    }

    fn apply_override(&mut self, event: &Event, changes: &mut Changes) {
        let name = event.name();
        match event.put(Entry::overridden) {
            Some(Ok((key, order))) => {
                self.unreadable.remove(&name);
                if self.overrides.insert(key.clone(), order.clone()).as_ref() != Some(&order) {
                    changes.overrides.push(OverrideUpdate::Set(key, order));
                }
            }
            nothing_or_unreadable => {
                if let Ok(key) = override_key(event.key())
                    && self.overrides.remove(&key).is_some()
                {
                    changes.overrides.push(OverrideUpdate::Unset(key));
                }
                self.note_unreadable(name, nothing_or_unreadable.and_then(Result::err), changes);
            }
        }
    }

    fn apply_access_key(&mut self, id: AccessKeyId, event: &Event, changes: &mut Changes) {
        match event {
            Event::Put(entry) => {
                let text = String::from_utf8_lossy(&entry.value).into_owned();
                if self.access_keys.insert(id.clone(), text.clone()).as_ref() != Some(&text) {
                    changes.access_keys.push(AccessKeyUpdate::Set(id, text));
                }
            }
            Event::Delete { .. } => {
                if self.access_keys.remove(&id).is_some() {
                    changes.access_keys.push(AccessKeyUpdate::Unset(id));
                }
            }
        }
    }

    fn apply_policy(&mut self, event: &Event, changes: &mut Changes) {
        if let Some(id) = AccessKeyId::of_key(event.key()) {
            return self.apply_access_key(id, event, changes);
        }
        let Some(service) = policy_key(event.key()) else { return };
        match event {
            Event::Put(entry) => {
                let text = String::from_utf8_lossy(&entry.value).into_owned();
                if self.policies.insert(service.clone(), text.clone()).as_ref() != Some(&text) {
                    changes.policies.push(PolicyUpdate::Set(service, text));
                }
            }
            Event::Delete { .. } => {
                if self.policies.remove(&service).is_some() {
                    changes.policies.push(PolicyUpdate::Unset(service));
                }
            }
        }
    }

    fn note_unreadable(&mut self, name: String, now: Option<Unreadable>, changes: &mut Changes) {
        let before = self.unreadable.remove(&name);
        if let Some(unreadable) = now {
            if before.as_ref() != Some(&unreadable.reason) {
                changes.unreadable.push(unreadable.clone());
            }
            self.unreadable.insert(name, unreadable.reason);
        }
    }

    /// How many keys a complete list has otherwise than we do, leaving out those touched after it was made.
    pub(crate) fn differences(&self, snapshot: &Snapshot, touched: &Touched) -> usize {
        let untouched = |range: Range, key: String| !touched.contains_key(&(range.index(), key.into_bytes()));
        let listed: BTreeMap<_, _> =
            snapshot.instances.iter().map(|registered| (&registered.key, registered)).collect();
        let instances: BTreeSet<_> = listed.keys().copied().chain(self.instances.keys()).collect();
        let overrides: BTreeSet<_> = snapshot.overrides.keys().chain(self.overrides.keys()).collect();
        let wrong_instances = instances.into_iter().filter(|key| {
            untouched(Range::Instances, key.key()) && listed.get(*key).copied() != self.instances.get(*key)
        });
        let wrong_overrides = overrides
            .into_iter()
            .filter(|key| untouched(Range::Overrides, key.override_key()))
            .filter(|key| snapshot.overrides.get(*key) != self.overrides.get(*key));
        let policies: BTreeSet<_> = snapshot.policies.keys().chain(self.policies.keys()).collect();
        let wrong_policies = policies
            .into_iter()
            .filter(|service| untouched(Range::Policies, service.config_key()))
            .filter(|service| snapshot.policies.get(*service) != self.policies.get(*service));
        let access_keys: BTreeSet<_> = snapshot.access_keys.keys().chain(self.access_keys.keys()).collect();
        let wrong_access_keys = access_keys
            .into_iter()
            .filter(|id| untouched(Range::Policies, etcd_key(id)))
            .filter(|id| snapshot.access_keys.get(*id) != self.access_keys.get(*id));
        let wrong_settings = wrong_policies.count() + wrong_access_keys.count();
        wrong_instances.count() + wrong_overrides.count() + wrong_settings
    }

    /// Becomes what the list found, but for the keys touched after it was made.
    pub(crate) fn adopt(&mut self, mut snapshot: Snapshot, touched: &Touched) -> Changes {
        let is_touched = |range: Range, key: String| touched.contains_key(&(range.index(), key.into_bytes()));
        snapshot.instances.retain(|registered| !is_touched(Range::Instances, registered.key.key()));
        snapshot.overrides.retain(|key, _| !is_touched(Range::Overrides, key.override_key()));
        snapshot.policies.retain(|service, _| !is_touched(Range::Policies, service.config_key()));
        snapshot.access_keys.retain(|id, _| !is_touched(Range::Policies, etcd_key(id)));
        let newer = self.instances.values().filter(|registered| is_touched(Range::Instances, registered.key.key()));
        snapshot.instances.extend(newer.cloned());
        let newer = self.overrides.iter().filter(|(key, _)| is_touched(Range::Overrides, key.override_key()));
        snapshot.overrides.extend(newer.map(|(key, order)| (key.clone(), order.clone())));
        let newer = self.policies.iter().filter(|(service, _)| is_touched(Range::Policies, service.config_key()));
        snapshot.policies.extend(newer.map(|(service, text)| (service.clone(), text.clone())));
        let newer = self.access_keys.iter().filter(|(id, _)| is_touched(Range::Policies, etcd_key(id)));
        snapshot.access_keys.extend(newer.map(|(id, text)| (id.clone(), text.clone())));
        let applied = self.applied.map(|applied| applied.max(snapshot.revision));
        let changes = self.reset(snapshot);
        self.applied = applied;
        changes
    }
}

// === impl Event ===

impl Event {
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    pub(crate) fn modified(&self) -> Revision {
        match self {
            Self::Put(entry) => Revision(entry.modified),
            Self::Delete { modified, .. } => Revision(*modified),
        }
    }

    fn name(&self) -> String {
        String::from_utf8_lossy(self.key()).into_owned()
    }

    fn put<T>(&self, read: impl Fn(&Entry) -> Result<T, Unreadable>) -> Option<Result<T, Unreadable>> {
        match self {
            Self::Put(entry) => Some(read(entry)),
            Self::Delete { .. } => None,
        }
    }
}

// === impl Changes ===

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        let has_settings = !self.policies.is_empty() || !self.access_keys.is_empty();
        self.updates.is_empty() && self.overrides.is_empty() && !has_settings && self.unreadable.is_empty()
    }

    /// Whether they come from a list.
    pub(crate) fn has_reset(&self) -> bool {
        self.updates.iter().any(|update| matches!(update, Update::Reset(_)))
            || self.overrides.iter().any(|update| matches!(update, OverrideUpdate::Reset(_)))
            || self.policies.iter().any(|update| matches!(update, PolicyUpdate::Reset(_)))
            || self.access_keys.iter().any(|update| matches!(update, AccessKeyUpdate::Reset(_)))
    }
}

fn etcd_key(id: &AccessKeyId) -> String {
    format!("{CONFIG_PREFIX}{}", id.setting())
}

/// Remembers that `event` touched its key.
pub(crate) fn touch_event(touched: &mut Touched, range: Range, event: &Event) {
    touched.insert((range.index(), event.key().to_vec()), event.modified().0);
}

#[cfg(test)]
mod tests;
