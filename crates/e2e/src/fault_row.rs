//! One line of the fault table: what users noticed of a fault, beside what was aimed at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::Write as _,
    time::{Duration, Instant},
};

use crate::{
    latency::{in_ms, quantile},
    scale::Scale,
    table_watch::Removals,
    users::{Answer, is_post},
};

/// What users noticed, and what the test instances wrote down.
#[derive(Debug)]
pub struct FaultRow {
    fault: String,
    scale: Scale,
    /// What became of all requests.
    pub answers: Vec<Answer>,
    /// How often each request reached a test instance.
    received: BTreeMap<u64, usize>,
    /// What was measured beside that, with its aim: `ejected after 0.012 s (aim 0.1 s)`.
    seen: Vec<String>,
    /// Aims that were not met.
    missed: Vec<String>,
}

// === impl FaultRow ===

impl FaultRow {
    /// The row of `fault`; `received` holds the number of every request that a test instance wrote down.
    #[must_use]
    pub fn new(fault: &str, scale: Scale, answers: Vec<Answer>, received: impl IntoIterator<Item = u64>) -> Self {
        let mut counts = BTreeMap::new();
        for number in received {
            *counts.entry(number).or_insert(0) += 1;
        }
        Self { fault: fault.to_owned(), scale, answers, received: counts, seen: Vec::new(), missed: Vec::new() }
    }

    /// Something took so long, or never happened. [`Scale::Full`] demands the `aim`; [`Scale::Short`] runs beside other
    /// tests, and demands that it happens `at_last`.
    #[must_use]
    pub fn within(mut self, what: &str, took: Option<Duration>, aim: Duration, at_last: Duration) -> Self {
        let bound = self.scale.pick(at_last, aim);
        let text = took.map_or_else(|| "never".to_owned(), |took| format!("after {:.3} s", took.as_secs_f64()));
        self.seen.push(format!("{what} {text} (aim {} s)", aim.as_secs_f64()));
        self.holds(
            &format!("{what} {text}, and must within {} s", bound.as_secs_f64()),
            took.is_some_and(|took| took <= bound),
        )
    }

    /// Counts what must not be.
    #[must_use]
    pub fn none(mut self, what: &str, count: usize) -> Self {
        self.seen.push(format!("{count} {what}"));
        self.holds(&format!("{count} {what}"), count == 0)
    }

    /// Demands that no instance was ever missing from the gateway's table, and that the table was observed.
    #[must_use]
    pub fn without_removals(self, removals: &Removals) -> Self {
        let row = self.none("false removals", removals.missing.len());
        let row = row.holds(&format!("missing from the table: {:?}", removals.missing), removals.missing.is_empty());
        let unused = format!("out of rotation at {} of {} looks", removals.unused, removals.looks);
        row.with_note(unused).holds("the table was not observed", removals.looks > 0)
    }

    /// Adds a remark.
    #[must_use]
    pub fn with_note(mut self, note: String) -> Self {
        self.seen.push(note);
        self
    }

    /// Demands that something holds; `unless` says what is the case when it does not.
    #[must_use]
    pub fn holds(mut self, unless: &str, holds: bool) -> Self {
        if !holds {
            self.missed.push(unless.to_owned());
        }
        self
    }

    /// How often each request reached a test instance.
    #[must_use]
    pub fn received(&self) -> &BTreeMap<u64, usize> {
        &self.received
    }

