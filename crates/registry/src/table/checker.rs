//! Checks one instance, and keeps it registered while it passes.
//!
//! ```text
//! what holds the id?       passes                 too few results yet      fails
//! ├─ nothing ───────────── register it            wait                     say why
//! ├─ the table ─────────── keep its lease alive,  keep its lease alive,    deregister it
//! │                        write what changed     as it is registered
//! └─ another ───────────── leave it alone: what sends heartbeats, is imported or was written by hand knows better
//! ```
//!
//! That is looked at again after every result and every [`TICK`], so it does not matter what happened in between: a
//! registration that etcd lost is written again, one that another registry wrote is taken as it is.
//!
//! *Taken over.* An instance that is registered by the table, at the address that the table has, passed at the registry
//! that checked it before. It counts as passing until it has failed `fall` times here; its life goes on under the same
//! lease, which is kept alive before the first result is there. One whose address the table has changed stays as it is
//! registered until the new address has passed or failed.

use std::{sync::Arc, time::Duration};

use discovery::{Incarnation, Instance, LeaseId, Origin, Reason};
use discovery_etcd::Held;
use service_kit::chain;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    announcement::State,
    board::{Board, CheckStanding},
    check::Check,
    document::Entry,
    metrics::TableMetrics,
    peers::{Peers, Term},
    probe::{Outcome, Prober},
    verdict::{Results, Verdict},
};
use crate::{
    error::RegistryError,
    mirror::Mirror,
    registrar::{Heartbeat, Registrar},
};

/// How often is looked whether all is as it should be.
const TICK: Duration = Duration::from_millis(500);
/// How often the lease is kept alive: like any heartbeat.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// After a refusal, how long until the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often the log says that an instance cannot be deregistered.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// Results that wait to be read.
const RESULTS_MAX: usize = 16;

/// What every checker works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) registrar: Arc<Registrar>,
    pub(super) mirror: Mirror,
    pub(super) peers: Peers,
    pub(super) prober: Prober,
    pub(super) board: Board,
    pub(super) metrics: TableMetrics,
}

/// Checks one instance.
#[derive(Debug)]
pub(super) struct Checker {
    entry: Arc<Entry>,
    parts: Parts,
    /// What it knows counts for as long as this lasts: after a gap another registry has known more.
    term: Term,
    checks: Vec<Checked>,
    /// Before this moment the lease needs no keep-alive, and a refused registration no other attempt.
    next: Instant,
    /// Why it could not be registered.
    refusal: Option<Reason>,
    /// When the log last said that it is deregistered, since it has failed.
    said: Option<Instant>,
}

/// One check, and what came of it.
#[derive(Debug)]
struct Checked {
    check: Check,
    results: Results,
    /// Of the last bad result, if none was good since.
    reason: Option<Reason>,
}

/// What holds the id of the instance.
#[derive(Debug, PartialEq)]
enum Holder {
    Nothing,
    Table { lease: LeaseId, instance: Instance },
    Another(Reason),
}

// === impl Checker ===

impl Checker {
    pub(super) fn new(entry: Arc<Entry>, parts: Parts, term: Term) -> Self {
        Self { entry, parts, term, checks: Vec::new(), next: Instant::now(), refusal: None, said: None }
    }

