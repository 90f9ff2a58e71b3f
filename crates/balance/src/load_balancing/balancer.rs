//! What a pick needs to know of a service.

use std::{sync::Arc, time::Duration};

use discovery::policy::Policy;

use crate::{
    clock::Millis,
    counters::PerCore,
    instance::{
        candidate::Candidate,
        outlier::{Change, Judgements, Outcome},
    },
    load_balancing::{
        assess::{Assessment, Kept},
        candidate_set::Shelf,
        governing::Governing,
        policy::{self, Observes},
    },
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) candidates: Shelf,
    pub(crate) last_resort: Shelf,
    /// Whether instances are registered that get no requests.
    pub(crate) has_withheld: bool,
    pub(crate) cores: Arc<[PerCore]>,
    pub(crate) governing: Governing,
    /// What the judgements about its instances add up to.
    pub(crate) assessed: Kept,
    pub(crate) judgements: Judgements,
}

// === impl Balancer ===

impl Balancer {
    /// That of a service without instances, which is served from `cores` cores.
    pub(crate) fn empty(cores: usize) -> Self {
        Self {
            candidates: Shelf::default(),
            last_resort: Shelf::default(),
            has_withheld: false,
            cores: (0..cores).map(|_| PerCore::default()).collect(),
            governing: Governing::default(),
            assessed: Kept::default(),
            judgements: Judgements::default(),
        }
    }

    /// How its requests are treated: what `config/<service>` says, and the gateway's defaults for all else.
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.governing.policy
    }

    /// Where to pick from now: the last resort is for when no instance is registered.
    pub(crate) fn shelf(&self) -> &Shelf {
        let is_last_resort = self.candidates.all().is_empty() && !self.has_withheld;
        if is_last_resort { &self.last_resort } else { &self.candidates }
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
    pub(crate) fn assess(&self, now: Millis) -> Assessment {
        let (kept, count) = (&self.assessed, self.judgements.count() + 1);
        if kept.is_good(count, now, self.shelf().all().len()) {
            return kept.load();
        }
        let assessment = Assessment::of(self.shelf(), self.policy().health.panic_threshold_percent);
        kept.store(assessment, count, now);
        assessment
    }
}
