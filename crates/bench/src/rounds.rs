//! Interleaved rounds, medians, ratios.
//!
//! A shared machine is fast in one minute and slow in the next. So each round measures every gateway once, one right
//! after the other, and what is compared are figures of the same round: the ratio to nginx is the median of the rounds'
//! ratios, not the ratio of the medians.

/// One figure per gateway and round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rounds {
    /// By gateway, then by round; all equally long.
    figures: Vec<Vec<f64>>,
}

/// What the rounds say about one gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The median of its figures.
    pub median: f64,
    /// The median of its ratios to the reference in the same rounds.
    pub ratio: f64,
    /// The smallest and the largest of these ratios.
    pub range: (f64, f64),
}

// === impl Rounds ===

impl Rounds {
    /// For so many gateways.
    #[must_use]
    pub fn new(gateways: usize) -> Self {
        Self { figures: vec![Vec::new(); gateways] }
    }

    /// Adds what `gateway` needed in the present round.
    pub fn add(&mut self, gateway: usize, figure: f64) {
        self.figures[gateway].push(figure);
    }

    /// What is known about `gateway`, compared with `reference`; `None` before the first round.
    #[must_use]
    pub fn verdict(&self, gateway: usize, reference: usize) -> Option<Verdict> {
        let pairs = self.figures[gateway].iter().zip(&self.figures[reference]);
        let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
        let smallest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        Some(Verdict { median: median(&self.figures[gateway])?, ratio: median(&ratios)?, range: (smallest, largest) })
    }

    /// How much more `gateway` needed than `reference` in the same rounds; `None` before the first round.
    #[must_use]
    pub fn difference(&self, gateway: usize, reference: usize) -> Option<Spread> {
        let pairs = self.figures[gateway].iter().zip(&self.figures[reference]);
        spread(&pairs.map(|(own, other)| own - other).collect::<Vec<f64>>())
    }

    /// What `gateway` needed; `None` before the first round.
    #[must_use]
    pub fn spread(&self, gateway: usize) -> Option<Spread> {
        spread(&self.figures[gateway])
    }
}

/// Figures of several rounds in short.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Their median.
    pub median: f64,
    /// The smallest and the largest of them.
    pub range: (f64, f64),
}

fn spread(figures: &[f64]) -> Option<Spread> {
    let smallest = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Spread { median: median(figures)?, range: (smallest, largest) })
}

/// The middle one; between the two in the middle when their number is even.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut rounds = Rounds::new(2);
        for (own, reference) in [(5.0, 10.0), (10.0, 20.0), (40.0, 50.0)] {
            rounds.add(0, own);
            rounds.add(1, reference);
        }
        let verdict = rounds.verdict(0, 1).unwrap();
        assert_eq!(verdict, Verdict { median: 10.0, ratio: 0.5, range: (0.5, 0.8) });
        assert_eq!(rounds.verdict(1, 1).unwrap().ratio, 1.0);
        let difference = rounds.difference(0, 1).unwrap();
        assert_eq!(difference, Spread { median: -10.0, range: (-10.0, -5.0) });
        assert_eq!(rounds.spread(0), Some(Spread { median: 10.0, range: (5.0, 40.0) }));
    }
}
