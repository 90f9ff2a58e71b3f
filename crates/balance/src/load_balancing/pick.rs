//! Which instance gets the request.
//!
//! | step | |
//! |---|---|
//! | 1 | candidates are the instances that are registered and want traffic; when none is registered any more, those that vanished without a word and may still answer (`last resort`) |
//! | 2 | the instance that the client's sticky cookie names, if it is well |
//! | 3 | otherwise one is drawn by the service's policy: in turn, of two the less loaded, by hash; from the own zone, as far as it has the capacity; of many from the core's [subset](crate::load_balancing::subset) for now |
//! | 4 | an instance that this request has tried, that is ejected or that fails its probes is put back, and another is drawn; an instance that has just joined is put back most of the time |
//! | 5 | when that leaves none, an unhealthy one is better than none, so the last instance is never ejected; one that refused the last connection comes after it, and one whose name has no address last of all |
//!
//! A pick looks at a few candidates, however many there are: the shelves are prepared when the table is made, and what
//! the judgements about all instances add up to (`assess`) is computed again only when there is a new judgement. Only when
//! the draws find none are all looked at.

mod draw;
mod members;

use std::{sync::Arc, time::Duration};

pub(crate) use draw::share_permille;
pub(crate) use members::subset_of;

use crate::{
    clock::Millis,
    hash::mix,
    instance::{candidate::Candidate, outlier::Verdict},
    load_balancing::{
        assess::HealthSummary,
        balancer::Balancer,
        subset::{Side, Subset},
        weighted_set::WeightedSet,
    },
};

/// What a request brings to be picked by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PickContext<'a> {
    /// The core that serves it.
    pub(crate) core: usize,
    /// [Hash](crate::hash::hash) of what `load_balancing.hash_on` names, if the request has it.
    pub(crate) hash: Option<u64>,
    /// The value of the sticky cookie.
    pub(crate) sticky: Option<&'a [u8]>,
    /// Whether it will probably become a tunnel.
    pub(crate) wants_upgrade: bool,
    /// For how long the core keeps a connection for the next request; zero: it keeps none.
    pub(crate) keep_alive: Duration,
    /// The time.
    pub(crate) now: Millis,
}

impl PickContext<'_> {
    /// That of no request, to look what would happen.
    fn of(core: usize, now: Millis) -> Self {
        Self { core, hash: None, sticky: None, wants_upgrade: false, keep_alive: Duration::ZERO, now }
    }
}

/// The instance that gets the request.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "how it was picked is asserted by tests"))]
pub(crate) struct Picked {
    pub(crate) candidate: Arc<Candidate>,
    /// The request decides whether an ejection is over.
    pub(crate) is_probation: bool,
    /// The client's cookie names it already.
    pub(crate) is_sticky: bool,
}

/// The instances that a request has tried in vain, by serial number; a few, mostly none.
#[derive(Debug, Clone, Default)]
pub(crate) struct TriedInstances(Vec<u64>);

impl TriedInstances {
    pub(crate) fn add(&mut self, candidate: &Candidate) {
        if !self.contains(candidate) {
            self.0.push(candidate.serial);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, candidate: &Candidate) -> bool {
        self.0.contains(&candidate.serial)
    }
}

/// Picks an instance of a service; `None` when all candidates were tried or there are none.
pub(crate) fn pick(balancer: &Balancer, ask: &PickContext<'_>, tried: &TriedInstances) -> Option<Picked> {
    let candidate_set = balancer.candidate_set();
    let turn = balancer.cores[ask.core].next_turn();
    let rules = Picker { balancer, ask, tried, turn, is_preview: false, assessment: balancer.assess(ask.now) };
    if let Some(named) = ask.sticky.and_then(|cookie| candidate_set.with_cookie(cookie))
        && let Some(picked) = rules.admit(named)
    {
        return Some(Picked { is_sticky: true, ..picked });
    }
    rules.pick()
}

/// Whether an instance is left that was not tried, healthy or not: then [`pick`] has one. Changes nothing.
pub(crate) fn has_untried(balancer: &Balancer, tried: &TriedInstances) -> bool {
    balancer.candidate_set().all().iter().any(|candidate| !tried.contains(candidate))
}

/// The instance that [`pick`] would take for the next request on the first core, if it brought nothing to be picked by, and
/// the core's subset did not change with it. Changes nothing.
pub(crate) fn preview(balancer: &Balancer, now: Millis) -> Option<Picked> {
    let turn = balancer.cores.first()?.turns();
    Picker { turn, ..Picker::looking(balancer, &PickContext::of(0, now), &TriedInstances::default()) }.pick()
}

/// What one pick goes by.
struct Picker<'a> {
    balancer: &'a Balancer,
    ask: &'a PickContext<'a>,
    tried: &'a TriedInstances,
    turn: usize,
    /// No request follows.
    is_preview: bool,
    assessment: HealthSummary,
}

