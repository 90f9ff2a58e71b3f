//! Whether an instance passes, by its checks' last results. Plain values.
//!
//! `rise` good results in a row make a check pass, `fall` bad ones make it fail; what comes between leaves it as it was. An
//! instance passes when all of its checks do, and fails when one does. Without checks it passes.

use std::num::NonZeroU32;

/// What is known of a check, or of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// One check fails.
    Fails,
    /// Too few results yet.
    Unknown,
    /// All of them do.
    Passes,
}

/// The results of one check.
#[derive(Debug, Clone)]
pub(super) struct Results {
    rise: NonZeroU32,
    fall: NonZeroU32,
    verdict: Verdict,
    /// Results in a row that speak against the verdict; before there is one, that are alike.
    streak: u32,
    was_good: bool,
}

// === impl Verdict ===

impl Verdict {
    /// Of all checks together.
    pub(super) fn of(checks: impl IntoIterator<Item = Self>) -> Self {
        checks.into_iter().min().unwrap_or(Self::Passes)
    }
}

// === impl Results ===

impl Results {
    /// None yet; `verdict` is what is assumed until there are enough.
    pub(super) fn new(rise: NonZeroU32, fall: NonZeroU32, verdict: Verdict) -> Self {
        Self { rise, fall, verdict, streak: 0, was_good: false }
    }

    /// What they come to.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// One more.
    pub(super) fn note(&mut self, is_good: bool) {
        let (against, enough) = match is_good {
            true => (Verdict::Passes, self.rise),
            false => (Verdict::Fails, self.fall),
        };
        self.streak = if is_good == self.was_good { self.streak.saturating_add(1) } else { 1 };
        self.was_good = is_good;
        if self.verdict != against && self.streak >= enough.get() {
            self.verdict = against;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(verdict: Verdict) -> Results {
        let three = NonZeroU32::new(3).unwrap();
        Results::new(NonZeroU32::new(2).unwrap(), three, verdict)
    }

    fn after(mut results: Results, seen: &str) -> Verdict {
        seen.chars().for_each(|one| results.note(one == '+'));
        results.verdict()
    }

    #[test]
    fn it_takes_rise_good_ones_in_a_row_to_pass_and_fall_bad_ones_to_fail() {
        for (seen, verdict) in [
            ("", Verdict::Unknown),
            ("-", Verdict::Unknown),
            ("+-+-+-", Verdict::Unknown),
            ("++", Verdict::Passes),
            ("++--", Verdict::Passes),
            ("++--+--+--", Verdict::Passes),
            ("++---", Verdict::Fails),
            ("++---+-+-+", Verdict::Fails),
            ("---", Verdict::Fails),
            ("---++", Verdict::Passes),
        ] {
            assert_eq!(after(results(Verdict::Unknown), seen), verdict, "{seen}");
        }
        assert_eq!(after(results(Verdict::Passes), "--"), Verdict::Passes, "taken over from another registry");
        assert_eq!(after(results(Verdict::Passes), "---"), Verdict::Fails);
        assert_eq!(after(results(Verdict::Passes), "+++++++++++++++---"), Verdict::Fails, "however long it passed");
    }

    #[test]
    fn an_instance_is_as_its_worst_check() {
        assert_eq!(Verdict::of([]), Verdict::Passes);
        assert_eq!(Verdict::of([Verdict::Passes, Verdict::Unknown]), Verdict::Unknown);
        assert_eq!(Verdict::of([Verdict::Passes, Verdict::Fails, Verdict::Unknown]), Verdict::Fails);
    }
}
