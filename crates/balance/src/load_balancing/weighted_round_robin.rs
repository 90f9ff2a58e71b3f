//! In turn, by weight.
//!
//! Equal weights are plain round robin. Unequal ones use a low-discrepancy sequence: turn `n` falls at the fraction
//! `n × φ mod 1` of the summed weights (φ the golden ratio), which spreads the turns of every instance evenly, needs no
//! state but the turn, and costs a binary search, however many instances there are. Smooth weighted round robin, the
//! usual way, walks and writes over all instances for every pick.

use crate::load_balancing::subset::Window;

/// Where each turn falls.
#[derive(Debug, Clone, Default)]
pub(crate) struct WeightedRoundRobin {
    len: usize,
    /// Running sums of the weights; empty when all are equal.
    sums: Vec<u64>,
}

/// 2⁶⁴ ÷ φ, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl WeightedRoundRobin {
    pub(crate) fn new(weights: impl IntoIterator<Item = u64>) -> Self {
        let weights: Vec<u64> = weights.into_iter().collect();
        let len = weights.len();
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self { len, sums: Vec::new() };
        }
        let running = weights.into_iter().scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { len, sums: running.collect() }
    }

    /// Whether all weights are equal.
    pub(crate) fn is_even(&self) -> bool {
        self.sums.is_empty()
    }

    /// The index whose turn it is; 0 when there are none.
    pub(crate) fn at(&self, turn: usize) -> usize {
        let Some(total) = self.sums.last() else { return turn.checked_rem(self.len).unwrap_or(0) };
        self.at_point(*total, (turn as u64).wrapping_mul(GOLDEN))
    }

    /// The index at this fraction of 2⁶⁴ of the weights; 0 when there are none.
    pub(crate) fn at_fraction(&self, fraction: u64) -> usize {
        match self.sums.last() {
            Some(total) => self.at_point(*total, fraction),
            None => scale(fraction, self.len),
        }
    }

    /// The index of the one of a window whose turn it is, or the same place `shift` windows further.
    pub(crate) fn at_turn_in(&self, window: Window, shift: usize, turn: usize) -> usize {
        match self.sums.last() {
            Some(total) => self.at_point(*total, self.part(window, shift, (turn as u64).wrapping_mul(GOLDEN))),
            None => self.place_of(window, shift, window.slot),
        }
    }

    /// The index at this fraction of 2⁶⁴ of a window, or the same place `shift` windows further.
    pub(crate) fn at_chance_in(&self, window: Window, shift: usize, fraction: u64) -> usize {
        match self.sums.last() {
            Some(total) => self.at_point(*total, self.part(window, shift, fraction)),
            None => self.place_of(window, shift, scale(fraction, window.size)),
        }
    }

    /// The index of the last one of a window.
    pub(crate) fn last_in(&self, window: Window) -> usize {
        self.places_in(window).next_back().unwrap_or(0)
    }

    /// The indices of those of a window.
    pub(crate) fn places_in(&self, window: Window) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let (first, count, len) = match self.sums.last() {
            Some(total) => {
                let first = self.at_point(*total, window.start);
                let last = self.at_point(*total, self.part(window, 0, u64::MAX));
                // From one heavy instance all the way round to itself, or within it.
                let own = self.sums[first] - first.checked_sub(1).map_or(0, |before| self.sums[before]);
                let is_round = last == first && self.length(window) > share(own, *total);
                let count = if is_round { self.len } else { (last + self.len - first) % self.len + 1 };
                (first, count, self.len)
            }
            None => (scale(window.start, self.len), window.size.min(self.len), self.len),
        };
        (first..first + count).map(move |place| place.checked_rem(len).unwrap_or(0))
    }

    /// A fraction of a window as one of the whole.
    fn part(&self, window: Window, shift: usize, fraction: u64) -> u64 {
        let length = self.length(window);
        let within = u64::try_from((u128::from(fraction) * u128::from(length)) >> 64).unwrap_or_default();
        window.start.wrapping_add(length.wrapping_mul(shift as u64)).wrapping_add(within)
    }

    /// How much of the whole a window is, in parts of 2⁶⁴.
    fn length(&self, window: Window) -> u64 {
        (u64::MAX / (self.len as u64).max(1)).saturating_mul(window.size as u64)
    }

    fn place_of(&self, window: Window, shift: usize, slot: usize) -> usize {
        (scale(window.start, self.len) + shift * window.size + slot).checked_rem(self.len).unwrap_or(0)
    }

    fn at_point(&self, total: u64, fraction: u64) -> usize {
        let point = (u128::from(fraction) * u128::from(total)) >> 64;
        self.sums.partition_point(|sum| u128::from(*sum) <= point)
    }
}

/// `part` of `total` in parts of 2⁶⁴.
fn share(part: u64, total: u64) -> u64 {
    u64::try_from((u128::from(part) << 64) / u128::from(total.max(1))).unwrap_or(u64::MAX)
}

/// `fraction` of 2⁶⁴ of `count`, which it is below, but for a count of 0.
fn scale(fraction: u64, count: usize) -> usize {
    usize::try_from((u128::from(fraction) * count as u128) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_of_turns_keeps_close_to_the_weights() {
        let turns = WeightedRoundRobin::new([1, 2, 7]);
        for start in [0, 1_000_000, usize::MAX - 200] {
            let mut counts = [0_i32; 3];
            for n in 0..100_usize {
                counts[turns.at(start.wrapping_add(n))] += 1;
            }
            for (count, expected) in counts.iter().zip([10, 20, 70]) {
                assert!((count - expected).abs() <= 3, "{counts:?} from turn {start}");
            }
        }
    }

    #[test]
    fn nobody_is_no_reason_to_panic() {
        assert_eq!(WeightedRoundRobin::new([]).at(7), 0);
        assert_eq!(WeightedRoundRobin::new([5]).at(7), 0);
    }
}
