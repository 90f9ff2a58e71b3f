//! How often, for any number of keys, in a memory that does not grow.
//!
//! The algorithm is GCRA (the ITU's I.371; "leaky bucket as a meter"): of a key it keeps one moment, the *theoretical
//! arrival time*, at which a key that keeps to its rate would come next. A request moves it on by one interval; a
//! request that would move it further than the burst allows is refused and moves nothing. A moment that has passed says
//! as much as none at all, so keys need no end.
//!
//! The moments stand in sets of eight, and the hash of a key, which a client cannot foresee, says in which. When a set
//! is full, the key gives way that is nearest to its full burst: who is over the limit is remembered longest. So a
//! million clients at once make the limit inexact for those who hardly use it, and nothing else.
//!
//! [`service_kit::token_bucket`] is not for this place: its buckets have one lock, which every core would wait for with
//! each request, and newcomers share a bucket when there are as many as there may be, which a client can bring about.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// A limit tells 131,072 keys apart at the same time, in 2.2 MiB.
const SETS: usize = 16 * 1024;
const SET_KEYS: usize = 8;

/// One limit.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// From one request to the next, in nanoseconds.
    interval_ns: u64,
    /// How far ahead of now the moment of a key may be.
    ahead_max_ns: u64,
    hasher: RandomState,
    /// Made with the first key.
    sets: OnceLock<Box<[Mutex<Set>]>>,
}

type Set = [Slot; SET_KEYS];

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The hash of the key.
    key: u64,
    /// Its theoretical arrival time; one that has passed is that of a free slot.
    arrival_ns: u64,
}

// === impl RateLimiter ===

impl RateLimiter {
    /// `requests` in each `window` in the long run, and `burst` at once. All are above zero.
    pub(crate) fn new(requests: u32, window: Duration, burst: u32) -> Self {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = (window_ns / u64::from(requests.max(1))).max(1);
        let ahead_max_ns = interval_ns.saturating_mul(u64::from(burst.max(1)));
        Self { interval_ns, ahead_max_ns, hasher: RandomState::new(), sets: OnceLock::new() }
    }

    /// Takes in a request of `key` at `now_ns`, on any clock that starts above zero.
    ///
    /// # Errors
    ///
    /// How long to wait until the next one would pass.
    pub(crate) fn take(&self, key: impl Hash, now_ns: u64) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(key);
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let place = usize::try_from(hash % SETS as u64).unwrap_or_default();
        let mut set = sets[place].lock().unwrap_or_else(PoisonError::into_inner);
        let known = set.iter().position(|slot| slot.key == hash && slot.arrival_ns > now_ns);
        let at = known.unwrap_or_else(|| nearest_to_full_burst(&set));
        let before_ns = if known.is_some() { set[at].arrival_ns } else { now_ns };
        let arrival_ns = before_ns.saturating_add(self.interval_ns);
        let latest_ns = now_ns.saturating_add(self.ahead_max_ns);
        if arrival_ns > latest_ns {
            return Err(Duration::from_nanos(arrival_ns - latest_ns));
        }
        set[at] = Slot { key: hash, arrival_ns };
        Ok(())
    }
}

fn nearest_to_full_burst(set: &Set) -> usize {
    (0..SET_KEYS).min_by_key(|at| set[*at].arrival_ns).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn passed(limiter: &RateLimiter, key: u32, now_ns: u64) -> usize {
        (0..1000).filter(|_| limiter.take(key, now_ns).is_ok()).count()
    }

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate_and_another_its_own() {
        let limiter = RateLimiter::new(10, Duration::from_secs(1), 20);
        assert_eq!(passed(&limiter, 1, SECOND), 20);
        assert_eq!(passed(&limiter, 1, 2 * SECOND), 10);
        assert_eq!(passed(&limiter, 2, 2 * SECOND), 20);
        assert_eq!(limiter.take(1, 2 * SECOND), Err(Duration::from_millis(100)), "what is refused moves nothing");
        assert_eq!(passed(&limiter, 1, 60 * SECOND), 20);
    }

    #[test]
    fn extremes_of_rate_and_window_keep_their_meaning() {
        let slow = RateLimiter::new(1, Duration::from_secs(86_400), 1);
        assert_eq!(
            (passed(&slow, 1, 1), passed(&slow, 1, 86_399 * SECOND), passed(&slow, 1, 86_401 * SECOND)),
            (1, 0, 1)
        );
        let fast = RateLimiter::new(1_000_000, Duration::from_secs(1), 1);
        assert_eq!((passed(&fast, 1, 1), passed(&fast, 1, 1_001)), (1, 1));
    }

    #[test]
    fn a_million_keys_take_no_more_memory_and_who_is_over_the_limit_stays_there() {
        let limiter = RateLimiter::new(10, Duration::from_secs(3600), 10);
        assert_eq!(passed(&limiter, 0, SECOND), 10);
        let others = (1..=1_000_000).filter(|key| limiter.take(*key, SECOND).is_ok()).count();
        assert_eq!(others, 1_000_000, "none of them is over its limit");
        assert!(limiter.take(0_u32, SECOND).is_err(), "and the one that is has not been forgotten");
        let bytes = limiter.sets.get().unwrap().len() * size_of::<Mutex<Set>>();
        assert!(bytes <= 3 << 20, "{bytes}");
    }
}