    /// Requests of one kind that failed.
    pub fn failed(&self, post: bool) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(move |answer| answer.outcome.is_err() && is_post(answer.number) == post)
    }

    /// Numbers of POSTs that reached more than one test instance, or one twice.
    pub fn replayed(&self) -> impl Iterator<Item = u64> {
        self.received.iter().filter(|(number, times)| is_post(**number) && **times > 1).map(|(number, _)| *number)
    }

    /// POSTs that a test instance never saw although the user was told 200.
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

    /// Demands what holds under every fault but overload: no GET fails, and POSTs fail only in the time `at_risk`, in
    /// which an instance died with them.
    #[must_use]
    pub fn no_request_failed(self, at_risk: Option<(Instant, Instant)>) -> Self {
        let is_at_risk = |answer: &&Answer| at_risk.is_some_and(|(from, to)| answer.at >= from && answer.due <= to);
        let gets = self.failed(false).count();
        let posts = self.failed(true).filter(|answer| !is_at_risk(answer)).count();
        let unless = format!("{gets} GET failed: {}", self.first_failures(false));
        let row = self.holds(&unless, gets == 0);
        let unless = format!("{posts} POST failed without a failed instance: {}", row.first_failures(true));
        row.holds(&unless, posts == 0)
    }

    /// Demands what holds under every fault, no POST is sent twice or lost, and shows the row.
    ///
    /// # Panics
    ///
    /// When something that was demanded does not hold.
    pub fn check(self) {
        let replayed = self.replayed().count();
        let lost = self.lost().count();
        let row = self.holds(&format!("{replayed} POST were sent twice"), replayed == 0);
        let row = row.holds(&format!("{lost} POST were answered and never received"), lost == 0);
        row.show();
        assert!(row.missed.is_empty(), "{row}\n{}", row.missed.join("\n"));
    }

    /// Prints the row, and adds it to the table in the file that `FAULTS_TABLE` names.
    fn show(&self) {
        #[expect(clippy::print_stdout, reason = "what was measured is shown")]
        {
            println!("{self}");
        }
        if let Some(file) = std::env::var_os("FAULTS_TABLE") {
            let file = File::options().create(true).append(true).open(&file);
            file.and_then(|mut file| writeln!(file, "{self}")).expect("the table of the faults can be written");
        }
    }

    /// The latency that `share` of the answered requests did not exceed.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        latency(&self.answers, share)
    }

    /// Requests a second, as they were due.
    fn per_second(&self) -> f64 {
        let due = || self.answers.iter().map(|answer| answer.due);
        let span = due().min().zip(due().max()).map_or(Duration::ZERO, |(first, last)| last - first);
        #[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
        let count = self.answers.len() as f64;
        count / span.as_secs_f64().max(0.001)
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
    quantile(answers.iter().filter(|answer| answer.outcome.is_ok()).map(Answer::latency), share)
}

impl fmt::Display for FaultRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict =
            if self.missed.is_empty() { "as aimed".to_owned() } else { format!("**{} missed**", self.missed.len()) };
        write!(
            f,
            "| {} | {} at {:.0}/s | {} GET, {} POST | {} | {}, {}, {} | {} | {verdict} |",
            self.fault,
            self.answers.len(),
            self.per_second(),
            self.failed(false).count(),
            self.failed(true).count(),
            self.replayed().count(),
            in_ms(self.latency(0.5)),
            in_ms(self.latency(0.99)),
            in_ms(self.latency(1.0)),
            self.seen.join(", ")
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
        let row = FaultRow::new("fault", Scale::Short, answers, [0, 1, 2, 2, 3, 3, 4, 5, 6]);
        assert_eq!(row.replayed().collect::<Vec<_>>(), [3]);
        assert_eq!(row.lost().collect::<Vec<_>>(), [7]);
        assert_eq!(row.latency(1.0), Duration::from_millis(7));
    }

    #[test]
    fn an_instance_that_answers_nothing_for_a_window_is_counted() {
        let start = Instant::now();
        let by = |number, name| answer(number, start, Ok(name));
        let row = FaultRow::new("fault", Scale::Short, vec![by(0, "a"), by(5, "b"), by(12, "a"), by(25, "b")], []);
        // Windows of 10 ms: the first has both, the second lacks b, the third is not whole.
        assert_eq!(row.idle_windows(&["a", "b"], Duration::from_millis(10)), 1);
    }

    #[test]
    fn a_post_may_fail_only_while_it_is_at_risk() {
        let start = Instant::now();
        let row =
            || FaultRow::new("fault", Scale::Short, vec![answer(3, start, Err(502)), answer(4, start, Ok("a"))], [4]);
        row().no_request_failed(Some((start, start + Duration::from_millis(5)))).check();
        assert!(std::panic::catch_unwind(|| row().no_request_failed(None).check()).is_err());
    }

    #[test]
    fn the_full_scale_demands_the_aim_and_the_short_one_that_it_happens() {
        let aim = Duration::from_secs(1);
        let at_last = Duration::from_secs(5);
        let row = |scale, took| {
            let row = FaultRow::new("fault", scale, Vec::new(), []);
            row.within("ejected", took, aim, at_last).to_string()
        };
        let slow = Some(Duration::from_secs(2));
        assert!(row(Scale::Short, slow).ends_with("| ejected after 2.000 s (aim 1 s) | as aimed |"));
        assert!(row(Scale::Full, slow).ends_with("| ejected after 2.000 s (aim 1 s) | **1 missed** |"));
        assert!(row(Scale::Short, None).ends_with("| ejected never (aim 1 s) | **1 missed** |"));
    }
}
