//! One set, one policy, a few draws.

use std::{sync::Arc, time::Duration};

use discovery::policy::Strategy;

use super::{Picked, Picker};
use crate::{
    clock::Millis,
    instance::candidate::Candidate,
    load_balancing::{
        policy::{self, Draw},
        weighted_set::WeightedSet,
    },
};

/// So many draws, before all are looked at. With at most half of the instances unhealthy (otherwise the judgements are
/// disregarded) that happens to one request in 4,096.
const DRAWS: u64 = 12;

/// What an instance gets of its share at the very beginning of its slow start, in thousandths: enough to warm up.
const SHARE_MIN: u64 = 100;

impl<'a> Picker<'a> {
    /// Draws from the set until an instance may have the request.
    pub(super) fn draw(&self, weighted_set: &'a WeightedSet) -> Option<Picked> {
        let strategy = self.balancer.policy().load_balancing.policy;
        // An instance in slow start is still preferred to an unhealthy one.
        let mut in_slow_start = None;
        for n in 0..DRAWS {
            let Some(candidate) = self.draw_once(weighted_set, strategy, n) else { break };
            if !self.is_in_slow_start(candidate, n) {
                if let Some(picked) = self.admit(candidate) {
                    return Some(picked);
                }
            } else if in_slow_start.is_none() {
                in_slow_start = Some(candidate);
            }
        }
        in_slow_start.and_then(|candidate| self.admit(candidate)).or_else(|| self.look_at_all(weighted_set))
    }

    fn draw_once(&self, weighted_set: &'a WeightedSet, strategy: Strategy, number: u64) -> Option<&'a Arc<Candidate>> {
        let candidate_set = self.balancer.candidate_set();
        let draw = Draw {
            weighted_set,
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
