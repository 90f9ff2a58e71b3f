//! Instances to draw one from, by weight.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{
    instance::candidate::Candidate,
    load_balancing::{
        subset::{SIZE_MIN, Window},
        weighted_round_robin::WeightedRoundRobin,
    },
};

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(crate) struct WeightedSet {
    candidates: Vec<Arc<Candidate>>,
    turns: WeightedRoundRobin,
    /// When they are many enough to be picked from by [subset](crate::load_balancing::subset).
    ring: Option<Arc<Ring>>,
}

/// The order in which windows meet the instances.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// Place on the ring → index of the instance.
    order: Box<[u32]>,
    /// The indices of those that are judged unhealthy, of a moment ago.
    unhealthy: ArcSwap<Vec<u32>>,
}

// === impl WeightedSet ===

impl WeightedSet {
    pub(crate) fn new(candidates: Vec<Arc<Candidate>>) -> Self {
        let turns = WeightedRoundRobin::new(candidates.iter().map(weight));
        Self { candidates, turns, ring: None }
    }

    /// The same on a ring, if they are many, and none has more weight than the smallest window has room for.
    pub(crate) fn on_ring(candidates: Vec<Arc<Candidate>>) -> Self {
        let (total, most) = (candidates.iter().map(weight).sum::<u64>(), candidates.iter().map(weight).max());
        let is_too_heavy = most.unwrap_or(0) * candidates.len() as u64 > total * SIZE_MIN as u64;
        if candidates.len() <= SIZE_MIN || is_too_heavy {
            return Self::new(candidates);
        }
        let ring = Ring::of(&candidates);
        let turns = WeightedRoundRobin::new(ring.order.iter().map(|index| weight(&candidates[*index as usize])));
        Self { candidates, turns, ring: Some(Arc::new(ring)) }
    }

    pub(crate) fn all(&self) -> &[Arc<Candidate>] {
        &self.candidates
    }

    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.ring.as_deref()
    }

    /// Whether all have the same weight.
    pub(crate) fn is_even(&self) -> bool {
        self.turns.is_even()
    }

    /// The index of the one whose turn it is.
    pub(crate) fn at_turn(&self, turn: usize) -> usize {
        self.index(self.turns.at(turn))
    }

    /// The index of one by chance, by weight; `chance` is evenly spread over all values.
    pub(crate) fn at_chance(&self, chance: u64) -> usize {
        self.index(self.turns.at_fraction(chance))
    }

    /// The index of the one of a window whose turn it is, or of who stands in for it: at the same place `shift` windows
    /// further along the ring.
    pub(crate) fn at_turn_in(&self, window: Window, shift: usize, turn: usize) -> usize {
        self.index(self.turns.at_turn_in(window, shift, turn))
    }

    /// The same for one of a window by chance.
    pub(crate) fn at_chance_in(&self, window: Window, shift: usize, chance: u64) -> usize {
        self.index(self.turns.at_chance_in(window, shift, chance))
    }

    /// The last one of a window, the one that it took in last.
    pub(crate) fn last_in(&self, window: Window) -> Option<&Arc<Candidate>> {
        self.candidates.get(self.index(self.turns.last_in(window)))
    }

    /// Those of a window.
    pub(crate) fn members(&self, window: Window) -> impl Iterator<Item = &Arc<Candidate>> {
        let places = self.turns.places_in(window);
        places.filter_map(|place| self.candidates.get(self.index(place)))
    }

    fn index(&self, place: usize) -> usize {
        match &self.ring {
            Some(ring) => ring.order.get(place).map_or(0, |index| *index as usize),
            None => place,
        }
    }
}

fn weight(candidate: &Arc<Candidate>) -> u64 {
    u64::from(candidate.instance.weight.get())
}

// === impl Ring ===

impl Ring {
    /// By the hashes of their keys: the same at every gateway, and neighbours by name are none here.
    fn of(candidates: &[Arc<Candidate>]) -> Self {
        // Half of a hash: it is compared for each change of a service, and two that are equal stand in the order of names.
        let half = |candidate: &Candidate| candidate.cookie().first_chunk().map(|half| u64::from_be_bytes(*half));
        let mut places: Vec<_> = (0_u32..).zip(candidates).map(|(index, candidate)| (half(candidate), index)).collect();
        places.sort_unstable();
        Self { order: places.into_iter().map(|(_, index)| index).collect(), unhealthy: ArcSwap::default() }
    }

    /// Takes down who of `candidates`, which are those of the ring, is judged unhealthy.
    pub(crate) fn note_unhealthy(&self, candidates: &[Arc<Candidate>]) {
        let is_unhealthy =
            |(index, candidate): (u32, &Arc<Candidate>)| candidate.state.outlier.is_unhealthy().then_some(index);
        let unhealthy: Vec<u32> = (0..).zip(candidates).filter_map(is_unhealthy).collect();
        if !unhealthy.is_empty() || !self.unhealthy.load().is_empty() {
            self.unhealthy.store(Arc::new(unhealthy));
        }
    }

    /// Indices of those taken down, `count` of them from the one whose turn it is.
    pub(crate) fn unhealthy(&self, turn: usize, count: usize) -> impl Iterator<Item = usize> {
        let all = self.unhealthy.load_full();
        let first = turn.wrapping_mul(count);
        (0..count.min(all.len())).map(move |n| all[first.wrapping_add(n) % all.len()] as usize)
    }
}
