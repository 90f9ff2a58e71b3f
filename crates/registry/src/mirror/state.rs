//! What is known about `service/` and `override/`, as one value.
//!
//! Pure: changes go in ([`MirrorState::apply`]), answers come out. Who feeds it, and how old it may be, is the business of
//! [`crate::mirror`]; what readers get, and what an index is, that of [`crate::catalog`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use discovery::{
    Instance, InstanceId, InstanceKey, LeaseId, OtherHolder, Override, Registered, Revision, ServiceName, Status,
    Update,
};
use discovery_etcd::{Change, Held, OverrideUpdate};

use crate::mirror::{Entry, Record, Rendered, ServiceView, Since, Tombstone, Topic, pending_commits::PendingCommits};

/// All instances and overrides at one revision, and what this replica has committed since.
#[derive(Debug, Default)]
pub struct MirrorState {
    revision: Revision,
    instances: BTreeMap<InstanceKey, Arc<Entry>>,
    overrides: BTreeMap<InstanceKey, Override>,
    /// Who else claims an instance id, as far as this replica hears it.
    contested: BTreeMap<InstanceKey, OtherHolder>,
    commits: PendingCommits,
    /// What is remembered of each service: of those with instances, and of those with dead.
    services: BTreeMap<ServiceName, Record>,
    /// The index of every service that is not remembered; 0 until the first list.
    floor: Revision,
    /// The index of [`Topic::Services`].
    services_index: Revision,
    /// Counts the changes, so that all of one change makes one index.
    step: u64,
}

/// Whom to notify after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// These services.
    pub services: BTreeSet<ServiceName>,
    /// Those who wait for [`Topic::Services`].
    pub list: bool,
    /// Every subscriber: another history has begun.
    pub all: bool,
    /// Instances whose keys were deleted without having been marked as draining, as they were: expired, or worse. Not those that a list no
    /// longer has, which may have said it meanwhile.
    pub vanished: Vec<Arc<Entry>>,
}

/// [`Held`], without owning it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    /// What the key says; `None` when that cannot be parsed.
    pub instance: Option<&'a Instance>,
    /// The lease that it lives by; `None` for a key without a lease.
    pub lease: Option<LeaseId>,
    /// When it was last written.
    pub modified: Revision,
}

// === impl MirrorState ===

impl MirrorState {
    /// Takes in one change, that is everything that one etcd transaction or one list brought, at the time `now`.
    pub fn apply(&mut self, change: Change, now: SystemTime) -> Touched {
        let all = self.advance(change.revision);
        let touched = Touched { all, ..Touched::default() };
        let mut step = Step { touched, revision: change.revision, now, is_listing: false };
        for update in change.updates {
            match update {
                Update::Reset(all) => {
                    step.is_listing = true;
                    self.reset(all, &mut step);
                    step.is_listing = false;
                }
                Update::Add(one) => {
                    let revision = one.modified;
                    self.put(one, revision, &mut step);
                }
                Update::Remove(key) => {
                    let entry = self.remove(&key, &mut step);
                    let is_silent = |entry: &Arc<Entry>| entry.registered.instance.status != Status::Draining;
                    step.touched.vanished.extend(entry.filter(is_silent));
                }
            }
        }
        for update in change.overrides {
            match update {
                OverrideUpdate::Reset(all) => self.reset_overrides(&all, &mut step),
                OverrideUpdate::Set(key, order) => self.set_override(&key, Some(order), &mut step),
                OverrideUpdate::Unset(key) => self.set_override(&key, None, &mut step),
            }
        }
        step.touched
    }

    /// Everything up to `revision` is known now, even if nothing of it was about us. True when another history has begun.
    pub fn advance(&mut self, revision: Revision) -> bool {
        self.step += 1;
        let restarted = revision < self.revision || !self.is_loaded();
        if restarted {
            self.restart(revision);
        }
        self.revision = revision;
        self.commits.settle(revision);
        restarted
    }

    /// The first list; or etcd was wiped, and revisions of the old history say nothing about the new one.
    fn restart(&mut self, revision: Revision) {
        self.commits.clear();
        (self.floor, self.services_index) = (revision, revision);
        self.services.values_mut().for_each(|record| record.restart(revision, self.step));
        self.instances.values_mut().for_each(|entry| Arc::make_mut(entry).changed = revision);
    }

