//! Which instances went last, when, and why: so that a 503 can say more than that there is none.
//!
//! etcd's DELETE event looks the same for a lease that expired and one that was revoked. What came before tells them
//! apart: an instance that leaves says `draining` first.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use discovery::{Address, InstanceKey, ServiceName, Status};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// Tombstones per service; older ones are forgotten first.
const PER_SERVICE_MAX: usize = 8;
/// Services with tombstones. Bounds the table, and the metrics' labels, when many names come and go.
const SERVICES_MAX: usize = 1024;

/// An instance that was there and is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Which one.
    pub key: InstanceKey,
    /// Where it was.
    pub address: Address,
    /// When it went.
    pub at: Millis,
    /// Why it went.
    pub cause: Cause,
}

/// Why an instance went. `Display` completes the sentence "last instance 10.0.0.5:7070 …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It had said that it is leaving.
    Deregistered,
    /// Its lease ran out without a word: it died, hangs, or cannot reach a registry.
    Expired,
    /// It never had a lease, so it was deleted by hand.
    Deleted,
}

/// The tombstones of all services.
#[derive(Debug, Default)]
pub(crate) struct Tombstones(BTreeMap<ServiceName, VecDeque<Tombstone>>);

// === impl Cause ===

impl Cause {
    /// Why an instance is gone, judged by the last that was known of it.
    #[must_use]
    pub fn of(status: Status, has_lease: bool) -> Self {
        match (status, has_lease) {
            (Status::Draining, _) => Self::Deregistered,
            (Status::Passing | Status::Degraded | Status::Critical, true) => Self::Expired,
            (Status::Passing | Status::Degraded | Status::Critical, false) => Self::Deleted,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deregistered => "deregistered",
            Self::Expired => "lost its heartbeat",
            Self::Deleted => "was deleted from etcd",
        })
    }
}

// === impl Tombstones ===

impl Tombstones {
    /// Returns the service that was forgotten to make room: what shows it must look at it again.
    #[must_use]
    pub(crate) fn add(&mut self, tombstone: Tombstone) -> Option<ServiceName> {
        self.forget(&tombstone.key);
        let mut forgotten = None;
        if self.0.len() >= SERVICES_MAX && !self.0.contains_key(&tombstone.key.service) {
            let oldest = self.0.iter().min_by_key(|(_, graves)| graves.back().map(|tombstone| tombstone.at));
            if let Some(service) = oldest.map(|(service, _)| service.clone()) {
                self.0.remove(&service);
                forgotten = Some(service);
            }
        }
        let graves = self.0.entry(tombstone.key.service.clone()).or_default();
        if graves.len() == PER_SERVICE_MAX {
            graves.pop_front();
        }
        graves.push_back(tombstone);
        forgotten
    }

    /// The instance is back.
    pub(crate) fn forget(&mut self, key: &InstanceKey) {
        if let Some(graves) = self.0.get_mut(&key.service) {
            graves.retain(|tombstone| tombstone.key != *key);
            if graves.is_empty() {
                self.0.remove(&key.service);
            }
        }
    }

    /// Those of all services, the oldest of each first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Tombstone> {
        self.0.values().flatten()
    }

    /// Those of a service, the oldest first.
    pub(crate) fn of(&self, service: &ServiceName) -> impl Iterator<Item = &Tombstone> {
        self.0.get(service).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(key: &str, at: u64) -> Tombstone {
        let address = "10.0.0.5:7070".parse().unwrap();
        Tombstone { key: key.parse().unwrap(), address, at: Millis(at), cause: Cause::Expired }
    }

    fn names(tombstones: &Tombstones, service: &str) -> Vec<String> {
        tombstones.of(&service.parse().unwrap()).map(|tombstone| tombstone.key.to_string()).collect()
    }

    #[test]
    fn the_cause_is_told_by_what_came_before() {
        assert_eq!(Cause::of(Status::Draining, true), Cause::Deregistered);
        assert_eq!(Cause::of(Status::Passing, true), Cause::Expired);
        assert_eq!(Cause::of(Status::Critical, true), Cause::Expired);
        assert_eq!(Cause::of(Status::Passing, false), Cause::Deleted);
    }

    #[test]
    fn the_newest_of_a_service_are_kept() {
        let mut tombstones = Tombstones::default();
        for n in 0..10 {
            assert_eq!(tombstones.add(tombstone(&format!("service/mail/{n}"), n)), None);
        }
        assert_eq!(names(&tombstones, "mail").len(), PER_SERVICE_MAX);
        assert_eq!(names(&tombstones, "mail").last().unwrap(), "service/mail/9");
        tombstones.forget(&"service/mail/9".parse().unwrap());
        assert_eq!(names(&tombstones, "mail").last().unwrap(), "service/mail/8");
    }

    #[test]
    fn the_number_of_services_is_bounded_and_the_longest_dead_goes_first() {
        let mut tombstones = Tombstones::default();
        for n in 0..SERVICES_MAX {
            assert_eq!(tombstones.add(tombstone(&format!("service/s{n}/a"), n as u64)), None);
        }
        let last = tombstone(&format!("service/s{SERVICES_MAX}/a"), SERVICES_MAX as u64);
        assert_eq!(tombstones.add(last).unwrap().as_str(), "s0");
        assert_eq!(tombstones.0.len(), SERVICES_MAX);
        assert!(names(&tombstones, "s0").is_empty());
        assert_eq!(names(&tombstones, "s1"), ["service/s1/a"]);
    }
}
