//! Two programs with one instance id, and who is told.
//!
//! An id that is copied with a configuration or an image is claimed by two at the same time. Nothing is decided here: who
//! holds the id is settled by [`crate::registrar`]. What is seen here is that there are two:
//!
//! | sign | when |
//! |---|---|
//! | a life that another has taken the id over from goes on with its heartbeats | with each of them |
//! | the address of an instance goes there and back, or is changed the same way twice, within a TTL | for heartbeats that do not say of which life they are |
//!
//! One that has really moved, or was started anew, gives neither: its predecessor is silent. A contest is warned of once in
//! [`WARNED_FOR`], told to both in their replies, shown in the list of instances, and over when there was no sign for two
//! TTLs. Each registry tells what it has heard itself.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use discovery::{Address, Incarnation, InstanceKey, OtherHolder, Ttl};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, interval};

use crate::mirror::Mirror;

/// One warning an id in this time.
pub const WARNED_FOR: Duration = Duration::from_secs(600);

/// How often contests are looked at that may be over.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How many ids are remembered; what is beyond goes untold.
const IDS_MAX: usize = 4096;

/// Who claims an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Where.
    pub address: Address,
    /// Of which life; none: it does not say.
    pub incarnation: Option<Incarnation>,
}

/// Watches for contests. Cheap to clone; clones know the same.
#[derive(Debug, Clone)]
pub struct Holders {
    mirror: Mirror,
    contested: Counter,
    ids: Arc<Mutex<Ids>>,
}

#[derive(Debug, Default)]
struct Ids {
    contests: HashMap<InstanceKey, Contest>,
    moves: HashMap<InstanceKey, Move>,
}

#[derive(Debug)]
struct Contest {
    /// The one that does not hold the id first.
    claimants: [Claimant; 2],
    since_ms: u64,
    until: Instant,
    warned: Instant,
}

/// An address that was put in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    from: Address,
    to: Address,
    until: Instant,
}

// === impl Holders ===

impl Holders {
    /// Tells `mirror` of contests, and counts them.
    pub fn new(mirror: Mirror, contested: Counter) -> Self {
        Self { mirror, contested, ids: Arc::default() }
    }

    /// `loser` has sent a heartbeat, but `holder` holds the id.
    pub fn displaced(&self, key: &InstanceKey, loser: Claimant, holder: Claimant, ttl: Ttl) {
        self.contest(key, [loser, holder], ttl);
    }

    /// A heartbeat from `to` was written over what one from `from` had said.
    pub fn moved(&self, key: &InstanceKey, from: Address, to: Address, ttl: Ttl) {
        let is_contest = self.ids().moved(key, &from, &to, ttl, Instant::now());
        if is_contest {
            let claimant = |address| Claimant { address, incarnation: None };
            self.contest(key, [claimant(from), claimant(to)], ttl);
        }
    }

    /// Who claims the id of the instance at `address`, too, which lives this `incarnation`.
    pub fn other_than(
        &self,
        key: &InstanceKey,
        address: &Address,
        incarnation: Option<Incarnation>,
    ) -> Option<OtherHolder> {
        let ids = self.ids();
        let contest = ids.contests.get(key).filter(|contest| contest.until > Instant::now())?;
        contest.claimants.iter().find(|one| !one.is(address, incarnation)).map(|one| contest.other(one))
    }

    /// Ends contests without signs, for as long as it is polled.
    pub async fn run(self) -> Infallible {
        let mut ticks = interval(LOOK_INTERVAL);
        loop {
            ticks.tick().await;
            for key in self.ids().forget(Instant::now()) {
                self.mirror.contest(&key, None);
            }
        }
    }

