//! What becomes of each instance of a service, and the service that follows from it.
//!
//! A service is built from all of its instances, or from the one before and the instances that were touched: the two come to
//! the same (a test holds that), and the second looks at no other instance. Of ten thousand it still copies the list.

use std::{collections::BTreeSet, sync::Arc};

use discovery::{InstanceKey, LeaseId, Scheme, ServiceName, policy::Policy};

use super::{Instances, LastResort, Listed, touched::Part};
use crate::{
    instance::candidate::Candidate,
    load_balancing::{
        assess::CachedSummary, balancer::Balancer, candidate_set::CandidateSet, effective_policy::EffectivePolicy,
    },
    table::routing_table::{ExcludedInstance, ExclusionReason, Service},
};

/// Where an instance stands.
#[derive(Debug)]
enum Place {
    InRotation(Arc<Candidate>),
    /// Not registered, and in rotation nevertheless: it vanished together with many others.
    Kept(Arc<Candidate>),
    LastResort(Arc<Candidate>),
    Withheld(ExcludedInstance),
}

/// The instances of a service by where they stand, each in the order of the keys.
#[derive(Debug, Default)]
struct Places {
    candidates: Vec<Arc<Candidate>>,
    /// The kept among the candidates, by serial number.
    kept: BTreeSet<u64>,
    last_resort: Vec<Arc<Candidate>>,
    withheld: Arc<[ExcludedInstance]>,
}

/// One of the lists with what became of instances: `None` for one that is not in it (any more). In the order of the keys.
type Changes<'a, T> = Vec<(&'a InstanceKey, Option<T>)>;

// === impl Instances ===

impl Instances {
    /// The service as its requests will see it after `touched` of it was touched; `None` when nothing is known about it
    /// (any more).
    pub(super) fn rebuilt(&self, name: &ServiceName, touched: &Part) -> Option<Service> {
        let before = self.built.get(name.as_str()).map(AsRef::as_ref);
        let (Some(before), Part::Instances(keys)) = (before, touched) else { return self.service(name) };
        let is_registered = self.is_registered(name);
        // Who is kept depends on that, touched or not; and of many, a walk over all is less than a search for each.
        let (candidates, last_resort) = (before.balancer.candidates.all(), before.balancer.last_resort.all());
        let all = candidates.len() + last_resort.len() + before.withheld.len();
        if before.is_registered() != is_registered || keys.len() > all / 4 {
            return self.service(name);
        }
        let policy = before.policy();
        let places = Places::of_before(before, keys, |key| self.place(key, is_registered), policy);
        self.assemble(name, places, before.balancer.effective_policy.clone())
    }

    /// The service from all of its instances.
    pub(super) fn service(&self, name: &ServiceName) -> Option<Service> {
        let effective_policy = self.policies.of(name);
        let registered = self.instances_of(name).map(|(key, known)| self.place_of_registered(key, known));
        let is_registered = self.is_registered(name);
        let from = InstanceKey::nameless(name.clone());
        let suspects = self.suspects.range(from..).take_while(|(key, _)| key.service == *name);
        let suspects = suspects.filter_map(|(key, suspect)| self.place_of_suspect(key, suspect, is_registered));
        let places = Places::of_all(registered.chain(suspects), &effective_policy.policy);
        self.assemble(name, places, effective_policy)
    }

