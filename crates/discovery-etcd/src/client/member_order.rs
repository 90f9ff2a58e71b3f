//! Which member to ask: the one that answered last, and a member that failed lately only when no other is left.
//!
//! Staying with one member keeps its connection and streams warm. A frozen member costs one attempt, after which it is
//! last in line until [`FORGIVEN_AFTER`] has passed or every other member has failed more recently.
//!
//! While the member that answered last is well, which is nearly always, calls share no lock ([`SharedOrder`]).

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// After this time a failure no longer counts against a member.
pub(crate) const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// What is known about the members, by their index. Pure: the time is given.
#[derive(Debug)]
pub(crate) struct MemberOrder {
    preferred: usize,
    failed_at: Vec<Option<Instant>>,
}

/// The same for many calls at once.
#[derive(Debug)]
pub(crate) struct SharedOrder {
    /// The preferred member while nothing is held against it, else [`NONE`].
    well: AtomicUsize,
    order: Mutex<MemberOrder>,
}

/// No member.
const NONE: usize = usize::MAX;

// === impl SharedOrder ===

impl SharedOrder {
    pub(crate) fn new(order: MemberOrder) -> Self {
        Self { well: AtomicUsize::new(order.well()), order: Mutex::new(order) }
    }

    /// The member to ask first at `now`.
    pub(crate) fn first(&self, now: Instant) -> usize {
        match self.well.load(Ordering::Relaxed) {
            NONE => self.order(now)[0],
            well => well,
        }
    }

    /// All members, in the order in which to ask them now.
    pub(crate) fn order(&self, now: Instant) -> Vec<usize> {
        self.lock().order(now)
    }

    /// `member` answered.
    pub(crate) fn succeeded(&self, member: usize) {
        if self.well.load(Ordering::Relaxed) != member {
            self.change(|order| order.succeeded(member));
        }
    }

    /// `member` failed to answer.
    pub(crate) fn failed(&self, member: usize, now: Instant) {
        self.change(|order| order.failed(member, now));
    }

    fn change(&self, change: impl FnOnce(&mut MemberOrder)) {
        let mut order = self.lock();
        change(&mut order);
        self.well.store(order.well(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, MemberOrder> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl MemberOrder ===

impl MemberOrder {
    /// For `members` members, of which `preferred` is asked first.
    pub(crate) fn new(members: usize, preferred: usize) -> Self {
        Self { preferred, failed_at: vec![None; members] }
    }

    /// All members, in the order in which to ask them now.
    pub(crate) fn order(&self, now: Instant) -> Vec<usize> {
        let members = self.failed_at.len();
        let mut order: Vec<usize> = (0..members).map(|n| (self.preferred + n) % members).collect();
        // Stable: members in equally good standing keep their place in the ring.
        order.sort_by_key(|&member| self.lately(member, now));
        order
    }

    /// `member` answered: it is fine, and the one to stay with.
    pub(crate) fn succeeded(&mut self, member: usize) {
        self.failed_at[member] = None;
        self.preferred = member;
    }

    /// `member` failed to answer.
    pub(crate) fn failed(&mut self, member: usize, now: Instant) {
        self.failed_at[member] = Some(now);
    }

    /// The preferred member if nothing is held against it, else [`NONE`].
    fn well(&self) -> usize {
        if self.failed_at[self.preferred].is_none() { self.preferred } else { NONE }
    }

    /// `None`, which sorts first, when it has nothing against it; else when it failed.
    fn lately(&self, member: usize, now: Instant) -> Option<Instant> {
        self.failed_at[member].filter(|failed_at| now.saturating_duration_since(*failed_at) < FORGIVEN_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_that_answered_last_is_asked_first() {
        let now = Instant::now();
        let mut member_order = MemberOrder::new(3, 1);
        assert_eq!(member_order.order(now), [1, 2, 0]);
        member_order.succeeded(2);
        assert_eq!(member_order.order(now), [2, 0, 1]);
    }

    #[test]
    fn a_member_that_failed_lately_is_asked_last() {
        let now = Instant::now();
        let mut member_order = MemberOrder::new(3, 0);
        member_order.failed(0, now);
        assert_eq!(member_order.order(now), [1, 2, 0]);
        member_order.succeeded(1);
        assert_eq!(member_order.order(now + FORGIVEN_AFTER / 2), [1, 2, 0]);
    }

    #[test]
    fn when_all_failed_the_one_that_failed_longest_ago_is_asked_first() {
        let now = Instant::now();
        let mut member_order = MemberOrder::new(3, 0);
        for (member, millis) in [(1, 1), (0, 2), (2, 3)] {
            member_order.failed(member, now + Duration::from_millis(millis));
        }
        assert_eq!(member_order.order(now + Duration::from_millis(4)), [1, 0, 2]);
    }

    #[test]
    fn calls_that_share_an_order_see_the_same_as_one_that_has_it_alone() {
        let now = Instant::now();
        let shared = SharedOrder::new(MemberOrder::new(3, 1));
        assert_eq!(shared.first(now), 1);
        shared.failed(1, now);
        assert_eq!((shared.first(now), shared.order(now)), (2, vec![2, 0, 1]));
        shared.failed(2, now);
        assert_eq!(shared.first(now), 0);
        shared.succeeded(0);
        assert_eq!((shared.first(now), shared.order(now)), (0, vec![0, 1, 2]));
        shared.succeeded(0);
        shared.succeeded(2);
        assert_eq!((shared.first(now), shared.order(now)), (2, vec![2, 0, 1]));
    }

    #[test]
    fn a_failure_is_forgiven_after_a_while() {
        let now = Instant::now();
        let mut member_order = MemberOrder::new(2, 0);
        member_order.failed(0, now);
        assert_eq!(member_order.order(now + FORGIVEN_AFTER), [0, 1]);
    }
}
