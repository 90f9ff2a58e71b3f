//! What the judgements about the instances of a service add up to.
//!
//! Two questions need all instances: whether so many are judged unhealthy that the judgements are not to be believed
//! (panic), and how much of the traffic the own zone can take. The answers change only with a judgement, so they are kept
//! and computed again when there was one: seldom, and never more than once in [`PAUSE_MS`] for a large service.
//!
//! The own zone gets everything while at least five sevenths of its instances (by weight) are healthy, and 140 % of its
//! healthy part below that; the rest goes to the other zones. That is how Envoy and Istio spread over priorities, with
//! their default "overprovisioning factor" of 1.4: a zone that has lost a third can carry its own load, one that has lost
//! nearly all must not be overrun.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    clock::Millis,
    instance::candidate::Candidate,
    load_balancing::{candidate_set::CandidateSet, weighted_set::WeightedSet},
};

/// Up to so many instances are looked at after every judgement.
const SMALL: usize = 64;
/// For how long the answers about more instances stand, in milliseconds.
const PAUSE_MS: u64 = 50;

/// The answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HealthSummary {
    /// The judgements are disregarded.
    pub(crate) is_panic: bool,
    /// The part of the requests that the own zone gets, in thousandths.
    pub(crate) near_permille: u32,
    /// Any instance is judged unhealthy.
    pub(crate) has_unhealthy: bool,
}

/// The answers as they are kept.
#[derive(Debug, Default)]
pub(crate) struct CachedSummary {
    /// After how many judgements, plus one; 0: never yet.
    after: AtomicU64,
    at: AtomicU64,
    word: AtomicU64,
}

// === impl HealthSummary ===

impl HealthSummary {
    /// The answers for a shelf, with the policy's `panic_threshold_percent`.
    pub(crate) fn of(candidate_set: &CandidateSet, panic_threshold_percent: u32) -> Self {
        let all = candidate_set.all();
        let unhealthy = all.iter().filter(|one| one.state.outlier.is_unhealthy()).count();
        let threshold = usize::try_from(panic_threshold_percent).unwrap_or(100);
        let is_panic = threshold > 0 && unhealthy * 100 > all.len() * threshold;
        candidate_set.note_unhealthy();
        let near_permille = candidate_set.zones().map_or(1000, |zones| near_permille(&zones.near));
        Self { is_panic, near_permille, has_unhealthy: unhealthy > 0 }
    }
}

fn near_permille(near: &WeightedSet) -> u32 {
    let weight = |one: &Arc<Candidate>| u64::from(one.instance.weight.get());
    let healthy = near.all().iter().filter(|one| !one.state.outlier.is_unhealthy());
    let (healthy, all) = (healthy.map(weight).sum::<u64>(), near.all().iter().map(weight).sum::<u64>());
    u32::try_from((healthy * 1400 / all.max(1)).min(1000)).unwrap_or(1000)
}

// === impl CachedSummary ===

impl CachedSummary {
    /// Whether they still stand, after `count` judgements (plus one) about `instances`.
    pub(crate) fn is_good(&self, count: u64, now: Millis, instances: usize) -> bool {
        let after = self.after.load(Ordering::Acquire);
        let is_recent = instances > SMALL && now.0 < self.at.load(Ordering::Relaxed) + PAUSE_MS;
        after == count || after > 0 && is_recent
    }

    /// The answers for the set that comes in this one's place, when the smaller of the two has so many `instances`. Those
    /// about a large set stand for [`PAUSE_MS`] as they are, or each change would cost its next request a look at all.
    pub(crate) fn carried_over(&self, instances: usize) -> Self {
        if instances <= SMALL || self.after.load(Ordering::Acquire) == 0 {
            return Self::default();
        }
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        // After no number of judgements that there will be: they count as old.
        Self { after: AtomicU64::new(u64::MAX), at: copy(&self.at), word: copy(&self.word) }
    }

    pub(crate) fn load(&self) -> HealthSummary {
        let word = self.word.load(Ordering::Relaxed);
        HealthSummary {
            is_panic: word & 1 == 1,
            has_unhealthy: word >> 1 & 1 == 1,
            near_permille: u32::try_from(word >> 2).unwrap_or(1000),
        }
    }

    pub(crate) fn store(&self, assessment: HealthSummary, count: u64, now: Millis) {
        let flags = u64::from(assessment.has_unhealthy) << 1 | u64::from(assessment.is_panic);
        self.word.store(u64::from(assessment.near_permille) << 2 | flags, Ordering::Relaxed);
        self.at.store(now.0, Ordering::Relaxed);
        self.after.store(count, Ordering::Release);
    }
}
