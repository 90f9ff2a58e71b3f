//! The balancing policies: one file each, with all that it needs.
//!
//! A policy says how one instance is drawn, and what it draws by: what requests must leave behind at an instance
//! ([`BalancingPolicy::OBSERVES`]), whether the set must be prepared for hashes ([`BalancingPolicy::HASHES`]), and how evenly
//! it spreads ([`BalancingPolicy::QUARTERS`]). Nothing else
//! knows a policy by its name: a new one is a file, a line in `with_policy!`, and a word in `discovery::policy::Strategy`.

mod hash;
mod least_request;
mod peak_ewma;
mod round_robin;

use std::sync::Arc;

use discovery::policy::Strategy;

use crate::{
    hash::mix,
    instance::candidate::Candidate,
    load_balancing::{maglev::Maglev, subset::Window, weighted_set::WeightedSet},
};

/// So many draws stand in for one that came to nothing at the same place of the next windows; then it is left to chance.
const STAND_INS: u64 = 3;

/// What requests leave behind at an instance, for a policy to choose by, beside what is always there: how many are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observes {
    /// Nothing more.
    Nothing,
    /// How long they waited for the head of the response.
    Latency,
}

/// One policy.
pub(crate) trait BalancingPolicy {
    /// What must be recorded for it.
    const OBSERVES: Observes;
    /// Whether it asks who has which hash.
    const HASHES: bool;
    /// For how many quarters of its life a connection of a [subset](crate::load_balancing::subset) waits for its next
    /// request, on average: chance takes four times as long now and then.
    const QUARTERS: u32;

    /// Draws one instance; `None` when there is none.
    fn draw<'a>(draw: &Draw<'a>) -> Option<&'a Arc<Candidate>>;
}

/// Calls a function of the policy with this name.
macro_rules! with_policy {
    ($strategy:expr, $policy:ident => $call:expr) => {
        match $strategy {
            Strategy::RoundRobin => {
                type $policy = round_robin::RoundRobin;
                $call
            }
            Strategy::LeastRequest => {
                type $policy = least_request::LeastRequest;
                $call
            }
            Strategy::PeakEwma => {
                type $policy = peak_ewma::PeakEwma;
                $call
            }
            Strategy::Hash => {
                type $policy = hash::Hash;
                $call
            }
        }
    };
}

/// What must be recorded for the policy of this name.
pub(crate) fn observes(strategy: Strategy) -> Observes {
    with_policy!(strategy, Chosen => Chosen::OBSERVES)
}

/// Whether the policy of this name asks who has which hash.
pub(crate) fn hashes(strategy: Strategy) -> bool {
    with_policy!(strategy, Chosen => Chosen::HASHES)
}

/// How long a connection waits in a subset under the policy of this name, in quarters of its life.
pub(crate) fn quarters(strategy: Strategy) -> u32 {
    with_policy!(strategy, Chosen => Chosen::QUARTERS)
}

/// Draws one instance by the policy of this name; `None` when there is none.
pub(crate) fn draw<'a>(strategy: Strategy, draw: &Draw<'a>) -> Option<&'a Arc<Candidate>> {
    if draw.weighted_set.all().is_empty() {
        return None;
    }
    with_policy!(strategy, Chosen => Chosen::draw(draw))
}

/// One draw of a pick.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    /// What is drawn from.
    pub(crate) weighted_set: &'a WeightedSet,
    /// The part of it that the core picks from for now; `None`: all of it.
    pub(crate) window: Option<Window>,
    /// All instances of the set, and who has which hash; over all zones.
    pub(crate) hashed: Option<(&'a Maglev, &'a [Arc<Candidate>])>,
    /// What the request is hashed by, if it has it.
    pub(crate) hash: Option<u64>,
    /// Whose turn it is.
    pub(crate) turn: usize,
    /// What all numbers by chance of the pick come from.
    pub(crate) seed: u64,
    /// The how manieth draw of the pick this is, from 0.
    pub(crate) number: u64,
}

// === impl Draw ===

impl<'a> Draw<'a> {
    /// One by chance, by weight; different ones for different `salt`.
    fn by_chance(&self, salt: u64) -> Option<&'a Arc<Candidate>> {
        let chance = mix(self.seed.wrapping_add(self.number + salt));
        let index = match self.window() {
            // A draw that came to nothing has its part of the window: what stands in for it is at the same place.
            Some((window, shift)) => self.weighted_set.at_chance_in(window, shift, mix(self.seed.wrapping_add(salt))),
            None => self.weighted_set.at_chance(chance),
        };
        self.weighted_set.all().get(index)
    }

    /// The one whose turn it is, and one by chance when it was drawn already.
    fn in_turn(&self) -> Option<&'a Arc<Candidate>> {
        let index = match self.window() {
            Some((window, shift)) => self.weighted_set.at_turn_in(window, shift, self.turn),
            None if self.number == 0 => self.weighted_set.at_turn(self.turn),
            None => return self.by_chance(1),
        };
        self.weighted_set.all().get(index)
    }

    /// The window, and how many windows further the draw is.
    fn window(&self) -> Option<(Window, usize)> {
        let shift = usize::try_from(self.number).ok().filter(|_| self.number <= STAND_INS)?;
        self.window.map(|window| (window, shift))
    }

    /// Of two by chance the one with the lower cost (power of two choices); the first of equals, so that an idle service is
    /// served by weight.
    fn better_of_two(&self, cost: impl Fn(&Candidate) -> f64) -> Option<&'a Arc<Candidate>> {
        let (first, second) = (self.by_chance(100)?, self.by_chance(200)?);
        let is_second = !Arc::ptr_eq(first, second) && cost(second) < cost(first);
        Some(if is_second { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_says_what_it_needs_recorded() {
        let all = [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma, Strategy::Hash];
        let by_latency = |strategy: &Strategy| observes(*strategy) == Observes::Latency;
        assert!(all.iter().filter(|strategy| by_latency(strategy)).eq([&Strategy::PeakEwma]));
        assert!(all.iter().filter(|strategy| hashes(**strategy)).eq([&Strategy::Hash]));
    }
}