    fn assemble(&self, name: &ServiceName, places: Places, effective_policy: EffectivePolicy) -> Option<Service> {
        let Places { candidates, kept, last_resort, withheld } = places;
        let tombstones: Vec<_> = self.tombstones.of(name).cloned().collect();
        if candidates.is_empty() && withheld.is_empty() && last_resort.is_empty() && tombstones.is_empty() {
            return None;
        }
        let before = self.built.get(name.as_str());
        let (prefix, cores, subsets) = match before {
            Some(before) => {
                let balancer = &before.balancer;
                (before.prefix.clone(), Arc::clone(&balancer.cores), Arc::clone(&balancer.subsets))
            }
            None => {
                let fresh = Service::empty(name.clone(), self.cores);
                (fresh.prefix, fresh.balancer.cores, fresh.balancer.subsets)
            }
        };
        let before = before.map(|before| &before.balancer);
        let policy = &effective_policy.policy;
        let candidate_set = |candidates, before| CandidateSet::new(candidates, policy, self.zone.as_deref(), before);
        let candidates = candidate_set(candidates, before.map(|before| &before.candidates));
        let last_resort = candidate_set(last_resort, before.map(|before| &before.last_resort));
        let summary_cache = before.map_or_else(CachedSummary::default, |before| {
            before.summary_cache.carried_over(before.candidates.all().len().min(candidates.all().len()))
        });
        if summary_cache.load().has_unhealthy {
            // The next request finds them at once, as the summary does not look again before its time.
            candidates.note_unhealthy();
        }
        let balancer = Balancer {
            candidates,
            last_resort,
            has_withheld: !withheld.is_empty(),
            cores,
            subsets,
            health_epoch: self.health_epoch.clone(),
            effective_policy,
            summary_cache,
        };
        let access = self.policies.access(name);
        Some(Service { name: name.clone(), prefix, balancer, unregistered: kept, withheld, tombstones, access })
    }

    pub(super) fn instances_of(&self, name: &ServiceName) -> impl Iterator<Item = (&InstanceKey, &Listed)> {
        let from = InstanceKey::nameless(name.clone());
        self.registered.range(from..).take_while(move |(key, _)| key.service == *name)
    }

    fn is_registered(&self, name: &ServiceName) -> bool {
        self.instances_of(name).next().is_some()
    }

    fn place(&self, key: &InstanceKey, is_registered: bool) -> Option<Place> {
        match self.registered.get(key) {
            Some(known) => Some(self.place_of_registered(key, known)),
            None => self.place_of_suspect(key, self.suspects.get(key)?, is_registered),
        }
    }

    fn place_of_registered(&self, key: &InstanceKey, known: &Listed) -> Place {
        let candidate = &known.candidate;
        let Some(why) = self.why_not(key, known.registered.lease, candidate) else {
            return Place::InRotation(Arc::clone(candidate));
        };
        let reason = match why {
            ExclusionReason::Status(_) => candidate.instance.reason.clone(),
            ExclusionReason::Operator(_) | ExclusionReason::Address(_) | ExclusionReason::Scheme(_) => None,
        };
        Place::Withheld(ExcludedInstance { key: key.clone(), address: candidate.address().clone(), why, reason })
    }

    /// While no instance `is_registered`, all that vanished are the last resort.
    fn place_of_suspect(&self, key: &InstanceKey, suspect: &LastResort, is_registered: bool) -> Option<Place> {
        if self.why_not(key, suspect.lease, &suspect.candidate).is_some() {
            return None;
        }
        let candidate = Arc::clone(&suspect.candidate);
        let is_kept = is_registered && suspect.kept_until.is_some();
        Some(if is_kept { Place::Kept(candidate) } else { Place::LastResort(candidate) })
    }

    /// The first reason against sending requests to an instance: what an operator says goes before what it says itself.
    fn why_not(&self, key: &InstanceKey, lease: Option<LeaseId>, candidate: &Candidate) -> Option<ExclusionReason> {
        let instance = &candidate.instance;
        if let Err(forbidden) = self.addresses.check(&instance.address) {
            return Some(ExclusionReason::Address(forbidden));
        }
        if instance.scheme != Scheme::Http {
            return Some(ExclusionReason::Scheme(instance.scheme));
        }
        match (self.order(key, lease).map(|order| order.status), instance.status) {
            (Some(status), _) => (!status.is_in_rotation()).then_some(ExclusionReason::Operator(status)),
            (None, status) => (!status.is_in_rotation()).then_some(ExclusionReason::Status(status)),
        }
    }
}

