//! When this registry last heard each instance: what it knows first-hand, whatever etcd says.
//!
//! A key that vanishes while its instance was heard within its TTL did not expire: etcd counts a lease from its last
//! keep-alive, which follows the heartbeat. So either it was deleted on purpose, or etcd was wrong ([`crate::restore`]).
//!
//! That holds for the lease that the heartbeat kept alive. When the key lives by another one since, another registry has
//! heard the instance later, or its successor under the same id, with a TTL of its own: what ends then is not known here.
//!
//! An instance that says `draining`, or is deregistered here, counts as never heard. One that leaves at another registry
//! is told by its key, whose last value says `draining`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery::{Incarnation, InstanceKey, LeaseId, Life, Ttl};
use tokio::time::Instant;

/// How often those are forgotten that have not been heard within their TTL.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// A handle on what was heard. Cheap to clone; clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Heard(Arc<Mutex<Hearings>>);

#[derive(Debug, Default)]
struct Hearings {
    last: HashMap<InstanceKey, Hearing>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Hearing {
    at: Instant,
    ttl: Ttl,
    /// The lease that it keeps alive; `None`: that is not settled yet.
    lease: Option<LeaseId>,
}

// === impl Heard ===

impl Heard {
    /// A heartbeat came at `now` and is good for `ttl`. Which lease it keeps alive, if it does not say of which `life` it
    /// is, is [told](Self::keep) later. One of a life that was may be late: it says nothing about another that is heard.
    pub fn note(&self, key: &InstanceKey, ttl: Ttl, life: Option<Life>, now: Instant) {
        let lease = match life {
            None | Some(Life::New) => None,
            Some(Life::NewAs(incarnation) | Life::Of(incarnation)) => Some(incarnation.0),
        };
        let is_old = matches!(life, Some(Life::Of(_)));
        self.hearings().note(key, Hearing { at: now, ttl, lease }, is_old);
    }

    /// The instance lives by `lease`. False when its last heartbeat is not good any more at `now`, or it leaves.
    pub fn keep(&self, key: &InstanceKey, lease: LeaseId, now: Instant) -> bool {
        let mut hearings = self.hearings();
        let hearing = hearings.last.get_mut(key).filter(|hearing| hearing.is_good(now));
        hearing.map(|hearing| hearing.lease = Some(lease)).is_some()
    }

    /// The instance leaves.
    pub fn forget(&self, key: &InstanceKey) {
        self.hearings().last.remove(key);
    }

    /// The instance leaves; with `only`, if that is the life that was heard.
    pub fn leave(&self, key: &InstanceKey, only: Option<Incarnation>) {
        let mut hearings = self.hearings();
        let is_meant = |hearing: &Hearing| only.is_none() || only.map(|only| only.0) == hearing.lease;
        if hearings.last.get(key).is_some_and(is_meant) {
            hearings.last.remove(key);
        }
    }

    /// The TTL of an instance that lived by `lease` and whose last heartbeat is still good at `now`; `None`: it was not heard
    /// here, or too long ago, or by another lease, or leaves.
    pub fn ttl(&self, key: &InstanceKey, lease: Option<LeaseId>, now: Instant) -> Option<Ttl> {
        let hearings = self.hearings();
        let hearing = hearings.last.get(key).filter(|hearing| hearing.is_good(now))?;
        (hearing.lease.is_none() || hearing.lease == lease).then_some(hearing.ttl)
    }

