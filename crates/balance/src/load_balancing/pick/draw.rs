//! One lot, one policy, a few draws.

use std::{sync::Arc, time::Duration};

use discovery::policy::Strategy;

use super::{Picked, Rules};
use crate::{clock::Millis, hash::mix, instance::candidate::Candidate, load_balancing::candidate_set::Lot};

/// So many draws, before everybody is looked at. With at most half of the instances unhealthy (otherwise the judgements are
/// disregarded) that happens to one request in 4,096.
const DRAWS: u64 = 12;

/// What an instance gets of its share at the very beginning of its slow start, in thousandths: enough to warm up.
const SHARE_MIN: u64 = 100;

impl<'a> Rules<'a> {
    /// Draws from `lot` until somebody may have the request.
    pub(super) fn draw(&self, lot: &'a Lot) -> Option<Picked> {
        let strategy = self.balancer.policy().load_balancing.policy;
        // Whoever is spared while he warms up is better than somebody unhealthy.
        let mut spared = None;
        for n in 0..DRAWS {
            let Some(candidate) = self.draw_once(lot, strategy, n) else { break };
            if !self.is_spared(candidate, n) {
                if let Some(picked) = self.admit(candidate) {
                    return Some(picked);
                }
            } else if spared.is_none() {
                spared = Some(candidate);
            }
        }
        spared.and_then(|candidate| self.admit(candidate)).or_else(|| self.look_at_all(lot))
    }

    fn draw_once(&self, lot: &'a Lot, strategy: Strategy, n: u64) -> Option<&'a Arc<Candidate>> {
        let by_chance = |salt: u64| lot.all().get(lot.at_chance(self.chance(n + salt)));
        let in_turn = || if n == 0 { lot.all().get(lot.at_turn(self.turn)) } else { by_chance(1) };
        match (strategy, self.ask.hash) {
            (Strategy::RoundRobin, _) | (Strategy::Hash, None) => in_turn(),
            (Strategy::LeastRequest, _) => better(by_chance(100)?, by_chance(200)?, |one| {
                f64::from(one.standing.load.in_flight()) / f64::from(one.instance.weight.get())
            }),
            (Strategy::PeakEwma, _) => better(by_chance(100)?, by_chance(200)?, |one| {
                f64::from(one.standing.load.cost_us(one.instance.weight.get()))
            }),
            (Strategy::Hash, Some(hash)) => {
                let hash = if n == 0 { hash } else { mix(hash.wrapping_add(n)) };
                let shelf = self.balancer.shelf();
                // Over all zones: whoever has a key has it for everybody.
                shelf.maglev().and_then(|maglev| shelf.all().get(maglev.at(hash)?)).or_else(in_turn)
            }
        }
        .filter(|_| !lot.all().is_empty())
    }

    /// Whether it is left out this time because it has just joined.
    fn is_spared(&self, candidate: &Candidate, n: u64) -> bool {
        let share = share_permille(candidate, self.balancer.policy().load_balancing.slow_start, self.ask.now);
        share.is_some_and(|share| self.chance(n + 300) % 1000 >= share)
    }

    /// The first that may have it, starting with whose turn it is.
    fn look_at_all(&self, lot: &Lot) -> Option<Picked> {
        let (before, after) = lot.all().split_at(lot.at_turn(self.turn).min(lot.all().len()));
        after.iter().chain(before).find_map(|candidate| self.admit(candidate))
    }
}

/// The part of its share that an instance gets which joined others less than `window` ago, in thousandths; `None`: all.
pub(crate) fn share_permille(candidate: &Candidate, window: Duration, now: Millis) -> Option<u64> {
    let age = now.since(candidate.standing.joined?);
    let share = age.as_millis() * 1000 / window.as_millis().max(1);
    (age < window).then(|| u64::try_from(share).unwrap_or(1000).max(SHARE_MIN))
}

/// The one with the lower cost; the first of equals, so that an idle service is served by weight.
fn better<'c>(
    first: &'c Arc<Candidate>,
    second: &'c Arc<Candidate>,
    cost: impl Fn(&Candidate) -> f64,
) -> Option<&'c Arc<Candidate>> {
    if Arc::ptr_eq(first, second) {
        Some(first)
    } else if cost(second) < cost(first) {
        Some(second)
    } else {
        Some(first)
    }
}
