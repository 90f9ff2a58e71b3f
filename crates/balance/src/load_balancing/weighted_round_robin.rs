//! In turn, by weight.
//!
//! Equal weights are plain round robin. Unequal ones use a low-discrepancy sequence: turn `n` falls at the fraction
//! `n × φ mod 1` of the summed weights (φ the golden ratio), which spreads the turns of every instance evenly, needs no
//! state but the turn, and costs a binary search, however many instances there are. Smooth weighted round robin, the
//! usual way, walks and writes over all instances for every pick.

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

    /// The index whose turn it is; 0 when there are none.
    pub(crate) fn at(&self, turn: usize) -> usize {
        let Some(total) = self.sums.last() else { return turn.checked_rem(self.len).unwrap_or(0) };
        self.at_point(*total, (turn as u64).wrapping_mul(GOLDEN))
    }

    /// The index at this fraction of 2⁶⁴ of the weights; 0 when there are none.
    pub(crate) fn at_fraction(&self, fraction: u64) -> usize {
        match self.sums.last() {
            Some(total) => self.at_point(*total, fraction),
            None => usize::try_from((u128::from(fraction) * self.len as u128) >> 64).unwrap_or_default(),
        }
    }

    fn at_point(&self, total: u64, fraction: u64) -> usize {
        let point = (u128::from(fraction) * u128::from(total)) >> 64;
        self.sums.partition_point(|sum| u128::from(*sum) <= point)
    }
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
