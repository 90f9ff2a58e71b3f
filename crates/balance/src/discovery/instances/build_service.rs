//! What becomes of each instance of a service.

use std::{collections::BTreeSet, sync::Arc};

use discovery::{InstanceKey, LeaseId, Scheme, ServiceName};

use super::{Instances, Known, LastResort};
use crate::{
    instance::candidate::Candidate,
    load_balancing::{balancer::Balancer, candidate_set::CandidateSet},
    table::routing_table::{ExcludedInstance, ExclusionReason, Service},
};

// === impl Instances ===

impl Instances {
    /// The service as its requests will see it; `None` when nothing is known about it (any more).
    pub(super) fn service(&self, name: &ServiceName) -> Option<Service> {
        let mut candidates = Vec::new();
        let mut withheld = Vec::new();
        for (key, known) in self.instances_of(name) {
            match self.why_not(key, known.registered.lease, &known.candidate) {
                None => candidates.push(Arc::clone(&known.candidate)),
                Some(why) => {
                    let address = known.candidate.address().clone();
                    let reason = match why {
                        ExclusionReason::Status(_) => known.candidate.instance.reason.clone(),
                        ExclusionReason::Operator(_) | ExclusionReason::Address(_) | ExclusionReason::Scheme(_) => None,
                    };
                    withheld.push(ExcludedInstance { key: key.clone(), address, why, reason });
                }
            }
        }
        let from = InstanceKey::nameless(name.clone());
        let suspects = self.suspects.range(from..).take_while(|(key, _)| key.service == *name);
        let suspects = suspects.filter(|(key, suspect)| self.why_not(key, suspect.lease, &suspect.candidate).is_none());
        let is_registered = !candidates.is_empty() || !withheld.is_empty();
        let (kept, last_resort): (Vec<_>, Vec<_>) =
            suspects.partition(|(_, suspect)| is_registered && suspect.kept_until.is_some());
        let candidate = |(_, suspect): (_, &LastResort)| Arc::clone(&suspect.candidate);
        let last_resort: Vec<_> = last_resort.into_iter().map(candidate).collect();
        let kept: Vec<_> = kept.into_iter().map(candidate).collect();
        let unregistered: BTreeSet<u64> = kept.iter().map(|kept| kept.serial).collect();
        if !kept.is_empty() {
            candidates.extend(kept);
            candidates.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let tombstones: Vec<_> = self.tombstones.of(name).cloned().collect();
        if candidates.is_empty() && withheld.is_empty() && last_resort.is_empty() && tombstones.is_empty() {
            return None;
        }
        let before = self.built.get(name.as_str());
        let cores = before.map(|before| Arc::clone(&before.balancer.cores));
        let subsets = before.map(|before| Arc::clone(&before.balancer.subsets));
        let fresh = Service::empty(name.clone(), self.cores);
        let effective_policy = self.policies.of(name);
        let policy = &effective_policy.policy;
        for candidate in candidates.iter().chain(&last_resort) {
            candidate.state.load.limit(policy.breaker.in_flight_max, policy.breaker.streams_max);
        }
        let candidate_set = |candidates, before| CandidateSet::new(candidates, policy, self.zone.as_deref(), before);
        let balancer = Balancer {
            candidates: candidate_set(candidates, before.map(|before| &before.balancer.candidates)),
            last_resort: candidate_set(last_resort, before.map(|before| &before.balancer.last_resort)),
            has_withheld: !withheld.is_empty(),
            cores: cores.unwrap_or_else(|| Arc::clone(&fresh.balancer.cores)),
            subsets: subsets.unwrap_or_else(|| Arc::clone(&fresh.balancer.subsets)),
            health_epoch: self.health_epoch.clone(),
            effective_policy: effective_policy.clone(),
            ..Balancer::empty(0)
        };
        let access = self.policies.access(name);
        Some(Service { balancer, unregistered, withheld, tombstones, access, ..fresh })
    }

    pub(super) fn instances_of(&self, name: &ServiceName) -> impl Iterator<Item = (&InstanceKey, &Known)> {
        let from = InstanceKey::nameless(name.clone());
        self.registered.range(from..).take_while(move |(key, _)| key.service == *name)
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
