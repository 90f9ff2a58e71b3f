//! Everything that is known about the instances, and the routing table that follows from it.
//!
//! This is [`crate::discovery::watcher`]'s notebook: a plain value that updates are applied to, without I/O, with the time passed
//! in. An instance is in one of these places:
//!
//! | place | how it gets there | how it leaves |
//! |---|---|---|
//! | registered, in rotation | its key is in etcd | |
//! | registered, withheld | it or an operator says `draining` or `critical`, or its address or scheme is unusable | that changes |
//! | last resort | its lease expired: it died, or the registries or etcd did | it registers again; it refuses a connection; its time is over |
//! | kept in rotation | the same, together with many others (`vanishing`): for ten seconds; then last resort | the same |
//! | gone | it said `draining` before, had no lease, or left the last resort | it registers again |
//!
//! Only what differs is made: of the services that an update touched, of a large one only the instances that it touched. All
//! else is shared with the old table, so that a change costs the change, however much is registered.

mod access_keys;
mod build_service;
mod by_address;
mod make_table;
mod overrides;
mod policies;
mod saved;
mod touched;
mod vanishing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use discovery::{InstanceKey, LeaseId, Override, Registered, Revision, ServiceName, Update, policy::Policy};

use access_keys::AccessKeys;
use by_address::AddressIndex;
use policies::Policies;
pub use saved::{Known, Saved, SavedTombstone};
use touched::Touched;
use vanishing::Vanishing;

use crate::{
    access::jwt::key_set::KeySet,
    addresses::{AddressPolicy, Forbidden, Resolved},
    clock::Millis,
    instance::{
        candidate::{Candidate, InstanceState},
        named::Named,
        outlier::{HealthEpoch, Verdict},
    },
    table::{
        name_map::NameMap,
        routing_table::{Service, Source},
        tombstones::{Cause, Tombstone, Tombstones},
    },
};

/// See the [module](self).
#[derive(Debug)]
pub struct Instances {
    registered: BTreeMap<InstanceKey, Listed>,
    overrides: BTreeMap<InstanceKey, Override>,
    suspects: BTreeMap<InstanceKey, LastResort>,
    vanishing: Vanishing,
    /// Where the registered instances and the suspects stand.
    places: AddressIndex,
    suspected_places: AddressIndex,
    tombstones: Tombstones,
    policies: Policies,
    access_keys: AccessKeys,
    /// The gateway's own zone.
    zone: Option<String>,
    health_epoch: HealthEpoch,
    addresses: AddressPolicy,
    /// What was known about etcd's names when the addresses were judged.
    judged_by: Arc<Resolved>,
    /// How long an instance stays a last resort.
    last_resort: Duration,
    cores: usize,
    serials: u64,
    source: Source,
    revision: Revision,
    /// The services as last built, and what of them must be built again.
    built: NameMap<Arc<Service>>,
    key_sets: Arc<BTreeMap<ServiceName, Arc<KeySet>>>,
    touched: Touched,
    is_changed: bool,
    /// Grows with every change that is worth saving.
    version: u64,
    /// Grows with every change of what clients must show.
    rights_version: u64,
}

#[derive(Debug)]
struct Listed {
    registered: Registered,
    candidate: Arc<Candidate>,
}

/// An instance whose lease expired and that may be alive nevertheless.
#[derive(Debug)]
struct LastResort {
    candidate: Arc<Candidate>,
    /// By which it lived: what an operator said of that life holds on.
    lease: Option<LeaseId>,
    until: Millis,
    /// It vanished together with many others: it is used beside the registered ones until then.
    kept_until: Option<Millis>,
}

/// How long instances that vanished together with many others are used beside the registered ones: five heartbeats, as they
/// come by default. Instances that live have registered again by then, and the first one back does not get all requests.
const KEPT: Duration = Duration::from_secs(10);

// === impl Instances ===

impl Instances {
    /// Knows nothing yet. `cores` is the number of workers; `last_resort` how long an instance whose lease expired may
    /// still be used, zero for not at all.
    #[must_use]
    pub fn new(cores: usize, addresses: AddressPolicy, last_resort: Duration) -> Self {
        Self {
            registered: BTreeMap::new(),
            overrides: BTreeMap::new(),
            suspects: BTreeMap::new(),
            vanishing: Vanishing::default(),
            places: AddressIndex::default(),
            suspected_places: AddressIndex::default(),
            tombstones: Tombstones::default(),
            policies: Policies::default(),
            access_keys: AccessKeys::default(),
            version: 0,
            rights_version: 0,
            zone: None,
            health_epoch: HealthEpoch::default(),
            judged_by: addresses.resolved(),
            addresses,
            last_resort,
            cores,
            serials: 0,
            source: Source::Nothing,
            revision: Revision::default(),
            built: NameMap::default(),
            key_sets: Arc::default(),
            touched: Touched::default(),
            is_changed: false,
        }
    }