    fn hearings(&self) -> MutexGuard<'_, Hearings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Hearings ===

impl Hearings {
    fn note(&mut self, key: &InstanceKey, hearing: Hearing, is_old: bool) {
        let swept = *self.swept.get_or_insert(hearing.at);
        if hearing.at.saturating_duration_since(swept) >= SWEEP_INTERVAL {
            self.last.retain(|_, last| last.is_good(hearing.at));
            self.swept = Some(hearing.at);
        }
        match self.last.get_mut(key) {
            Some(last)
                if is_old && last.is_good(hearing.at) && last.lease.is_some_and(|one| Some(one) != hearing.lease) => {}
            Some(last) => *last = hearing,
            None => drop(self.last.insert(key.clone(), hearing)),
        }
    }
}

// === impl Hearing ===

impl Hearing {
    fn is_good(self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.ttl.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Option<LeaseId> = Some(LeaseId(1));

    fn key(id: usize) -> InstanceKey {
        format!("service/mail/{id}").parse().unwrap()
    }

    #[test]
    fn a_heartbeat_is_good_for_its_ttl_and_not_after_a_farewell() {
        let heard = Heard::default();
        let start = Instant::now();
        let ttl = Ttl::default();
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(heard.ttl(&key(1), LEASE, start), None);
        heard.note(&key(1), ttl, None, start);
        assert_eq!(heard.ttl(&key(1), LEASE, start + Duration::from_millis(4999)), Some(ttl));
        assert_eq!(heard.ttl(&key(1), LEASE, after(5)), None);
        assert!(!heard.keep(&key(1), LeaseId(1), after(5)));
        heard.note(&key(1), Ttl::MAX, None, after(6));
        assert_eq!(heard.ttl(&key(1), LEASE, after(600)), Some(Ttl::MAX));
        heard.forget(&key(1));
        assert_eq!(heard.ttl(&key(1), LEASE, after(6)), None);
        assert!(!heard.keep(&key(1), LeaseId(1), after(6)));
    }

    #[test]
    fn a_heartbeat_says_nothing_about_a_lease_that_it_did_not_keep_alive() {
        let heard = Heard::default();
        let start = Instant::now();
        let ttl = Ttl::default();
        heard.note(&key(1), ttl, None, start);
        assert!(heard.keep(&key(1), LeaseId(1), start));
        assert_eq!(heard.ttl(&key(1), LEASE, start), Some(ttl));
        assert_eq!(heard.ttl(&key(1), Some(LeaseId(2)), start), None, "it lives by another registry's since");
        assert_eq!(heard.ttl(&key(1), None, start), None);
        heard.note(&key(1), ttl, None, start);
        assert_eq!(heard.ttl(&key(1), Some(LeaseId(2)), start), Some(ttl), "heard again, wherever it lives");
    }

    #[test]
    fn a_late_heartbeat_of_an_earlier_life_says_nothing_about_the_present_one() {
        let heard = Heard::default();
        let start = Instant::now();
        let ttl = Ttl::default();
        let of = |lease| Some(Life::Of(Incarnation(LeaseId(lease))));
        heard.note(&key(1), ttl, Some(Life::NewAs(Incarnation(LeaseId(2)))), start);
        heard.note(&key(1), ttl, of(1), start);
        assert_eq!(heard.ttl(&key(1), Some(LeaseId(2)), start), Some(ttl));
        assert_eq!(heard.ttl(&key(1), LEASE, start), None);
        heard.leave(&key(1), Some(Incarnation(LeaseId(1))));
        assert_eq!(heard.ttl(&key(1), Some(LeaseId(2)), start), Some(ttl), "another one has left");
        heard.leave(&key(1), Some(Incarnation(LeaseId(2))));
        assert_eq!(heard.ttl(&key(1), Some(LeaseId(2)), start), None);
        heard.note(&key(1), ttl, of(1), start);
        assert_eq!(heard.ttl(&key(1), LEASE, start), Some(ttl), "nobody else is heard");
    }

    #[test]
    fn instances_that_are_heard_no_more_are_forgotten() {
        let heard = Heard::default();
        let start = Instant::now();
        for secs in 0..1000 {
            heard.note(&key(secs), Ttl::default(), None, start + Duration::from_secs(secs as u64));
        }
        assert!(heard.hearings().last.len() <= 36, "{}", heard.hearings().last.len());
    }
}
