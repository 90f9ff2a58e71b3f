//! How well writes go: read by readiness checks while others write.
//!
//! A watch that is well says nothing about writes: an etcd whose database has reached its quota answers every read,
//! keeps every lease alive and writes nothing; a role may allow reading only. So every write notes how it went.
//!
//! | failure | ends with |
//! |---|---|
//! | it lasts: full, corrupt | the next lease that is granted, which needs room as well |
//! | it lasts: no right to a prefix | the next write below that prefix, or a minute without another refusal |
//! | it passes, but goes on for [`PASSES_WITHIN`] | the next write or grant |

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::client::{
    error::CallError,
    failure::{Failure, FailureClass},
};

/// Failures that usually pass in milliseconds count as an outage of writes after this time: 3 s.
pub const PASSES_WITHIN: Duration = Duration::from_secs(3);
/// A missing right that was not asked for again is forgotten: 1 min.
const DENIED_FOR: Duration = Duration::from_secs(60);
/// What leases are noted as.
const LEASES: &str = "leases";

/// A handle on how writes go; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct WriteHealth(Arc<Mutex<BTreeMap<String, WriteTrouble>>>);

/// Writes fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTrouble {
    /// Since when.
    pub since: Instant,
    /// When the last one failed.
    pub last: Instant,
    /// How many failed.
    pub failures: u64,
    /// How the last one did.
    pub error: CallError,
}

// === impl WriteHealth ===

impl WriteHealth {
    /// What keeps writes from succeeding at `now`, if anything does: a failure that lasts before one that should pass,
    /// an older one before a newer one.
    pub fn trouble(&self, now: Instant) -> Option<WriteTrouble> {
        let mut troubles = self.troubles();
        troubles.retain(|_, trouble| !trouble.is_forgotten(now));
        let counting = troubles.values().filter(|trouble| trouble.counts(now));
        counting.min_by_key(|trouble| (!trouble.lasts(), trouble.since)).cloned()
    }

    /// A write below `prefix` was tried.
    pub(crate) fn wrote(&self, prefix: &str, error: Option<&CallError>) {
        match error {
            Some(error) => self.failed(prefix, error),
            // A deletion succeeds also while there is no room.
            None => self.troubles().retain(|place, trouble| match trouble.lasts() {
                true => !(trouble.is_denied() && place == prefix),
                false => false,
            }),
        }
    }

    /// A lease was to be granted.
    pub(crate) fn granted(&self, error: Option<&CallError>) {
        match error {
            Some(error) => self.failed(LEASES, error),
            None => self.troubles().retain(|_, trouble| trouble.is_denied()),
        }
    }

    /// A member has raised an alarm that forbids writes, whether a write was tried or not.
    pub(crate) fn alarm(&self, error: &CallError) {
        self.failed(LEASES, error);
    }

    fn failed(&self, place: &str, error: &CallError) {
        // That a lease or key is not as expected is what was asked.
        if matches!(error, CallError::Contended) || error.class() == FailureClass::Answer {
            return;
        }
        // A request that is too large says nothing about others.
        if matches!(error.refusal(), Some(Failure::Refused(_))) {
            return;
        }
        let mut troubles = self.troubles();
        let now = Instant::now();
        let fresh = WriteTrouble { since: now, last: now, failures: 0, error: error.clone() };
        let trouble = troubles.entry(place.to_owned()).or_insert(fresh);
        trouble.last = now;
        trouble.failures += 1;
        trouble.error = error.clone();
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, WriteTrouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl WriteTrouble ===

impl WriteTrouble {
    /// Whether an operator must do something.
    pub fn lasts(&self) -> bool {
        self.error.class() == FailureClass::Lasts
    }

    fn is_denied(&self) -> bool {
        matches!(self.error, CallError::Denied { .. })
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.is_denied() && now.saturating_duration_since(self.last) >= DENIED_FOR
    }

    fn counts(&self, now: Instant) -> bool {
        let goes_on = self.failures > 1 && now.saturating_duration_since(self.since) >= PASSES_WITHIN;
        self.lasts() || goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: Failure) -> CallError {
        CallError::Refused { endpoint: "http://a:2379".into(), source }
    }

    fn full() -> CallError {
        refused(Failure::Full("mvcc: database space exceeded".into()))
    }

    fn denied(prefix: &str) -> CallError {
        refused(Failure::Denied("permission denied".into())).about(prefix)
    }

    fn unavailable() -> CallError {
        CallError::Unavailable { failures: vec![("http://a:2379".into(), Failure::Silent)] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_lasts_counts_at_once_and_a_deletion_does_not_end_it() {
        let health = WriteHealth::default();
        assert_eq!(health.trouble(Instant::now()), None);
        health.wrote("config/", Some(&full()));
        assert!(health.trouble(Instant::now()).is_some_and(|trouble| trouble.lasts()));
        health.wrote("config/", None);
        assert!(health.trouble(Instant::now()).is_some(), "it may have been a deletion");
        health.granted(None);
        assert_eq!(health.trouble(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_right_ends_with_a_write_there_or_without_further_writes() {
        let health = WriteHealth::default();
        health.wrote("service/", Some(&denied("service/")));
        health.granted(None);
        health.wrote("config/", None);
        assert!(health.trouble(Instant::now()).is_some(), "what is allowed elsewhere does not matter");
        health.wrote("service/", None);
        assert_eq!(health.trouble(Instant::now()), None);
        health.wrote("config/", Some(&denied("config/")));
        assert_eq!(health.trouble(Instant::now() + DENIED_FOR), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_usually_passes_counts_when_it_does_not() {
        let health = WriteHealth::default();
        health.wrote("service/", Some(&unavailable()));
        assert_eq!(health.trouble(Instant::now()), None);
        tokio::time::advance(PASSES_WITHIN).await;
        assert_eq!(health.trouble(Instant::now()), None, "one failure is no outage");
        health.wrote("service/", Some(&unavailable()));
        assert!(health.trouble(Instant::now()).is_some_and(|trouble| !trouble.lasts()));
        health.wrote("service/", Some(&full()));
        assert!(health.trouble(Instant::now()).is_some_and(|trouble| trouble.lasts()));
        health.granted(Some(&CallError::Contended));
        health.granted(None);
        assert_eq!(health.trouble(Instant::now()), None);
    }
}
