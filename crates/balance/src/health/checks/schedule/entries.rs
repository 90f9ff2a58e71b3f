//! Everyone who is asked, in parts of which one after the other is looked at when they are many.

use std::collections::HashMap;

use super::Entry;
use crate::hash::mix;

/// Parts.
const PARTS: usize = 4;
/// Up to so many are looked at in every round; of more a quarter, so that instances that are not due stay cheap: looking at ten
/// thousand is a millisecond, twenty times a second. Each is then looked at every fifth of a second.
const FEW: usize = 2000;

/// By serial number.
#[derive(Debug, Default)]
pub(super) struct Entries {
    parts: [HashMap<u64, Entry>; PARTS],
    round: usize,
}

// === impl Entries ===

impl Entries {
    pub(super) fn insert(&mut self, serial: u64, entry: Entry) {
        self.parts[part(serial)].insert(serial, entry);
    }

    pub(super) fn remove(&mut self, serial: u64) -> Option<Entry> {
        self.parts[part(serial)].remove(&serial)
    }

    pub(super) fn get_mut(&mut self, serial: u64) -> Option<&mut Entry> {
        self.parts[part(serial)].get_mut(&serial)
    }

    /// Those to be looked at in this round.
    pub(super) fn in_turn(&mut self) -> impl Iterator<Item = &mut Entry> {
        let are_few = self.parts.iter().map(HashMap::len).sum::<usize>() <= FEW;
        self.round = (self.round + 1) % PARTS;
        let looked_at = if are_few { &mut self.parts[..] } else { &mut self.parts[self.round..=self.round] };
        looked_at.iter_mut().flat_map(HashMap::values_mut)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.parts.iter().flatten()
    }
}

fn part(serial: u64) -> usize {
    usize::try_from(mix(serial) % PARTS as u64).unwrap_or_default()
}
