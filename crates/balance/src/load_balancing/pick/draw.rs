//! One set, one policy, a few draws.

use std::{sync::Arc, time::Duration};

use discovery::policy::Strategy;

use super::{Picked, Picker, Shelf};
use crate::{
    clock::Millis,
    instance::{candidate::Candidate, outlier::Verdict},
    load_balancing::{
        policy::{self, Draw},
        subset::{Pace, Window},
        weighted_set::WeightedSet,
    },
};

/// So many draws, before all are looked at. With at most half of the instances unhealthy (otherwise the judgements are
/// disregarded) that happens to one request in 4,096.
const DRAWS: u64 = 12;

/// Every so many picks from a subset look for an instance whose ejection is over, among so many that are unhealthy.
const PROBATION_TURNS: usize = 16;
const PROBATION_LOOKS: usize = 8;

/// What an instance gets of its share at the very beginning of its slow start, in thousandths: enough to warm up.
const SHARE_MIN: u64 = 100;

impl<'a> Picker<'a> {
    /// Draws from the shelf until an instance may have the request.
    pub(super) fn draw(&self, shelf: Shelf<'a>) -> Option<Picked> {
        let strategy = self.balancer.policy().load_balancing.policy;
        let window = self.window(shelf);
        if window.is_some()
            && let Some(picked) = self.due_probation(shelf.weighted_set)
        {
            return Some(picked);
        }
        // An instance in slow start is still preferred to an unhealthy one.
        let mut in_slow_start = None;
        for n in 0..DRAWS {
            let Some(drawn) = self.draw_once(shelf.weighted_set, window, strategy, n) else { break };
            let candidate = window.and_then(|window| self.widened(shelf, window, drawn)).unwrap_or(drawn);
            if !self.is_in_slow_start(candidate, n) {
                if let Some(picked) = self.admit(candidate) {
                    return Some(picked);
                }
            } else if in_slow_start.is_none() {
                in_slow_start = Some(candidate);
            }
        }
        in_slow_start.and_then(|candidate| self.admit(candidate)).or_else(|| self.look_at_all(shelf.weighted_set))
    }

    /// The part of the shelf that the core picks from for now; `None`: all of it.
    pub(super) fn window(&self, shelf: Shelf<'_>) -> Option<Window> {
        shelf.weighted_set.ring()?;
        let len = shelf.weighted_set.all().len();
        let subset = self.subset(shelf);
        let quarters = policy::quarters(self.balancer.policy().load_balancing.policy);
        let under_way = self.balancer.subsets[self.ask.core].under_way();
        let pace = Pace { keep_alive: self.ask.keep_alive, quarters, under_way: under_way.requests() };
        // A retry is no further request.
        let is_look = self.is_preview || !self.tried.is_empty();
        let window = if is_look { subset.window(len, quarters) } else { subset.advance(len, pace, self.ask.now) };
        // Streams are limited for each instance, and last: a window would fill a few of them.
        let has_streams = self.ask.wants_upgrade || under_way.has_streams();
        let is_last_resort = !std::ptr::eq(self.balancer.candidate_set(), &self.balancer.candidates);
        window.filter(|_| !self.assessment.is_panic && !is_last_resort && !has_streams)
    }

    /// Takes one more into the window when the one that was drawn has a request of this core already, or as many as it may
    /// have: the new one gets the request, if it is well and has none. Where weights differ, the heavy one is the busy one, so
    /// the one drawn keeps the request unless it is full, and the window has a place for each request under way.
    fn widened(&self, shelf: Shelf<'a>, window: Window, drawn: &Arc<Candidate>) -> Option<&'a Arc<Candidate>> {
        let is_busy =
            |candidate: &Candidate| candidate.state.load.is_busy_on(self.ask.core) || candidate.state.load.is_full();
        let is_well = |candidate: &Candidate| {
            candidate.state.outlier.verdict(self.ask.now) == Verdict::Healthy
                && !candidate.is_unresolved()
                && !self.tried.contains(candidate)
        };
        // For one that is not well the next windows stand in.
        if self.is_preview || !is_busy(drawn) || !is_well(drawn) {
            return None;
        }
        let is_even = shelf.weighted_set.is_even();
        let under_way = self.balancer.subsets[self.ask.core].under_way().requests();
        if !is_even && window.size > under_way as usize && !drawn.state.load.is_full() {
            return None;
        }
        let wider = self.subset(shelf).grow(window);
        let gets_it = is_even || drawn.state.load.is_full();
        shelf.weighted_set.last_in(wider).filter(|new| gets_it && !is_busy(new) && is_well(new))
    }

    /// An instance whose ejection is over, wherever it is: seldom enough that a service with many of those does not send
    /// them all its requests, and not only when a window comes by.
    fn due_probation(&self, weighted_set: &'a WeightedSet) -> Option<Picked> {
        if !self.assessment.has_unhealthy || !self.turn.is_multiple_of(PROBATION_TURNS) {
            return None;
        }
        let unhealthy = weighted_set.ring()?.unhealthy(self.turn / PROBATION_TURNS, PROBATION_LOOKS);
        let candidates = unhealthy.filter_map(|index| weighted_set.all().get(index));
        candidates
            .filter(|candidate| candidate.state.outlier.verdict(self.ask.now) == Verdict::Probation)
            .find_map(|candidate| self.admit(candidate))
    }

    fn draw_once(
        &self,
        weighted_set: &'a WeightedSet,
        window: Option<Window>,
        strategy: Strategy,
        number: u64,
    ) -> Option<&'a Arc<Candidate>> {
        let candidate_set = self.balancer.candidate_set();
        let draw = Draw {
            weighted_set,
            window,
            hashed: candidate_set.maglev().map(|maglev| (maglev, candidate_set.all())),
            hash: self.ask.hash,
            turn: self.turn,
            seed: self.seed(),
            number,
        };
        policy::draw(strategy, &draw)
    }

    /// Whether it is left out this time because it has just joined.
    fn is_in_slow_start(&self, candidate: &Candidate, n: u64) -> bool {
        let share = share_permille(candidate, self.balancer.policy().load_balancing.slow_start, self.ask.now);
        share.is_some_and(|share| self.chance(n + 300) % 1000 >= share)
    }

    /// The first that may have it, starting with whose turn it is.
    fn look_at_all(&self, weighted_set: &WeightedSet) -> Option<Picked> {
        let (before, after) =
            weighted_set.all().split_at(weighted_set.at_turn(self.turn).min(weighted_set.all().len()));
        after.iter().chain(before).find_map(|candidate| self.admit(candidate))
    }
}

/// The part of its share that an instance gets which joined others less than `window` ago, in thousandths; `None`: all.
pub(crate) fn share_permille(candidate: &Candidate, window: Duration, now: Millis) -> Option<u64> {
    let age = now.since(candidate.state.joined?);
    let share = age.as_millis() * 1000 / window.as_millis().max(1);
    (age < window).then(|| u64::try_from(share).unwrap_or(1000).max(SHARE_MIN))
}
