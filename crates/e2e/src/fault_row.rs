//! One line of the fault table: what users noticed of a fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use crate::users::{Answer, is_post};

/// What users noticed, and what the witnesses wrote down.
#[derive(Debug)]
pub struct FaultRow {
    fault: String,
    /// What became of all requests.
    pub answers: Vec<Answer>,
    /// How often each request reached a witness.
    received: BTreeMap<u64, usize>,
    /// Further measurements: `ejected after 0.012 s`.
    notes: Vec<String>,
}

// === impl FaultRow ===

impl FaultRow {
    /// The row of `fault`; `received` holds the number of every request that a witness wrote down.
    #[must_use]
    pub fn new(fault: &str, answers: Vec<Answer>, received: impl IntoIterator<Item = u64>) -> Self {
        let mut counts = BTreeMap::new();
        for number in received {
            *counts.entry(number).or_insert(0) += 1;
        }
        Self { fault: fault.to_owned(), answers, received: counts, notes: Vec::new() }
    }

    /// Adds a measurement.
    #[must_use]
    pub fn with(mut self, what: &str, took: Option<Duration>) -> Self {
        let took = took.map_or_else(|| "never".to_owned(), |took| format!("after {:.3} s", took.as_secs_f64()));
        self.notes.push(format!("{what} {took}"));
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn with_note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// Requests of one kind that failed.
    pub fn failed(&self, post: bool) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.outcome.is_err() && is_post(answer.number) == post)
    }

    /// Numbers of POSTs that reached more than one witness, or one twice.
    pub fn replayed(&self) -> impl Iterator<Item = u64> {
        self.received.iter().filter(|(number, times)| is_post(**number) && **times > 1).map(|(number, _)| *number)
    }

    /// POSTs that a witness never saw although the user was told 200.
    pub fn lost(&self) -> impl Iterator<Item = u64> {
        let told = self.answers.iter().filter(|answer| answer.outcome.is_ok() && is_post(answer.number));
        told.map(|answer| answer.number).filter(|number| !self.received.contains_key(number))
    }

    /// How often one of `names` answered nothing for a whole `window`: it lived, and was left out.
    ///
    /// The last window is not whole and does not count.
    #[must_use]
    pub fn idle_windows(&self, names: &[&str], window: Duration) -> usize {
        let Some(start) = self.answers.iter().map(|answer| answer.at).min() else { return 0 };
        let index = |at: Instant| (at - start).as_nanos() / window.as_nanos();
        let last = self.answers.iter().map(|answer| index(answer.at)).max().unwrap_or_default();
        let answered: BTreeSet<_> = self
            .answers
            .iter()
            .filter_map(|answer| Some((index(answer.at), answer.outcome.as_deref().ok()?)))
            .collect();
        (0..last)
            .flat_map(|window| names.iter().map(move |name| (window, *name)))
            .filter(|one| !answered.contains(one))
            .count()
    }

    /// Prints the row and checks what holds under every fault: no GET fails, no POST is sent twice or lost, and POSTs fail
    /// only in the time `at_risk`, in which an instance died with them.
    ///
    /// # Panics
    ///
    /// When one of these does not hold.
    pub fn check(&self, at_risk: Option<(Instant, Instant)>) {
        self.show();
        assert_eq!(self.failed(false).count(), 0, "{self}\nGET must never fail: {}", self.first_failures(false));
        assert_eq!(self.replayed().count(), 0, "{self}\nno POST is ever sent twice");
        assert_eq!(self.lost().count(), 0, "{self}\nwhat was answered was received");
        let is_at_risk = |answer: &&Answer| at_risk.is_some_and(|(from, to)| answer.at >= from && answer.due <= to);
        let beyond = self.failed(true).filter(|answer| !is_at_risk(answer)).count();
        assert_eq!(beyond, 0, "{self}\nPOST must not fail: {}", self.first_failures(true));
    }

    /// Prints the row.
    pub fn show(&self) {
        #[expect(clippy::print_stdout, reason = "what was measured is shown")]
        {
            println!("{self}");
        }
    }

    /// The latency that `share` of the answered requests did not exceed.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        latency(&self.answers, share)
    }

    fn first_failures(&self, post: bool) -> String {
        let start = self.answers.iter().map(|answer| answer.due).min();
        let line = |answer: &Answer| {
            let due = start.map_or(0.0, |start| (answer.due - start).as_secs_f64());
            let why = answer.outcome.as_ref().map_or_else(ToString::to_string, Clone::clone);
            format!(
                "\n  number {}, due at {due:.3} s, {why} after {:.3} s",
                answer.number,
                answer.latency().as_secs_f64()
            )
        };
        self.failed(post).take(10).map(line).collect()
    }
}

/// The latency that `share` (0.0 to 1.0) of the answered requests did not exceed.
#[must_use]
pub fn latency(answers: &[Answer], share: f64) -> Duration {
    let mut sorted: Vec<Duration> =
        answers.iter().filter(|answer| answer.outcome.is_ok()).map(Answer::latency).collect();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len().saturating_sub(1) as f64 * share.clamp(0.0, 1.0)) as usize;
    sorted.get(index).copied().unwrap_or_default()
}

impl fmt::Display for FaultRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.latency(share).as_secs_f64() * 1000.0;
        write!(
            f,
            "| {} | {} requests | {} GET, {} POST failed | {} replayed | p50 {:.1}, p99 {:.1}, max {:.1} ms | {} |",
            self.fault,
            self.answers.len(),
            self.failed(false).count(),
            self.failed(true).count(),
            self.replayed().count(),
            ms(0.5),
            ms(0.99),
            ms(1.0),
            self.notes.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Failed;

    fn answer(number: u64, start: Instant, outcome: Result<&str, u16>) -> Answer {
        let at = start + Duration::from_millis(number);
        let outcome = outcome.map(str::to_owned).map_err(Failed::Status);
        Answer { number, due: start, sent: Some(start), at, outcome }
    }

    #[test]
    fn replays_are_posts_that_arrived_twice_and_losses_those_that_never_did() {
        let start = Instant::now();
        let answers = (0..8).map(|number| answer(number, start, Ok("a"))).collect();
        // 3 and 7 are POSTs: 3 arrived twice, 7 never; that GET 2 arrived twice is a retry.
        let row = FaultRow::new("fault", answers, [0, 1, 2, 2, 3, 3, 4, 5, 6]);
        assert_eq!(row.replayed().collect::<Vec<_>>(), [3]);
        assert_eq!(row.lost().collect::<Vec<_>>(), [7]);
        assert_eq!(row.latency(1.0), Duration::from_millis(7));
    }

    #[test]
    fn an_instance_that_answers_nothing_for_a_window_is_counted() {
        let start = Instant::now();
        let by = |number, name| answer(number, start, Ok(name));
        let row = FaultRow::new("fault", vec![by(0, "a"), by(5, "b"), by(12, "a"), by(25, "b")], []);
        // Windows of 10 ms: the first has both, the second lacks b, the third is not whole.
        assert_eq!(row.idle_windows(&["a", "b"], Duration::from_millis(10)), 1);
    }

    #[test]
    fn a_post_may_fail_only_while_it_is_at_risk() {
        let start = Instant::now();
        let row = FaultRow::new("fault", vec![answer(3, start, Err(502)), answer(4, start, Ok("a"))], [4]);
        row.check(Some((start, start + Duration::from_millis(5))));
        assert!(std::panic::catch_unwind(|| row.check(None)).is_err());
    }
}