    fn contest(&self, key: &InstanceKey, claimants: [Claimant; 2], ttl: Ttl) {
        let Some((other, is_news)) = self.ids().contest(key, claimants.clone(), ttl, Instant::now()) else { return };
        self.mirror.contest(key, Some(&other));
        if is_news {
            self.contested.inc();
            let [other, holder] = claimants.map(|claimant| claimant.to_string());
            tracing::warn!(parent: None, %key, holder, other, "two programs have the same instance id; give each its own");
        }
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ids ===

impl Ids {
    /// Notes a sign; who does not hold the id, and whether that is worth a warning. `None` when too many are known.
    fn contest(
        &mut self,
        key: &InstanceKey,
        claimants: [Claimant; 2],
        ttl: Ttl,
        now: Instant,
    ) -> Option<(OtherHolder, bool)> {
        let until = now + 2 * ttl.get();
        let before = self.contests.remove(key);
        if before.is_none() && self.contests.len() >= IDS_MAX {
            return None;
        }
        let is_news = before.as_ref().is_none_or(|before| now.saturating_duration_since(before.warned) >= WARNED_FOR);
        let goes_on = before.as_ref().filter(|before| before.until > now);
        let contest = Contest {
            claimants,
            since_ms: goes_on.map_or_else(unix_ms, |before| before.since_ms),
            until,
            warned: before.as_ref().filter(|_| !is_news).map_or(now, |before| before.warned),
        };
        let other = contest.other(&contest.claimants[0]);
        self.contests.insert(key.clone(), contest);
        Some((other, is_news))
    }

    /// Notes a move; whether it is one too many.
    fn moved(&mut self, key: &InstanceKey, from: &Address, to: &Address, ttl: Ttl, now: Instant) -> bool {
        let before = self.moves.get(key).filter(|before| before.until > now);
        let is_contest = before.is_some_and(|before| {
            let back = (&before.from, &before.to) == (to, from);
            let again = (&before.from, &before.to) == (from, to);
            back || again
        });
        if self.moves.len() < IDS_MAX || self.moves.contains_key(key) {
            let until = now + ttl.get();
            self.moves.insert(key.clone(), Move { from: from.clone(), to: to.clone(), until });
        }
        is_contest
    }

    /// Forgets what is long ago; the ids that are contested no more.
    fn forget(&mut self, now: Instant) -> Vec<InstanceKey> {
        self.moves.retain(|_, one| one.until > now);
        self.contests.retain(|_, one| one.until > now || now.saturating_duration_since(one.warned) < WARNED_FOR);
        let over = self.contests.iter().filter(|(_, one)| one.until <= now);
        over.map(|(key, _)| key.clone()).collect()
    }
}

// === impl Contest ===

impl Contest {
    fn other(&self, one: &Claimant) -> OtherHolder {
        OtherHolder { address: one.address.clone(), incarnation: one.incarnation, since_ms: self.since_ms }
    }
}

// === impl Claimant ===

impl Claimant {
    /// One that does not say of which life it is, is known by its address.
    fn is(&self, address: &Address, incarnation: Option<Incarnation>) -> bool {
        match self.incarnation {
            Some(_) => self.incarnation == incarnation,
            None => self.address == *address,
        }
    }
}

impl std::fmt::Display for Claimant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.incarnation {
            Some(incarnation) => write!(f, "{} ({incarnation})", self.address),
            None => self.address.fmt(f),
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use discovery::LeaseId;

    use super::*;

    fn key() -> InstanceKey {
        "service/mail/mail-1".parse().unwrap()
    }

    fn at(host: &str) -> Address {
        format!("{host}:7070").parse().unwrap()
    }

    fn of(host: &str, lease: i64) -> Claimant {
        Claimant { address: at(host), incarnation: Some(Incarnation(LeaseId(lease))) }
    }

    #[test]
    fn an_instance_that_moved_is_no_contest_and_one_that_goes_back_and_forth_is() {
        let mut ids = Ids::default();
        let start = Instant::now();
        let ttl = Ttl::default();
        let after = |secs| start + Duration::from_secs(secs);
        assert!(!ids.moved(&key(), &at("a"), &at("b"), ttl, start), "it has moved");
        assert!(ids.moved(&key(), &at("b"), &at("a"), ttl, after(1)), "and was where it had been");
        assert!(!ids.moved(&key(), &at("a"), &at("b"), ttl, after(60)), "long after");
        assert!(ids.moved(&key(), &at("a"), &at("b"), ttl, after(62)), "another registry has put it back meanwhile");
        assert!(!ids.moved(&key(), &at("b"), &at("c"), ttl, after(63)), "moved again");
    }

    #[test]
    fn a_contest_is_news_once_in_ten_minutes_and_over_after_two_ttls_of_silence() {
        let mut ids = Ids::default();
        let start = Instant::now();
        let ttl = Ttl::default();
        let after = |secs| start + Duration::from_secs(secs);
        let sign = |ids: &mut Ids, secs| {
            ids.contest(&key(), [of("a", 1), of("b", 2)], ttl, after(secs))
                .map(|(other, is_news)| (other.address, is_news))
        };
        assert_eq!(sign(&mut ids, 0), Some((at("a"), true)));
        assert_eq!(sign(&mut ids, 2), Some((at("a"), false)));
        assert!(ids.forget(after(11)).is_empty());
        assert_eq!(ids.forget(after(12)), [key()]);
        assert_eq!(sign(&mut ids, 300), Some((at("a"), false)));
        assert_eq!(sign(&mut ids, 600), Some((at("a"), true)));
        assert_eq!(ids.forget(after(1300)).len(), 0);
        assert!(ids.contests.is_empty());
    }

    #[test]
    fn each_is_told_of_the_other() {
        let mut ids = Ids::default();
        ids.contest(&key(), [of("a", 1), of("b", 2)], Ttl::default(), Instant::now());
        let contest = &ids.contests[&key()];
        let other = |me: &Claimant| {
            let other = contest.claimants.iter().find(|one| !one.is(&me.address, me.incarnation));
            other.map(|one| one.address.clone())
        };
        assert_eq!(other(&of("a", 1)), Some(at("b")));
        assert_eq!(other(&of("b", 2)), Some(at("a")));
        assert_eq!(other(&of("b", 3)), Some(at("a")), "with another TTL, it is another life of the same program");
    }
}