    /// Drops expired tombstones.
    pub fn expire(&mut self, now: SystemTime) {
        let floor = &mut self.floor;
        self.services.retain(|_, record| {
            record.expire(now);
            if record.is_empty() {
                *floor = record.index.max(*floor);
            }
            !record.is_empty()
        });
    }

    /// Notes what this replica has committed; see [`PendingCommits`].
    pub fn commit(&mut self, key: InstanceKey, revision: Revision, held: Option<Held>) {
        self.commits.commit(key, revision, held, self.revision);
    }

    /// Whether there has been a first list. Without it, no instance is known, which does not mean that there is none.
    pub fn is_loaded(&self) -> bool {
        self.floor > Revision::default()
    }

    /// The revision up to which everything is known.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision of the topic's last event.
    pub fn index(&self, topic: &Topic) -> Revision {
        match topic {
            Topic::Services => self.services_index,
            Topic::Service(name) => self.services.get(name).map_or(self.floor, |record| record.index),
            // Settings are not the view's; what it does not know has this index.
            Topic::Setting(_) => self.floor,
        }
    }

    /// Whether the topic is not as it was at `seen`, or `seen` is of a history that we do not know.
    pub fn is_news(&self, topic: &Topic, seen: Revision) -> bool {
        let index = self.index(topic);
        seen < index || seen > index.max(self.revision)
    }

    /// How etcd holds the instance, by the later of the mirror's word and this replica's own last commit.
    pub fn held(&self, key: &InstanceKey) -> Option<Held> {
        self.seen(key).map(Seen::to_held)
    }

