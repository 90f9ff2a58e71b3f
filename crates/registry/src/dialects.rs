//! Keeps the keys in other systems' formats (dialects) consistent with what is registered.
//!
//! The transaction that registers, updates or deregisters an instance writes its views, too (see
//! [`Etcd::with_dialects`]). What is left to do here is what no such transaction sees: an operator's override, a registry
//! that was started with other dialects, a key that was deleted. So the dialect keys of an instance are checked when
//! this replica hears its first heartbeat, when its override comes or goes, and from then on every [`CHECK_INTERVAL`].
//! Looking is one read of a few keys, which etcd does not log.
//!
//! A view that cannot be set right fails no heartbeat: the native key is what the instance lives by, and the next
//! heartbeat tries again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery::{InstanceKey, LeaseId};
use discovery_etcd::Etcd;
use service_kit::chain;
use tokio::time::Instant;

/// How long views that were found in step are believed to be.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The keeper of the views. Cheap to clone; clones share what they know.
#[derive(Debug, Clone)]
pub struct Dialects {
    etcd: Etcd,
    checks: Arc<Mutex<Checks>>,
}

/// When the views of each instance were last known to be in step.
#[derive(Debug, Default)]
struct Checks {
    done: HashMap<InstanceKey, Check>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Check {
    lease: LeaseId,
    overridden: bool,
    at: Instant,
}

// === impl Dialects ===

impl Dialects {
    /// Keeps the views in the dialects that `etcd` speaks; without any, nothing is ever done.
    pub fn new(etcd: Etcd) -> Self {
        Self { etcd, checks: Arc::default() }
    }

    /// The same, for work that is to end at `deadline`.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { etcd: self.etcd.until(deadline), checks: Arc::clone(&self.checks) }
    }

    /// A heartbeat has been committed: `written` says whether it wrote the instance, and its views with it.
    pub async fn follow(&self, key: &InstanceKey, lease: LeaseId, overridden: bool, written: bool) {
        if !self.etcd.has_dialects() {
            return;
        }
        let due = self.checks().due(key, Check { lease, overridden, at: Instant::now() });
        if due && !written {
            self.align(key, lease).await;
        }
    }

    /// Sets the views right now.
    pub async fn align(&self, key: &InstanceKey, lease: LeaseId) {
        if !self.etcd.has_dialects() {
            return;
        }
        match self.etcd.repair_dialect_keys(key, lease).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(%key, "dialect keys repaired"),
            Err(error) => {
                tracing::debug!(%key, error = %chain(&error), "cannot check the dialect keys");
                self.checks().done.remove(key);
            }
        }
    }

    fn checks(&self) -> std::sync::MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Checks ===

impl Checks {
    /// Whether to look at the views now; if so, this counts as having looked.
    fn due(&mut self, key: &InstanceKey, now: Check) -> bool {
        self.sweep(now.at);
        let known = self.done.get(key).is_some_and(|last| {
            let same = (last.lease, last.overridden) == (now.lease, now.overridden);
            same && now.at.saturating_duration_since(last.at) < CHECK_INTERVAL
        });
        if !known {
            self.done.insert(key.clone(), now);
        }
        !known
    }

    /// Forgets who has not been heard of for a while, now and then.
    fn sweep(&mut self, now: Instant) {
        let swept = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(swept) >= CHECK_INTERVAL {
            self.done.retain(|_, check| now.saturating_duration_since(check.at) < 2 * CHECK_INTERVAL);
            self.swept = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: usize) -> InstanceKey {
        format!("service/mail/{id}").parse().unwrap()
    }

    fn check(lease: i64, overridden: bool, at: Instant) -> Check {
        Check { lease: LeaseId(lease), overridden, at }
    }

    #[test]
    fn views_are_looked_at_first_when_something_changed_and_now_and_then() {
        let mut checks = Checks::default();
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        assert!(checks.due(&key(1), check(1, false, start)), "the first heartbeat");
        assert!(!checks.due(&key(1), check(1, false, after(2))), "the next one");
        assert!(checks.due(&key(1), check(2, false, after(4))), "another lease");
        assert!(checks.due(&key(1), check(2, true, after(6))), "an override");
        assert!(!checks.due(&key(1), check(2, true, after(35))));
        assert!(checks.due(&key(1), check(2, true, after(36))), "half a minute later");
    }

    #[test]
    fn instances_that_are_gone_are_forgotten() {
        let mut checks = Checks::default();
        let start = Instant::now();
        for secs in 0..1000 {
            let now = start + Duration::from_secs(secs as u64);
            checks.due(&key(secs), check(1, false, now));
        }
        assert!(checks.done.len() <= 90, "{}", checks.done.len());
    }
}