    /// Goes on for as long as it is polled.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.parts.mirror.is_fresh() {
            ticks.tick().await;
        }
        let taken_over = self.begin();
        let (results, mut arriving) = mpsc::channel(RESULTS_MAX);
        // Dropped with this task, and with them every check that is under way.
        let mut checking = JoinSet::new();
        for (place, Checked { check, .. }) in self.checks.iter().enumerate() {
            // After a registry has died its share begins elsewhere, but not all in the same moment.
            let first = if taken_over { check.interval.mul_f64(rand::random_range(0.0..1.0)) } else { Duration::ZERO };
            let repeated = repeat(place, check.clone(), Arc::clone(&self.entry), self.parts.clone(), results.clone());
            checking.spawn(async move {
                sleep(first).await;
                repeated.await;
            });
        }
        loop {
            tokio::select! {
                Some((place, outcome)) = arriving.recv() => self.note(place, outcome),
                _ = ticks.tick() => {}
            }
            self.settle().await;
        }
    }

    /// What is assumed until there are results; whether the instance is registered.
    fn begin(&mut self) -> bool {
        let (verdict, is_registered) = match self.holder() {
            Holder::Table { instance, .. } if instance.address == self.entry.instance.address => {
                (Verdict::Passes, true)
            }
            Holder::Table { .. } => (Verdict::Unknown, true),
            Holder::Nothing | Holder::Another(_) => (Verdict::Unknown, false),
        };
        let checked = |check: &Check| Checked {
            check: check.clone(),
            results: Results::new(check.rise, check.fall, verdict),
            reason: None,
        };
        self.checks = self.entry.checks.iter().map(checked).collect();
        if is_registered {
            self.parts.metrics.taken_over.inc();
            tracing::info!(key = %self.entry.key, "checks of an instance of the table taken over");
        }
        is_registered
    }

    fn note(&mut self, place: usize, outcome: Outcome) {
        let Some(checked) = self.checks.get_mut(place) else { return };
        match outcome {
            Outcome::Good => {
                checked.reason = None;
                checked.results.note(true);
            }
            Outcome::Bad(reason) => {
                checked.reason = Some(reason);
                checked.results.note(false);
            }
            Outcome::Unresolved(reason) => checked.reason = Some(reason),
            Outcome::Void => {}
        }
    }

    /// Makes it as it should be, by one step.
    async fn settle(&mut self) {
        let key = self.entry.key.clone();
        if !self.parts.peers.is_ours(&key, self.term) {
            return;
        }
        let is_fresh = self.parts.mirror.is_fresh();
        let verdict = self.verdict();
        if verdict != Verdict::Fails {
            self.said = None;
        }
        match (self.holder(), verdict) {
            (Holder::Another(reason), _) => self.show(State::Contested, Some(reason)),
            (Holder::Table { lease, .. }, Verdict::Passes) => {
                self.show(State::Passing, None);
                self.keep(lease, self.entry.instance.clone()).await;
            }
            (Holder::Table { lease, instance }, Verdict::Unknown) => {
                self.show(State::Pending, self.reason());
                self.keep(lease, instance).await;
            }
            (Holder::Table { lease, .. }, Verdict::Fails) => {
                self.show(State::Failing, self.reason());
                if is_fresh {
                    self.end(lease).await;
                }
            }
            (Holder::Nothing, Verdict::Passes) => {
                let state = if self.refusal.is_some() { State::Refused } else { State::Pending };
                self.show(state, self.refusal.clone());
                if is_fresh {
                    self.register().await;
                }
            }
            (Holder::Nothing, Verdict::Unknown) => self.show(State::Pending, self.reason()),
            (Holder::Nothing, Verdict::Fails) => self.show(State::Failing, self.reason()),
        }
    }

    fn holder(&self) -> Holder {
        Holder::of(self.parts.mirror.read().held(&self.entry.key))
    }

    fn verdict(&self) -> Verdict {
        Verdict::of(self.checks.iter().map(|checked| checked.results.verdict()))
    }

    /// Why it does not pass: that of the first check which does not.
    fn reason(&self) -> Option<Reason> {
        let verdict = self.verdict();
        let worst = self.checks.iter().filter(|checked| checked.results.verdict() == verdict);
        worst.filter_map(|checked| checked.reason.clone()).next()
    }

    fn show(&self, state: State, reason: Option<Reason>) {
        let checks = self.checks.iter().map(|Checked { check, results, reason }| CheckStanding {
            kind: check.probe.kind(),
            passes: match results.verdict() {
                Verdict::Passes => Some(true),
                Verdict::Fails => Some(false),
                Verdict::Unknown => None,
            },
            reason: reason.clone(),
        });
        self.parts.board.show(&self.entry.key, state, reason, checks.collect());
    }

    /// Whether it is time to write; the next time is after `pause`.
    fn is_due(&mut self, pause: Duration) -> bool {
        let now = Instant::now();
        let is_due = self.next <= now;
        if is_due {
            self.next = now + pause;
        }
        is_due
    }

    async fn keep(&mut self, lease: LeaseId, instance: Instance) {
        self.refusal = None;
        if !self.is_due(KEEP_INTERVAL) {
            return;
        }
        match self.parts.registrar.keep_checked(self.heartbeat(instance), Incarnation(lease)).await {
            // Another registry has ended or replaced that life: the mirror will show which.
            Ok(()) | Err(RegistryError::AnotherIncarnation { .. } | RegistryError::IncarnationEnded { .. }) => {}
            Err(error) => {
                self.next = Instant::now();
                tracing::debug!(key = %self.entry.key, error = %chain(&error), "cannot keep an instance of the table alive");
            }
        }
    }

    async fn register(&mut self) {
        if !self.is_due(RETRY_INTERVAL) || !self.parts.peers.confirm(&self.entry.key, self.term).await {
            return;
        }
        match self.parts.registrar.register_checked(self.heartbeat(self.entry.instance.clone())).await {
            Ok(()) => (self.refusal, self.next) = (None, Instant::now() + KEEP_INTERVAL),
            Err(RegistryError::AnotherIncarnation { .. } | RegistryError::Contended(_)) => {}
            Err(error) => {
                let reason = Reason::shorten(&chain(&error).to_string());
                if reason != self.refusal {
                    let error = chain(&error);
                    tracing::warn!(key = %self.entry.key, %error, "an instance of the table passes and cannot be registered");
                }
                self.refusal = reason;
            }
        }
    }

    async fn end(&mut self, lease: LeaseId) {
        let is_again = self.said.is_some();
        if (is_again && !self.is_due(RETRY_INTERVAL)) || !self.parts.peers.confirm(&self.entry.key, self.term).await {
            return;
        }
        let key = &self.entry.key;
        let reason = self.reason().map(|reason| reason.to_string());
        let is_said = self.said.is_none_or(|said| said.elapsed() >= SAID_AGAIN);
        if is_said {
            self.said = Some(Instant::now());
        }
        if !is_again {
            tracing::warn!(%key, reason, "an instance of the table fails its checks; it is deregistered");
        }
        let ended = self.parts.registrar.deregister(key.clone(), Some(Incarnation(lease))).await;
        match ended {
            Err(error) if is_said => {
                let error = chain(&error);
                tracing::warn!(%key, reason, %error, "cannot deregister an instance of the table; retrying");
            }
            Err(error) => {
                tracing::debug!(%key, error = %chain(&error), "cannot deregister an instance of the table");
            }
            Ok(_) => {}
        }
    }

    fn heartbeat(&self, instance: Instance) -> Heartbeat {
        Heartbeat { key: self.entry.key.clone(), instance, ttl: self.entry.ttl, life: None }
    }
}

