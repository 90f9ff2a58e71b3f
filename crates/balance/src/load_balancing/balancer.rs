//! What a pick needs to know of a service.

use std::{sync::Arc, time::Duration};

use discovery::policy::Policy;

use crate::{
    clock::Millis,
    counters::PerCore,
    instance::{
        candidate::{Candidate, InFlight},
        outlier::{Change, HealthEpoch, Outcome},
    },
    load_balancing::{
        assess::{CachedSummary, HealthSummary},
        candidate_set::CandidateSet,
        effective_policy::EffectivePolicy,
        policy::{self, Observes},
        subset::CoreSubsets,
    },
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) candidates: CandidateSet,
    pub(crate) last_resort: CandidateSet,
    /// Whether instances are registered that get no requests.
    pub(crate) has_withheld: bool,
    pub(crate) cores: Arc<[PerCore]>,
    /// Which instances each core picks from, when there are many.
    pub(crate) subsets: Arc<[CoreSubsets]>,
    pub(crate) effective_policy: EffectivePolicy,
    /// What the judgements about its instances add up to.
    pub(crate) summary_cache: CachedSummary,
    pub(crate) health_epoch: HealthEpoch,
}

// === impl Balancer ===

impl Balancer {
    /// That of a service without instances, which is served from `cores` cores.
    pub(crate) fn empty(cores: usize) -> Self {
        Self {
            candidates: CandidateSet::default(),
            last_resort: CandidateSet::default(),
            has_withheld: false,
            cores: (0..cores).map(|_| PerCore::default()).collect(),
            // Gateways do not know of each other.
            subsets: CoreSubsets::all(cores, rand::random()).collect(),
            effective_policy: EffectivePolicy::default(),
            summary_cache: CachedSummary::default(),
            health_epoch: HealthEpoch::default(),
        }
    }

    /// How its requests are treated: what `config/<service>` says, and the gateway's defaults for all else.
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.effective_policy.policy
    }

    /// Where to pick from now: the last resort is for when no instance is registered.
    pub(crate) fn candidate_set(&self) -> &CandidateSet {
        let is_last_resort = self.candidates.all().is_empty() && !self.has_withheld;
        if is_last_resort { &self.last_resort } else { &self.candidates }
    }

    /// A request of core `core` goes to `candidate`. `None`: it has as many under way as its policy allows.
    pub(crate) fn begin(&self, candidate: &Arc<Candidate>, core: usize) -> Option<InFlight> {
        Some(candidate.begin(core)?.counted(self.subsets[core].under_way()))
    }

    /// How a request to `candidate` ended; `latency` until the head of the response, or until it was given up.
    pub(crate) fn record(
        &self,
        candidate: &Candidate,
        outcome: Outcome,
        latency: Duration,
        now: Millis,
    ) -> Option<Change> {
        let latency = match policy::observes(self.policy().load_balancing.policy) {
            Observes::Latency => Some(latency),
            Observes::Nothing => None,
        };
        candidate.record(outcome, latency, now, self.policy())
    }

    /// What the judgements add up to, for the shelf that is picked from now.
    pub(crate) fn assess(&self, now: Millis) -> HealthSummary {
        let (kept, count) = (&self.summary_cache, self.health_epoch.count() + 1);
        if kept.is_good(count, now, self.candidate_set().all().len()) {
            return kept.load();
        }
        let assessment = HealthSummary::of(self.candidate_set(), self.policy().health.panic_threshold_percent);
        kept.store(assessment, count, now);
        assessment
    }
}
