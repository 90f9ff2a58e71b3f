//! Health of one instance, as traffic and probes have judged it.
//!
//! Leases are slow to tell of a death: 5 s normally, 12 s when etcd's leader dies with the instance, never while etcd has
//! no quorum. Traffic tells at once, so the first failed connect ejects. Per instance:
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | healthy | in rotation | a failed connect; some requests in a row without an answer, or with 5xx → ejected |
//! | ejected | not picked while another instance is left | its time is over → probation; an answer → healthy |
//! | probation | one real request may try it; the others go elsewhere | an answer → healthy; a failure → ejected, twice as long |
//!
//! Beside it stands what the probes say (`active`): an instance that fails them is not picked either, in whichever state it
//! is, and one that passes them has its ejection shortened, so that a real request decides.
//!
//! The ejection starts at `health.passive.base_ejection` and doubles up to `max_ejection`; a part of it is left to chance,
//! so that instances that failed together do not come back together. Failures during an ejection do not count: thirty
//! requests that were under way when an instance died are one death. An answer of 5xx is an answer: it ends an ejection
//! for silence, and not one for answers of 5xx. Not Implemented (501) and HTTP Version Not Supported (505) are about the request,
//! and a client could provoke them at will: they count as any other answer. An instance that registers anew starts healthy. That the last instance is
//! never ejected, and that judgements which condemn most instances are disregarded, is [`crate::load_balancing::pick`]'s doing.
//!
//! The state is one atomic word, so that all cores share it without a lock; every transition is a pure function of it.
//! After Envoy's outlier detection and linkerd's failure accrual.

mod state;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use discovery::policy::Passive;

use crate::clock::Millis;
use state::State;

/// How an attempt ended, as far as it says something about the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the head of a response.
    Answered {
        /// Its status.
        status: u16,
    },
    /// With the head of a good response whose body is still to come: no verdict yet.
    Begun,
    /// No connection could be opened; nothing was sent.
    ConnectFailed,
    /// The connection broke before the response, or the response before its end.
    Broken,
    /// There was no response in time.
    TimedOut,
    /// What came is not HTTP.
    Malformed,
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The instance is left alone, for so long.
    Ejected {
        /// Until a request may try it again.
        lasts: Duration,
    },
    /// It is back in rotation.
    Readmitted,
}

/// One moment's reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Healthy,
    Ejected {
        until: Millis,
    },
    Probation,
    /// By the probes.
    Failing,
}

/// What is known about the health of one instance.
#[derive(Debug, Default)]
pub(crate) struct Outlier {
    word: AtomicU64,
    health_epoch: HealthEpoch,
}

/// Counts the judgements about all instances, so that what follows from them is computed again only when there is a new
/// one. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct HealthEpoch(Arc<AtomicU64>);

/// Whether a response with this status speaks against its instance: 5xx, but not what is about the request.
fn is_fault(status: u16) -> bool {
    status >= 500 && !matches!(status, 501 | 505)
}

// === impl Outlier ===

impl Outlier {
    pub(crate) fn new(health_epoch: HealthEpoch) -> Self {
        Self { word: AtomicU64::default(), health_epoch }
    }

    /// Whether the instance is in rotation.
    pub(crate) fn verdict(&self, now: Millis) -> Verdict {
        self.read().verdict(now)
    }

    /// Whether it is judged unhealthy, also while it may be tried again.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.read().is_unhealthy()
    }

    /// Whether it refused the last connection: then there is nothing to be disregarded.
    pub(crate) fn refuses(&self) -> bool {
        self.read().refuses()
    }

    /// On probation, one caller may try it, who has then taken the turn.
    pub(crate) fn take_probation(&self, now: Millis) -> bool {
        self.change(|state| state.try_out(now)).is_some()
    }

    /// Takes in how an attempt ended. `seed` decides what is left to chance.
    pub(crate) fn record(&self, outcome: Outcome, now: Millis, policy: &Passive, seed: u64) -> Option<Change> {
        // The usual case writes nothing, so that no core takes the cache line from the others.
        let is_fine = matches!(outcome, Outcome::Answered { status } if !is_fault(status));
        if outcome == Outcome::Begun || is_fine && self.word.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (before, after) = self.change(|state| state.after(outcome, now, policy, seed))?;
        let change = before.change_to(after, now)?;
        self.health_epoch.bump();
        Some(change)
    }

    /// It has requests under way and shows no sign of life: as many failures as it takes.
    pub(crate) fn stalled(&self, now: Millis, policy: &Passive, seed: u64) -> Option<Change> {
        let (before, after) = self.change(|state| state.stalled(now, policy, seed))?;
        let change = before.change_to(after, now)?;
        self.health_epoch.bump();
        Some(change)
    }

    /// Takes in what the probes say; true when that is news.
    pub(crate) fn checked(&self, is_passing: bool) -> bool {
        let is_news = self.change(|state| state.checked(is_passing)).is_some();
        if is_news {
            self.health_epoch.bump();
        }
        is_news
    }

    /// A probe says that it is there: a real request may find out at once.
    pub(crate) fn shorten_ejection(&self, now: Millis) -> bool {
        self.change(|state| state.shorten(now)).is_some()
    }

    fn read(&self) -> State {
        State::unpack(self.word.load(Ordering::Relaxed))
    }

    fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<(State, State)> {
        let step = |word| next(State::unpack(word)).map(State::pack);
        let before = State::unpack(self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()?);
        next(before).map(|after| (before, after))
    }
}

// === impl HealthEpoch ===

impl HealthEpoch {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn bump(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