    /// Treats services by `policy`, as far as nothing else is said about them.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policies = Policies::new(policy);
        self
    }

    /// The gateway is in this zone.
    #[must_use]
    pub fn in_zone(mut self, zone: Option<String>) -> Self {
        self.zone = zone;
        self
    }

    /// What etcd said is true at this revision.
    pub fn at(&mut self, source: Source, revision: Revision) {
        self.is_changed |= (self.source, self.revision) != (source, revision);
        (self.source, self.revision) = (source, revision);
    }

    /// Applies one update.
    pub fn apply(&mut self, update: Update, now: Millis) {
        match update {
            Update::Reset(all) => {
                let kept: BTreeSet<&InstanceKey> = all.iter().map(|registered| &registered.key).collect();
                let gone: Vec<_> = self.registered.keys().filter(|key| !kept.contains(key)).cloned().collect();
                // First all of them, then each: two that went together are not each other's successors.
                let gone: Vec<_> = gone.iter().filter_map(|key| self.take(key)).collect();
                for known in gone {
                    self.record_removal(known, now);
                }
                // A service that is new as a whole has no other instance that takes its load meanwhile.
                let known: BTreeSet<ServiceName> = self.registered.keys().map(|key| key.service.clone()).collect();
                let all_new: BTreeSet<_> =
                    all.iter().map(|one| &one.key.service).filter(|one| !known.contains(*one)).collect();
                all_new.into_iter().for_each(|service| self.keep_longer(service, now));
                for registered in all {
                    let joins = known.contains(&registered.key.service);
                    self.add(registered, joins.then_some(now));
                }
            }
            Update::Add(registered) => {
                let joins = self.instances_of(&registered.key.service).next().is_some();
                if !joins {
                    self.keep_longer(&registered.key.service, now);
                }
                self.add(registered, joins.then_some(now));
            }
            Update::Remove(key) => {
                if let Some(known) = self.take(&key) {
                    self.record_removal(known, now);
                }
            }
        }
    }

    /// Whether the address of an instance may be used.
    ///
    /// # Errors
    ///
    /// The reason against it.
    pub fn check_address(&self, registered: &Registered) -> Result<(), Forbidden> {
        self.addresses.check(&registered.instance.address)
    }

    /// Another number when something has changed that is worth saving.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version + self.policies.key_set_changes()
    }

    /// Another number when something has changed of what clients must show: policies, API keys, issuers' keys. A gateway
    /// that starts from its snapshot must not open to a key that was revoked long before.
    #[must_use]
    pub fn rights_version(&self) -> u64 {
        self.rights_version + self.policies.key_set_changes()
    }

    /// The instances to be asked whether they are still there; none at an address that has turned out to be forbidden.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = &Arc<Candidate>> {
        let candidates = self.suspects.values().map(|suspect| &suspect.candidate);
        candidates.filter(|candidate| self.addresses.check(candidate.address()).is_ok())
    }

    /// What the addresses are judged by.
    pub(crate) fn addresses(&self) -> &AddressPolicy {
        &self.addresses
    }

    /// A suspect was found dead. `serial` tells whether it is still the same one.
    pub(crate) fn found_dead(&mut self, key: &InstanceKey, serial: u64) {
        if self.suspects.get(key).is_some_and(|suspect| suspect.candidate.serial == serial) {
            self.clear_suspicion(key);
        }
    }

    /// Ends the time of those who were a last resort for long enough, and judges all addresses again when more has
    /// become known about etcd's.
    pub fn tick(&mut self, now: Millis) {
        let resolved = self.addresses.resolved();
        if !Arc::ptr_eq(&resolved, &self.judged_by) {
            self.judged_by = resolved;
            let all = self.registered.keys().chain(self.suspects.keys());
            all.for_each(|key| self.touched.whole(key.service.clone()));
        }
        let over: Vec<_> = self.suspects.iter().filter(|(_, suspect)| suspect.until <= now).collect();
        for key in over.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.clear_suspicion(&key);
        }
        self.end_keeping(now);
    }

    /// Makes those an ordinary last resort that were kept for long enough beside registered ones. While none is registered,
    /// they are all that there is, and their time begins with the first that comes back.
    fn end_keeping(&mut self, now: Millis) {
        let is_over = |suspect: &LastResort| suspect.kept_until.is_some_and(|until| until <= now);
        let over: Vec<_> =
            self.suspects.iter().filter(|(_, suspect)| is_over(suspect)).map(|(key, _)| key.clone()).collect();
        for key in over {
            if self.instances_of(&key.service).next().is_some()
                && let Some(suspect) = self.suspects.get_mut(&key)
            {
                suspect.kept_until = None;
                self.touched.key(&key);
            }
        }
    }

    /// The first instance of `service` is about to be back: the others that vanished with it have as long to follow.
    fn keep_longer(&mut self, service: &ServiceName, now: Millis) {
        let from = InstanceKey::nameless(service.clone());
        let suspects = self.suspects.range_mut(from..).take_while(|(key, _)| key.service == *service);
        for (_, suspect) in suspects.filter(|(_, suspect)| suspect.kept_until.is_some()) {
            suspect.kept_until = Some(now + KEPT);
        }
    }

    /// Uses `key`, which vanished together with many others, beside those that are registered. Not if traffic has judged it:
    /// health counts for more.
    fn keep(&mut self, key: &InstanceKey, now: Millis) {
        if let Some(suspect) = self.suspects.get_mut(key)
            && suspect.kept_until.is_none()
            && suspect.candidate.state.outlier.verdict(now) == Verdict::Healthy
        {
            suspect.kept_until = Some(now + KEPT);
            self.touched.key(key);
        }
    }

    fn add(&mut self, registered: Registered, joined: Option<Millis>) {
        let key = registered.key.clone();
        if self.registered.get(&key).is_some_and(|before| before.registered == registered) {
            return;
        }
        let before = self.registered.remove(&key);
        if let Some(before) = &before {
            self.places.remove(&key, before.candidate.address());
        }
        self.touched.key(&key);
        self.tombstones.forget(&key);
        // An instance at the address of a suspect is its successor, or itself under a new name, or another service that
        // was given the address and must not get the suspect's requests.
        let instance = registered.instance.clone();
        let kept = self.suspects.get(&key).filter(|suspect| suspect.kept_until.is_some());
        let kept = kept.map(|suspect| Arc::clone(&suspect.candidate));
        for suspect in self.suspected_places.at(&instance.address).to_vec() {
            self.clear_suspicion(&suspect);
        }
        self.clear_suspicion(&key);
        // The same process says something new about itself: what traffic taught about it, and its connections, stay.
        let same =
            before.filter(|before| before.registered.created == registered.created).map(|before| before.candidate);
        // So is, as far as can be told, one that was never out of use: it does not join, it is back.
        let back = kept.filter(|kept| !kept.state.outlier.is_unhealthy());
        let same = same.or(back).filter(|same| *same.address() == instance.address);
        let (serial, state) = match same {
            Some(same) => (same.serial, Arc::clone(&same.state)),
            None => {
                let state = InstanceState::new(&key, self.cores, self.health_epoch.clone(), joined);
                (self.next_serial(), Arc::new(state))
            }
        };
        self.places.add(&key, &instance.address);
        let named = Named::of(&instance.address.host, &self.addresses);
        let candidate = Arc::new(Candidate { serial, key: key.clone(), instance, named, state });
        self.registered.insert(key, Listed { registered, candidate });
    }

    fn take(&mut self, key: &InstanceKey) -> Option<Listed> {
        let known = self.registered.remove(key)?;
        self.touched.key(key);
        self.places.remove(key, known.candidate.address());
        Some(known)
    }

    /// What follows from the end of an instance, which was taken out before.
    fn record_removal(&mut self, Listed { registered, candidate }: Listed, now: Millis) {
        let (key, address) = (registered.key, registered.instance.address);
        let successors = self.places.at(&address);
        if successors.iter().any(|successor| successor.service == key.service) {
            // It goes on under another name.
            return;
        }
        let cause = Cause::of(registered.instance.status, registered.lease.is_some());
        let is_in_rotation = registered.instance.status.is_in_rotation();
        let wants_requests = is_in_rotation && self.order(&key, registered.lease).is_none();
        // No other instance's address, no address twice, and none that must not even be asked whether it lives.
        let is_usable = successors.is_empty()
            && self.suspected_places.at(&address).iter().all(|suspect| suspect.service != key.service)
            && self.addresses.check(&address).is_ok();
        if cause == Cause::Expired && wants_requests && is_usable && !self.last_resort.is_zero() {
            self.suspected_places.add(&key, &address);
            let until = now + self.last_resort;
            self.suspects
                .insert(key.clone(), LastResort { candidate, lease: registered.lease, until, kept_until: None });
            // Whether there are more than the rule asks for is enough: ten thousand may vanish.
            let left = self.instances_of(&key.service).take(vanishing::MANY).count();
            for together in self.vanishing.note(&key, left, now) {
                self.keep(&together, now);
            }
        }
        if let Some(forgotten) = self.tombstones.add(Tombstone { key, address, at: now, cause }) {
            self.touched.service(&forgotten);
        }
    }

    fn clear_suspicion(&mut self, key: &InstanceKey) {
        if let Some(suspect) = self.suspects.remove(key) {
            self.suspected_places.remove(key, suspect.candidate.address());
            self.touched.key(key);
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }
}

#[cfg(test)]
mod tests;