// === impl Places ===

impl Places {
    /// `all` are first those registered, then those that vanished, both in the order of their keys.
    fn of_all(all: impl Iterator<Item = Place>, policy: &Policy) -> Self {
        let mut places = Self::default();
        let mut withheld = Vec::new();
        for place in all {
            place.limit(policy);
            match place {
                Place::InRotation(candidate) => places.candidates.push(candidate),
                Place::Kept(candidate) => {
                    places.kept.insert(candidate.serial);
                    places.candidates.push(candidate);
                }
                Place::LastResort(candidate) => places.last_resort.push(candidate),
                Place::Withheld(excluded) => withheld.push(excluded),
            }
        }
        if !places.kept.is_empty() {
            places.candidates.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Self { withheld: withheld.into(), ..places }
    }

    /// As in `before`, but for `keys`.
    fn of_before(
        before: &Service,
        keys: &BTreeSet<InstanceKey>,
        place: impl Fn(&InstanceKey) -> Option<Place>,
        policy: &Policy,
    ) -> Self {
        let mut candidates = Vec::new();
        let mut last_resort = Vec::new();
        let mut withheld = Vec::new();
        let mut kept = before.unregistered.clone();
        let (old_candidates, old_last_resort) = (before.balancer.candidates.all(), before.balancer.last_resort.all());
        for key in keys {
            if let Ok(at) = old_candidates.binary_search_by(|candidate| candidate.key.cmp(key)) {
                kept.remove(&old_candidates[at].serial);
            }
            let place = place(key);
            if let Some(place) = &place {
                place.limit(policy);
            }
            let mut candidate = None;
            let mut suspect = None;
            let mut excluded = None;
            match place {
                None => {}
                Some(Place::InRotation(one)) => candidate = Some(one),
                Some(Place::Kept(one)) => {
                    kept.insert(one.serial);
                    candidate = Some(one);
                }
                Some(Place::LastResort(one)) => suspect = Some(one),
                Some(Place::Withheld(one)) => excluded = Some(one),
            }
            candidates.push((key, candidate));
            last_resort.push((key, suspect));
            withheld.push((key, excluded));
        }
        Self {
            candidates: merged(old_candidates, |candidate| &candidate.key, candidates)
                .unwrap_or_else(|| old_candidates.to_vec()),
            last_resort: merged(old_last_resort, |candidate| &candidate.key, last_resort)
                .unwrap_or_else(|| old_last_resort.to_vec()),
            withheld: merged(&before.withheld, |excluded| &excluded.key, withheld)
                .map_or_else(|| Arc::clone(&before.withheld), Arc::from),
            kept,
        }
    }
}

// === impl Place ===

impl Place {
    /// What requests are sent to is limited as the policy says.
    fn limit(&self, policy: &Policy) {
        match self {
            Self::InRotation(candidate) | Self::Kept(candidate) | Self::LastResort(candidate) => {
                candidate.state.load.limit(policy.breaker.in_flight_max, policy.breaker.streams_max);
            }
            Self::Withheld(_) => {}
        }
    }
}

/// The list `before` with the `changes`; `None` when they change nothing: no instance that they are about is in either.
fn merged<T: Clone>(before: &[T], key_of: fn(&T) -> &InstanceKey, changes: Changes<'_, T>) -> Option<Vec<T>> {
    let mut merged = Vec::with_capacity(before.len() + changes.len());
    let (mut rest, mut is_changed) = (before, false);
    for (key, now) in changes {
        let (passed, from) = rest.split_at(rest.partition_point(|one| key_of(one) < key));
        merged.extend_from_slice(passed);
        let is_there = from.first().is_some_and(|one| key_of(one) == key);
        rest = &from[usize::from(is_there)..];
        is_changed |= is_there || now.is_some();
        merged.extend(now);
    }
    if !is_changed {
        return None;
    }
    merged.extend_from_slice(rest);
    Some(merged)
}