/// What is drawn from.
#[derive(Clone, Copy)]
struct Shelf<'a> {
    weighted_set: &'a WeightedSet,
    side: Side,
}

impl<'a> Picker<'a> {
    /// One that changes nothing.
    fn looking(balancer: &'a Balancer, ask: &'a PickContext<'a>, tried: &'a TriedInstances) -> Self {
        Self { balancer, ask, tried, turn: 0, is_preview: true, assessment: balancer.assess(ask.now) }
    }

    fn pick(&self) -> Option<Picked> {
        let (first, second) = self.shelves();
        self.draw(first).or_else(|| second.and_then(|shelf| self.draw(shelf))).or_else(|| self.any_untried())
    }

    /// Where to draw from, and where then.
    fn shelves(&self) -> (Shelf<'a>, Option<Shelf<'a>>) {
        let candidate_set = self.balancer.candidate_set();
        match candidate_set.zones() {
            Some(zones) if self.ask.hash.is_none() || candidate_set.maglev().is_none() => {
                // The higher bits of the number decide; the lower ones draw.
                let is_near = self.chance(0) >> 32 < u64::from(self.assessment.near_permille) * (1 << 32) / 1000;
                let near = Shelf { weighted_set: &zones.near, side: Side::Near };
                let far = Shelf { weighted_set: &zones.far, side: Side::Far };
                if is_near { (near, Some(far)) } else { (far, Some(near)) }
            }
            _ => (Shelf { weighted_set: candidate_set.weighted_set(), side: Side::Near }, None),
        }
    }

    /// Which part of that shelf the core picks from.
    fn subset(&self, shelf: Shelf<'_>) -> &'a Subset {
        self.balancer.subsets[self.ask.core].on(shelf.side)
    }

    /// The candidate, if a request may go to it now.
    fn admit(&self, candidate: &Arc<Candidate>) -> Option<Picked> {
        if self.tried.contains(candidate) || candidate.is_unresolved() {
            return None;
        }
        let outlier = &candidate.state.outlier;
        let is_probation = match outlier.verdict(self.ask.now) {
            Verdict::Healthy => false,
            Verdict::Probation if self.is_preview => true,
            // One that is full gets no request that could decide whether it is well.
            Verdict::Probation if !candidate.state.load.is_full() && outlier.take_probation(self.ask.now) => true,
            Verdict::Probation | Verdict::Ejected { .. } | Verdict::Failing
                if self.assessment.is_panic && !outlier.refuses() =>
            {
                false
            }
            Verdict::Probation | Verdict::Ejected { .. } | Verdict::Failing => return None,
        };
        Some(Picked { candidate: Arc::clone(candidate), is_probation, is_sticky: false })
    }

    /// The best of those that were not tried, healthy or not.
    fn any_untried(&self) -> Option<Picked> {
        let all = self.balancer.candidate_set().weighted_set();
        let (before, after) = all.all().split_at(all.at_turn(self.turn).min(all.all().len()));
        let untried = || after.iter().chain(before).filter(|candidate| !self.tried.contains(candidate));
        let listens = |candidate: &&Arc<Candidate>| !candidate.state.outlier.refuses();
        let is_somewhere = |candidate: &&Arc<Candidate>| !candidate.is_unresolved();
        let best = untried().filter(is_somewhere).find(listens).or_else(|| untried().find(is_somewhere));
        let candidate = best.or_else(|| untried().next())?;
        Some(Picked { candidate: Arc::clone(candidate), is_probation: false, is_sticky: false })
    }

    /// A number by chance for draw `n` of this pick.
    fn chance(&self, n: u64) -> u64 {
        mix(self.seed().wrapping_add(n))
    }

    /// What all numbers by chance of this pick come from.
    fn seed(&self) -> u64 {
        mix(self.turn as u64 ^ (self.ask.core as u64) << 56)
    }
}

#[cfg(test)]
mod tests;