/// Does `check` again and again, and sends what came of it.
async fn repeat(place: usize, check: Check, entry: Arc<Entry>, parts: Parts, results: mpsc::Sender<(usize, Outcome)>) {
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let _followed = parts.prober.follow(&check);
    loop {
        ticks.tick().await;
        let outcome = parts.prober.ask(&check, &entry).await;
        parts.metrics.count(check.probe.kind(), &outcome);
        if results.send((place, outcome)).await.is_err() {
            return;
        }
    }
}

// === impl Holder ===

impl Holder {
    fn of(held: Option<Held>) -> Self {
        let Some(Held { instance, lease, .. }) = held else { return Self::Nothing };
        let Some(instance) = instance else {
            return Self::another("the id is held by a value that cannot be read");
        };
        match (Origin::of(&instance, lease), lease) {
            (Origin::Table, Some(lease)) => Self::Table { lease, instance },
            (Origin::Table | Origin::Heartbeat, _) => {
                Self::another(&format!("{} sends heartbeats for this id", instance.address))
            }
            (Origin::Import, _) => Self::another(&format!("{} is imported under this id", instance.address)),
            (Origin::Hand, _) => Self::another(&format!("{} was written by hand under this id", instance.address)),
        }
    }

    fn another(reason: &str) -> Self {
        Self::Another(Reason::shorten(reason).expect("it is not empty"))
    }
}

#[cfg(test)]
mod tests {
    use discovery::Revision;

    use super::*;

    fn holder(value: &str, lease: Option<i64>) -> Holder {
        let instance = value.parse().ok();
        Holder::of(Some(Held { instance, lease: lease.map(LeaseId), modified: Revision(7) }))
    }

    #[test]
    fn only_what_the_table_has_registered_is_its_own() {
        let ours = holder("http://10.0.0.5:3306?meta.registered-by=table", Some(1));
        assert!(matches!(ours, Holder::Table { lease: LeaseId(1), .. }));
        assert_eq!(Holder::of(None), Holder::Nothing);
        for (value, lease, words) in [
            ("10.0.0.5:3306", Some(1), "10.0.0.5:3306 sends heartbeats"),
            ("http://10.0.0.5:3306?meta.registered-by=table", None, "was written by hand"),
            ("http://10.0.0.5:3306?meta.imported=/m", Some(1), "is imported"),
            ("nonsense\n", Some(1), "cannot be read"),
        ] {
            let Holder::Another(reason) = holder(value, lease) else { panic!("{value} {lease:?} is not the table's") };
            assert!(reason.as_str().contains(words), "{reason:?}");
        }
    }
}
