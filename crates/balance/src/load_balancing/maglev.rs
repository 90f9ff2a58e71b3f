//! Always the same instance for the same key, and few changes when instances come and go.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4):
//! a table of slots, a prime number of them, which the instances fill in turn, each in an order of its own. A pick is one
//! look into the table, however many instances there are. An instance of twice the weight has twice the turns. Who takes
//! which slot depends on the instances' keys alone, so that all gateways agree, and a restarted instance gets back what
//! was its own.

use std::sync::Arc;

use crate::{
    hash::{hash, mix},
    instance::candidate::Candidate,
};

/// Slots for up to [`FEW`] instances; the paper's and Envoy's choice.
const SLOTS: usize = 65_537;
/// Slots for more. Who has which key changes once, when a service grows beyond [`FEW`].
const SLOTS_OF_MANY: usize = 1_048_583;
const FEW: usize = 1000;

/// The table.
#[derive(Debug)]
pub(crate) struct Maglev {
    /// What it was made of: instances by their key's hash, with weights.
    members: Vec<(u64, u16)>,
    /// Slot → index of the instance.
    slots: Vec<u32>,
}

// === impl Maglev ===

impl Maglev {
    /// The table of these candidates; `before` itself when it is the same.
    pub(crate) fn of(candidates: &[Arc<Candidate>], before: Option<&Arc<Self>>) -> Arc<Self> {
        let member = |one: &Arc<Candidate>| (hash(one.key.key().as_bytes()), one.instance.weight.get());
        let members: Vec<_> = candidates.iter().map(member).collect();
        match before {
            Some(before) if before.members == members => Arc::clone(before),
            _ => Arc::new(Self::new(members)),
        }
    }

    fn new(members: Vec<(u64, u16)>) -> Self {
        let slots = fill(&members, if members.len() > FEW { SLOTS_OF_MANY } else { SLOTS });
        Self { members, slots }
    }

    /// The index of the instance that has the key with this hash; `None` when there is no instance.
    pub(crate) fn at(&self, hash: u64) -> Option<usize> {
        let slot = hash % u64::try_from(self.slots.len()).ok().filter(|slots| *slots > 0)?;
        self.slots.get(usize::try_from(slot).ok()?).map(|index| *index as usize)
    }
}

/// How one instance goes through the slots.
struct Walk {
    next: usize,
    step: usize,
    /// Turns that it has saved up, in parts of `weight_max`.
    credit: u32,
    weight: u32,
}

/// Empty.
const EMPTY: u32 = u32::MAX;

fn fill(members: &[(u64, u16)], size: usize) -> Vec<u32> {
    let Some(weight_max) = members.iter().map(|(_, weight)| u32::from(*weight)).max() else { return Vec::new() };
    let mut slots = vec![EMPTY; size];
    let walk = |&(hash, weight): &(u64, u16)| Walk {
        next: within(hash, size),
        step: within(mix(hash), size - 1) + 1,
        credit: 0,
        weight: weight.into(),
    };
    let mut walks: Vec<Walk> = members.iter().map(walk).collect();
    let mut left = size;
    loop {
        for (index, walk) in (0..).zip(&mut walks) {
            walk.credit += walk.weight;
            if walk.credit < weight_max {
                continue;
            }
            walk.credit -= weight_max;
            while slots[walk.next] != EMPTY {
                walk.next = (walk.next + walk.step) % size;
            }
            slots[walk.next] = index;
            left -= 1;
            if left == 0 {
                return slots;
            }
        }
    }
}

/// A number below `size`.
fn within(hash: u64, size: usize) -> usize {
    usize::try_from(hash % size as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(weights: &[u16]) -> Vec<(u64, u16)> {
        (0..).zip(weights).map(|(n, weight): (u64, _)| (mix(n), *weight)).collect()
    }

    /// The keys of the owners, by slot.
    fn owners(members: &[(u64, u16)]) -> Vec<u64> {
        let table = Maglev::new(members.to_vec());
        table.slots.iter().map(|index| members[*index as usize].0).collect()
    }

    #[test]
    fn nobody_is_no_reason_to_panic() {
        assert_eq!(Maglev::new(Vec::new()).at(7), None);
        assert_eq!(Maglev::new(members(&[3])).at(u64::MAX), Some(0));
    }

    #[test]
    fn ten_thousand_instances_all_have_slots() {
        let table = Maglev::new(members(&[1; 10_000]));
        let mut counts = vec![0; 10_000];
        (0..table.slots.len() as u64).for_each(|hash| counts[table.at(hash).unwrap()] += 1);
        assert!(counts.iter().all(|count| (100..=110).contains(count)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn everybody_gets_a_share_by_weight(weights in prop::collection::vec(1_u16..50, 1..40)) {
            let members = members(&weights);
            let (table, total) = (Maglev::new(members), weights.iter().copied().map(f64::from).sum::<f64>());
            let mut counts = vec![0_u32; weights.len()];
            for hash in 0..SLOTS as u64 {
                counts[table.at(hash).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = f64::from(*weight) / total * SLOTS as f64;
                prop_assert!((f64::from(*count) - expected).abs() <= expected * 0.05 + 50.0, "{} for {}", count, expected);
            }
        }

        #[test]
        fn when_one_goes_hardly_anything_else_moves(weights in prop::collection::vec(1_u16..5, 2..60), which: prop::sample::Index) {
            let before = members(&weights);
            let gone = before[which.index(before.len())].0;
            let after: Vec<_> = before.iter().copied().filter(|(hash, _)| *hash != gone).collect();
            prop_assume!(after.iter().map(|one| one.1).max() == before.iter().map(|one| one.1).max());
            let pairs: Vec<_> = owners(&before).into_iter().zip(owners(&after)).collect();
            let moved = pairs.iter().filter(|(was, is)| *was != gone && was != is).count();
            prop_assert!(moved * 100 <= SLOTS * 4, "{} of {} slots moved needlessly", moved, SLOTS);
        }
    }
}
