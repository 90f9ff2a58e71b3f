//! When a program that is checked again and again counts as well: `--rise` and `--fall`.

use discovery::Status;

/// The verdict over a sequence of checks.
#[derive(Debug)]
pub(crate) struct Health {
    rise: u32,
    fall: u32,
    status: Option<Status>,
    /// Results in a row that speak against `status`.
    against: u32,
}

// === impl Health ===

impl Health {
    /// Nothing is known yet. `rise` and `fall` are at least 1.
    pub(crate) fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, status: None, against: 0 }
    }

    /// Whether it was well once: before that, it is starting, not failing.
    pub(crate) fn has_passed(&self) -> bool {
        self.status.is_some()
    }

    /// Takes in one result; the new verdict, if this changed it. The first one is always `passing`.
    pub(crate) fn record(&mut self, has_passed: bool) -> Option<Status> {
        let is_passing = self.status == Some(Status::Passing);
        if has_passed == is_passing {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < if is_passing { self.fall } else { self.rise } {
            return None;
        }
        self.against = 0;
        self.status = Some(if has_passed { Status::Passing } else { Status::Critical });
        self.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rise: u32, fall: u32, results: &str) -> String {
        let mut health = Health::new(rise, fall);
        let verdict = |result| match health.record(result == '+') {
            None => '.',
            Some(Status::Passing) => 'P',
            Some(_) => 'C',
        };
        results.chars().map(verdict).collect()
    }

    #[test]
    fn it_takes_rise_and_fall_results_in_a_row_to_change_the_verdict() {
        assert_eq!(verdicts(1, 1, "-+-+"), ".PCP");
        assert_eq!(verdicts(1, 2, "+-+--+"), "P...CP");
        assert_eq!(verdicts(2, 3, "+-++---++"), "...P..C.P");
        assert_eq!(verdicts(2, 3, "++--+--+---"), ".P........C");
    }

    #[test]
    fn what_never_was_well_is_not_critical() {
        assert_eq!(verdicts(1, 1, "-----"), ".....");
        assert!(!Health::new(1, 1).has_passed());
    }
}
