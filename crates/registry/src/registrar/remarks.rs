//! How often an instance may change what it says about its state without moving in or out of rotation.
//!
//! A reason that holds a time or a counter would be a write to etcd with every heartbeat, and wake every gateway. Our own
//! client says a new one every ten seconds at most; others may not know better. So each registry writes [`MAX`] remarks of
//! an instance within [`WINDOW`], and keeps what is registered meanwhile. What moves an instance in or out of rotation, or
//! changes anything else about it, is written at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery::{Instance, InstanceKey};
use tokio::time::Instant;

/// Remarks of one instance within a window; twice what our own client needs.
const MAX: u32 = 12;
const WINDOW: Duration = Duration::from_secs(60);
/// From so many instances on, those whose window is over are forgotten before another is remembered.
const FORGET_AT: usize = 4096;

/// The remarks of the last minute. Cheap to clone; all clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Remarks(Arc<Mutex<HashMap<InstanceKey, Window>>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
}

// === impl Remarks ===

impl Remarks {
    /// Whether what `key` says, `said`, is to be written where `registered` stands.
    pub(super) fn is_news(&self, key: &InstanceKey, registered: &Instance, said: &Instance, now: Instant) -> bool {
        said != registered && (!differs_by_a_remark(registered, said) || self.take(key, now))
    }

    fn take(&self, key: &InstanceKey, now: Instant) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= FORGET_AT && !windows.contains_key(key) {
            windows.retain(|_, window| now.duration_since(window.began) < WINDOW);
        }
        let window = windows.entry(key.clone()).or_insert(Window { began: now, written: 0 });
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, written: 0 };
        }
        window.written += 1;
        window.written <= MAX
    }
}

/// Whether nothing but the reason differs, or `passing` and `degraded`.
fn differs_by_a_remark(registered: &Instance, said: &Instance) -> bool {
    let before = registered.status;
    let after = said.status;
    let is_remark = before == after || (before.is_in_rotation() && after.is_in_rotation());
    is_remark && Instance { status: before, reason: registered.reason.clone(), ..said.clone() } == *registered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(value: &str) -> Instance {
        value.parse().unwrap()
    }

    #[test]
    fn a_reason_that_counts_is_written_a_bounded_number_of_times_a_minute() {
        let remarks = Remarks::default();
        let start = Instant::now();
        let key = "service/mail/a".parse().unwrap();
        let mut registered = instance("a:1");
        let mut written = 0;
        for second in 0..60 {
            let said = instance(&format!("http://a:1?degraded={second}"));
            if remarks.is_news(&key, &registered, &said, start + Duration::from_secs(second)) {
                (registered, written) = (said, written + 1);
            }
        }
        assert_eq!(written, MAX);
        let said = instance("http://a:1?degraded=x");
        assert!(remarks.is_news(&key, &registered, &said, start + WINDOW), "the next minute");
        assert!(!remarks.is_news(&key, &said, &said, start + WINDOW), "the same again is nothing");
    }

    #[test]
    fn what_is_more_than_a_remark_is_always_written() {
        let remarks = Remarks::default();
        let now = Instant::now();
        let key = "service/mail/a".parse().unwrap();
        let degraded = instance("http://a:1?degraded=x");
        for _ in 0..100 {
            for said in ["http://a:1?status=critical", "http://a:1?status=draining", "http://a:1?weight=2&degraded=x"] {
                assert!(remarks.is_news(&key, &degraded, &instance(said), now), "{said}");
            }
        }
        assert!(!differs_by_a_remark(&instance("http://a:1?status=critical"), &instance("http://a:1?status=draining")));
    }
}
