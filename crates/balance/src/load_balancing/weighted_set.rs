//! Instances to draw one from, by weight.

use std::sync::Arc;

use crate::{instance::candidate::Candidate, load_balancing::weighted_round_robin::WeightedRoundRobin};

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(crate) struct WeightedSet {
    candidates: Vec<Arc<Candidate>>,
    turns: WeightedRoundRobin,
}

// === impl WeightedSet ===

impl WeightedSet {
    pub(crate) fn new(candidates: Vec<Arc<Candidate>>) -> Self {
        let turns =
            WeightedRoundRobin::new(candidates.iter().map(|candidate| u64::from(candidate.instance.weight.get())));
        Self { candidates, turns }
    }

    pub(crate) fn all(&self) -> &[Arc<Candidate>] {
        &self.candidates
    }

    /// The index of the one whose turn it is.
    pub(crate) fn at_turn(&self, turn: usize) -> usize {
        self.turns.at(turn)
    }

    /// The index of one by chance, by weight; `chance` is evenly spread over all values.
    pub(crate) fn at_chance(&self, chance: u64) -> usize {
        self.turns.at_fraction(chance)
    }
}
