//! Whether instances vanish one by one, as they die, or many in one go, as when etcd or the registries are at fault.
//!
//! An instance that dies takes no other with it, and two that die in the same seconds by chance are rare. What ends leases
//! of living instances ends many: a leader of etcd that was stopped and goes on revokes all that it has not heard of
//! (<https://github.com/etcd-io/etcd/issues/15247>), registries that all stop end everything within a few seconds. So many
//! in one go are, within [`TOGETHER`]:
//!
//! - [`MANY`] instances, of whichever services: in a service of two, the one that vanishes may be the only one;
//! - two of one service that were at least half of it.
//!
//! A host that dies looks the same. That costs little: its instances have refused connections by then, which counts for
//! more than where they are listed.

use std::{collections::VecDeque, time::Duration};

use discovery::InstanceKey;

use crate::clock::Millis;

/// What vanishes within this vanishes together. The default TTL: when every registry stops, the leases end one after another
/// within a heartbeat interval, and etcd looks for ended leases twice a second.
pub(super) const TOGETHER: Duration = Duration::from_secs(5);
/// So many instances do not vanish together by chance.
pub(super) const MANY: usize = 3;

/// The last instances that vanished without a farewell, the oldest first; no more of them than the rules need.
#[derive(Debug, Default)]
pub(super) struct Vanishing(VecDeque<(Millis, InstanceKey)>);

// === impl Vanishing ===

impl Vanishing {
    /// Notes that an instance has vanished whose service has `left` instances now; returns the instances that this one
    /// vanished together with, itself included, if they are many.
    pub(super) fn note(&mut self, key: &InstanceKey, left: usize, now: Millis) -> Vec<InstanceKey> {
        self.0.retain(|(at, _)| now.since(*at) < TOGETHER);
        self.0.push_back((now, key.clone()));
        if self.0.len() > MANY {
            self.0.pop_front();
        }
        if self.0.len() == MANY {
            return self.0.iter().map(|(_, key)| key.clone()).collect();
        }
        let siblings: Vec<_> =
            self.0.iter().map(|(_, other)| other).filter(|other| other.service == key.service).collect();
        match siblings.len() {
            gone @ 2.. if gone >= left => siblings.into_iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(vanishing: &mut Vanishing, key: &str, left: usize, at: u64) -> usize {
        vanishing.note(&format!("service/{key}").parse().unwrap(), left, Millis(at)).len()
    }

    #[test]
    fn one_or_two_of_many_are_no_more_than_that() {
        let mut vanishing = Vanishing::default();
        assert_eq!(note(&mut vanishing, "mail/a", 1, 0), 0);
        assert_eq!(note(&mut vanishing, "web/a", 9, 0), 0, "of another service");
        let mut vanishing = Vanishing::default();
        assert_eq!([note(&mut vanishing, "mail/a", 4, 0), note(&mut vanishing, "mail/b", 3, 0)], [0, 0]);
    }

    #[test]
    fn two_that_were_half_of_their_service_vanished_together() {
        let mut vanishing = Vanishing::default();
        assert_eq!([note(&mut vanishing, "mail/a", 3, 0), note(&mut vanishing, "mail/b", 2, 4999)], [0, 2]);
        let mut vanishing = Vanishing::default();
        assert_eq!([note(&mut vanishing, "mail/a", 3, 0), note(&mut vanishing, "mail/b", 2, 5000)], [0, 0]);
    }

    #[test]
    fn three_of_any_services_vanished_together_and_so_does_each_that_follows() {
        let mut vanishing = Vanishing::default();
        let keys = ["mail/a", "web/a", "shop/a", "mail/b", "web/b"];
        let many: Vec<_> = keys.iter().map(|key| note(&mut vanishing, key, 9, 0)).collect();
        assert_eq!(many, [0, 0, 3, 3, 3]);
        assert_eq!(note(&mut vanishing, "mail/c", 9, 6000), 0, "later, alone");
    }
}
