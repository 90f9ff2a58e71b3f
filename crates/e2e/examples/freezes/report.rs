//! What was measured: a line for each round, and one row for an etcd.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use e2e::{latency::quantile, users::Answer};

/// In windows of that length the share of each instance is counted.
const WINDOW: Duration = Duration::from_millis(500);

/// Above the rows.
pub(crate) const HEADER: &str = "\
| etcd | freezes | with deletions | keys deleted | gap in etcd (p50, max) | out of use at the gateway (times; p50, max) \
| largest share of one instance in 0.5 s after the thaw | requests, failed |\n|---|---|---|---|---|---|---|---|";

/// One freeze.
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) frozen_for: Duration,
    /// How long each deleted key was not there; `None`: longer than was watched.
    pub(crate) gaps: Vec<Option<Duration>>,
    /// How long each instance was unregistered and got no requests.
    pub(crate) unused: Vec<Duration>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) thawed: Instant,
}

/// All freezes of one etcd.
pub(crate) struct Report {
    version: String,
    instances: usize,
    rounds: Vec<Round>,
}

// === impl Round ===

impl Round {
    fn failed(&self) -> usize {
        self.answers.iter().filter(|answer| answer.outcome.is_err()).count()
    }

    /// The largest share, in percent, that one instance had of the answers of a window after the thaw.
    fn largest_share_percent(&self) -> usize {
        let mut windows = BTreeMap::<u128, BTreeMap<&str, usize>>::new();
        for answer in self.answers.iter().filter(|answer| answer.at >= self.thawed) {
            let window = (answer.at - self.thawed).as_nanos() / WINDOW.as_nanos();
            if let Ok(name) = &answer.outcome {
                *windows.entry(window).or_default().entry(name).or_default() += 1;
            }
        }
        // The last window is not whole.
        windows.pop_last();
        let share = |window: &BTreeMap<&str, usize>| {
            let all: usize = window.values().sum();
            window.values().max().map_or(0, |most| 100 * most / all)
        };
        windows.values().map(share).max().unwrap_or_default()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.gaps.iter().map(|gap| gap.map_or("for ever".to_owned(), ms)).collect::<Vec<_>>().join(" ");
        let unused = self.unused.iter().max().map_or_else(|| "-".to_owned(), |longest| ms(*longest));
        write!(
            f,
            "round {}: frozen for {:.1} s, {} keys deleted [{longest}], out of use {} times, at most {unused}; largest share {} %, {} of {} failed",
            self.number,
            self.frozen_for.as_secs_f64(),
            self.gaps.len(),
            self.unused.len(),
            self.largest_share_percent(),
            self.failed(),
            self.answers.len(),
        )
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn new(version: String, instances: usize) -> Self {
        Self { version, instances, rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.rounds.len();
        let deleted: usize = self.rounds.iter().map(|round| round.gaps.len()).sum();
        let with_deletions = self.rounds.iter().filter(|round| !round.gaps.is_empty()).count();
        let gaps: Vec<Duration> =
            self.rounds.iter().flat_map(|round| &round.gaps).map(|gap| gap.unwrap_or(Duration::MAX)).collect();
        let unused: Vec<Duration> = self.rounds.iter().flat_map(|round| round.unused.iter().copied()).collect();
        let share = self.rounds.iter().map(Round::largest_share_percent).max().unwrap_or_default();
        let requests: usize = self.rounds.iter().map(|round| round.answers.len()).sum();
        let failed: usize = self.rounds.iter().map(Round::failed).sum();
        write!(
            f,
            "| {} | {rounds} | {with_deletions} | {deleted} of {} | {} | {}; {} | {share} % | {requests}, {failed} |",
            self.version,
            rounds * self.instances,
            spread(&gaps),
            unused.len(),
            spread(&unused),
        )
    }
}

fn spread(spans: &[Duration]) -> String {
    let at = |share| ms(quantile(spans.iter().copied(), share));
    if spans.is_empty() { "none".to_owned() } else { format!("{}, {}", at(0.5), at(1.0)) }
}

fn ms(span: Duration) -> String {
    if span == Duration::MAX { "not back".to_owned() } else { format!("{} ms", span.as_millis()) }
}