    /// The same, to look at.
    pub fn seen(&self, key: &InstanceKey) -> Option<Seen<'_>> {
        match self.commits.get(key) {
            Some(committed) => committed.map(Seen::of_commit),
            None => self.instances.get(key).map(|entry| Seen::of_mirror(&entry.registered)),
        }
    }

    /// What an operator said about the instance, if that is about the life with this lease.
    pub fn overridden(&self, key: &InstanceKey, lease: Option<LeaseId>) -> Option<Status> {
        self.order(key, lease).map(|order| order.status)
    }

    /// Everything that operators say, also about lives that have ended.
    pub fn overrides(&self) -> impl Iterator<Item = (&InstanceKey, &Override)> {
        self.overrides.iter()
    }

    /// Who else claims the instance's id.
    pub fn other_holder(&self, key: &InstanceKey) -> Option<&OtherHolder> {
        self.contested.get(key)
    }

    /// From now on, `other` is known to claim the instance's id, too; or none is any more.
    pub fn contest(&mut self, key: &InstanceKey, other: Option<&OtherHolder>) -> Touched {
        let now = SystemTime::UNIX_EPOCH;
        let mut step = Step { touched: Touched::default(), revision: self.revision, now, is_listing: false };
        self.step += 1;
        match other {
            Some(other) => drop(self.contested.insert(key.clone(), other.clone())),
            None => drop(self.contested.remove(key)),
        }
        let other = other.cloned();
        self.change_entry(key, &mut step, |entry| std::mem::replace(&mut entry.other_holder, other.clone()) != other);
        step.touched
    }

    fn order(&self, key: &InstanceKey, lease: Option<LeaseId>) -> Option<&Override> {
        self.overrides.get(key).filter(|order| order.applies_to(lease))
    }

    /// Everything about one service; `None` when nothing is known of it.
    pub fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        let (name, record) = self.services.get_key_value(name)?;
        Some(self.view(name, record))
    }

    /// Every service of which something is known, in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = Arc<ServiceView>> {
        self.services.iter().map(|(name, record)| self.view(name, record))
    }

    /// The instances of one service.
    pub fn of_service<'view>(&'view self, service: &ServiceName) -> impl Iterator<Item = &'view Arc<Entry>> {
        // The nameless instance is the first of its service, because nothing sorts before something.
        self.instances
            .range(InstanceKey::nameless(service.clone())..)
            .take_while(move |(key, _)| key.service == *service)
            .map(|(_, entry)| entry)
    }

    /// Every instance of any service with this id, our own commits included. Looks at all of them.
    pub fn with_id(&self, id: &InstanceId) -> Vec<InstanceKey> {
        let is_wanted = |key: &&InstanceKey| key.instance.as_ref() == Some(id);
        let known: BTreeSet<&InstanceKey> =
            self.instances.keys().chain(self.commits.keys()).filter(is_wanted).collect();
        known.into_iter().filter(|key| self.seen(key).is_some()).cloned().collect()
    }

    /// Every instance of any service with this entry of `meta`, our own commits included. Looks at all of them.
    pub fn with_meta(&self, name: &str, value: &str) -> Vec<InstanceKey> {
        let has = |instance: &Instance| instance.meta.get(name).is_some_and(|own| own == value);
        let shown = self.instances.iter().filter(|(_, entry)| has(&entry.registered.instance)).map(|(key, _)| key);
        let all: BTreeSet<&InstanceKey> = shown.chain(self.commits.keys()).collect();
        let is_held = |key: &InstanceKey| self.seen(key).and_then(|seen| seen.instance).is_some_and(has);
        all.into_iter().filter(|key| is_held(key)).cloned().collect()
    }

    /// How many of this replica's own commits are not shown yet.
    pub fn unsettled(&self) -> usize {
        self.commits.count()
    }

    /// How many instances a service has.
    pub fn count_of(&self, service: &ServiceName) -> usize {
        self.services.get(service).map_or(0, |record| record.count)
    }

    /// What the keys and values of a service's instances take in etcd, in bytes.
    pub fn bytes_of(&self, service: &ServiceName) -> u64 {
        self.services.get(service).map_or(0, |record| record.bytes)
    }

    /// What an instance's key and value take in etcd, in bytes; 0 if there is none.
    pub fn bytes_of_instance(&self, key: &InstanceKey) -> u64 {
        self.instances.get(key).map_or(0, |entry| bytes(&entry.registered))
    }

    /// What all keys and values of instances take in etcd, in bytes.
    pub fn bytes(&self) -> u64 {
        self.services.values().map(|record| record.bytes).sum()
    }

    /// How many instances there are.
    pub fn count(&self) -> usize {
        self.instances.len()
    }

    fn view(&self, name: &ServiceName, record: &Record) -> Arc<ServiceView> {
        let build = || ServiceView {
            name: name.clone(),
            index: record.index,
            instances: self.of_service(name).cloned().collect(),
            tombstones: record.tombstones.iter().cloned().collect(),
            complete_since: record.complete_since,
        };
        Arc::clone(record.view.get_or_init(|| Arc::new(build())))
    }

    fn reset(&mut self, all: Vec<Registered>, step: &mut Step) {
        let listed: BTreeSet<&InstanceKey> = all.iter().map(|one| &one.key).collect();
        let gone: Vec<InstanceKey> = self.instances.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in &gone {
            self.remove(key, step);
        }
        for one in all {
            if self.instances.get(&one.key).is_none_or(|entry| entry.registered != one) {
                self.put(one, step.revision, step);
            }
        }
    }

    fn put(&mut self, registered: Registered, revision: Revision, step: &mut Step) {
        let key = registered.key.clone();
        let overridden = self.order(&key, registered.lease).cloned();
        let other_holder = self.contested.get(&key).cloned();
        let since = self.since(&registered, step);
        let found = if self.floor == step.revision { self.step } else { 0 };
        let record = self.services.entry(key.service.clone()).or_insert_with(|| Record::new(self.floor, found));
        let changed = record.touch(revision, self.step);
        record.tombstones.remove(key.instance.as_ref());
        let entry = Arc::new(Entry { registered, overridden, other_holder, changed, json: Rendered::default(), since });
        let before = self.instances.insert(key.clone(), Arc::clone(&entry));
        record.count += usize::from(before.is_none());
        record.bytes += bytes(&entry.registered);
        record.bytes -= before.as_ref().map_or(0, |before| bytes(&before.registered));
        let no_tags = BTreeSet::new();
        let tags_before = before.as_ref().map_or(&no_tags, |before| &before.registered.instance.tags);
        let is_first = before.is_none() && record.count == 1;
        self.touched(key.service, is_first || *tags_before != entry.registered.instance.tags, step);
    }

    /// Since when it has been registered: a registration that is known goes on, whatever it says now.
    fn since(&self, registered: &Registered, step: &Step) -> Since {
        let known = self.instances.get(&registered.key).filter(|entry| entry.is_same_life(registered));
        known.map_or(Since { at: step.now, from_start: step.is_listing }, |entry| entry.since)
    }

    fn remove(&mut self, key: &InstanceKey, step: &mut Step) -> Option<Arc<Entry>> {
        let entry = self.instances.remove(key)?;
        let record = self.services.get_mut(&key.service)?;
        let revision = record.touch(step.revision, self.step);
        record.count -= 1;
        record.bytes -= bytes(&entry.registered);
        record.add_tombstone(Tombstone {
            id: key.instance.clone(),
            address: entry.registered.instance.address.clone(),
            cause: entry.cause_of_end(),
            at: step.now,
            revision,
        });
        let is_last = record.count == 0;
        self.touched(key.service.clone(), is_last || !entry.registered.instance.tags.is_empty(), step);
        Some(entry)
    }

    fn reset_overrides(&mut self, all: &BTreeMap<InstanceKey, Override>, step: &mut Step) {
        let keys: BTreeSet<InstanceKey> = self.overrides.keys().chain(all.keys()).cloned().collect();
        for key in keys {
            let order = all.get(&key).cloned();
            self.set_override(&key, order, step);
        }
    }

    fn set_override(&mut self, key: &InstanceKey, order: Option<Override>, step: &mut Step) {
        match &order {
            Some(order) => drop(self.overrides.insert(key.clone(), order.clone())),
            None => drop(self.overrides.remove(key)),
        }
        self.change_entry(key, step, |entry| {
            let now = order.filter(|order| order.applies_to(entry.registered.lease));
            std::mem::replace(&mut entry.overridden, now.clone()) != now
        });
    }

    /// Changes what is known beside an instance; `change` says whether it did.
    fn change_entry(&mut self, key: &InstanceKey, step: &mut Step, change: impl FnOnce(&mut Entry) -> bool) {
        let Some(entry) = self.instances.get_mut(key) else { return };
        let Some(record) = self.services.get_mut(&key.service) else { return };
        let mut changed = Entry::clone(entry);
        if change(&mut changed) {
            changed.changed = record.touch(step.revision, self.step);
            changed.json = Rendered::default();
            *entry = Arc::new(changed);
            self.touched(key.service.clone(), false, step);
        }
    }

    fn touched(&mut self, service: ServiceName, list: bool, step: &mut Step) {
        if list && !step.touched.list && !step.touched.all {
            self.services_index = step.revision.max(self.services_index.next());
        }
        step.touched.list |= list;
        step.touched.services.insert(service);
    }
}

/// What one change is about, besides its updates.
struct Step {
    touched: Touched,
    revision: Revision,
    now: SystemTime,
    /// Everything is listed: what is new to us may have been there for long.
    is_listing: bool,
}

/// What an instance's key and value take in etcd, in bytes; those in other dialects are not counted.
pub fn bytes_in_etcd(key: &InstanceKey, instance: &Instance) -> u64 {
    u64::try_from(key.key().len() + instance.to_string().len()).unwrap_or(u64::MAX)
}

fn bytes(registered: &Registered) -> u64 {
    bytes_in_etcd(&registered.key, &registered.instance)
}

// === impl Seen ===

impl<'a> Seen<'a> {
    fn of_commit(Held { instance, lease, modified }: &'a Held) -> Self {
        Self { instance: instance.as_ref(), lease: *lease, modified: *modified }
    }

    fn of_mirror(Registered { instance, lease, modified, .. }: &'a Registered) -> Self {
        Self { instance: Some(instance), lease: *lease, modified: *modified }
    }

    fn to_held(self) -> Held {
        Held { instance: self.instance.cloned(), lease: self.lease, modified: self.modified }
    }
}

#[cfg(test)]
mod tests;
