//! Nonces that have been seen.
//!
//! A nonce counts for as long as its request could be sent again: while the request's time is within [`SKEW_MAX`] of
//! the clock, which is at most twice that. So two generations of that length are kept: new nonces go into the young
//! one, and when it is old enough, it becomes the old one, and the one before is forgotten as a whole.
//!
//! Of each nonce 64 bits of a hash with a secret key are kept: eight bytes, and two of a million different nonces fall
//! together with a probability of 10⁻⁷. Memory is bounded: a generation that is full takes no more, and signed requests
//! are refused until it has grown old. Better refused than replayed.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use super::SKEW_MAX;

/// How many nonces a generation holds: at two heartbeats in four seconds, those of 35,000 signing instances.
const GENERATION_MAX: usize = 1 << 20;

/// What has been seen.
#[derive(Debug)]
pub struct Replays {
    hasher: RandomState,
    max: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    born: SystemTime,
}

impl Default for Replays {
    fn default() -> Self {
        Self::bounded(GENERATION_MAX)
    }
}

// === impl Replays ===

impl Replays {
    /// At most `max` nonces a minute.
    #[must_use]
    pub fn bounded(max: usize) -> Self {
        let generations = Generations { young: HashSet::new(), old: HashSet::new(), born: SystemTime::UNIX_EPOCH };
        Self { hasher: RandomState::new(), max, generations: Mutex::new(generations) }
    }

    /// Whether this is the first time that `name` uses `nonce`, and there is room to remember it.
    pub fn is_first(&self, name: &str, nonce: &str, now: SystemTime) -> bool {
        // What differs only in its case is the same to who checks the signature's text, but not to a HashSet.
        let seen = self.hasher.hash_one((name, nonce.to_ascii_lowercase()));
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.age(now);
        if generations.old.contains(&seen) || generations.young.len() >= self.max {
            return false;
        }
        generations.young.insert(seen)
    }
}

// === impl Generations ===

impl Generations {
    fn age(&mut self, now: SystemTime) {
        const LENGTH: Duration = Duration::from_secs(2 * SKEW_MAX.as_secs() + 1);
        let age = now.duration_since(self.born).unwrap_or_default();
        if age >= LENGTH {
            let young = std::mem::take(&mut self.young);
            self.old = if age >= 2 * LENGTH { HashSet::new() } else { young };
            self.born = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + secs)
    }

    #[test]
    fn a_nonce_counts_once_for_as_long_as_its_request_could_be_sent_again() {
        let replays = Replays::bounded(100);
        assert!(replays.is_first("a", "01", at(0)));
        for secs in [0, 1, 30, 60] {
            assert!(!replays.is_first("a", "01", at(secs)), "after {secs} s");
        }
        assert!(replays.is_first("b", "01", at(60)), "another name's nonce is another nonce");
        assert!(!replays.is_first("b", "01", at(119)));
        assert!(replays.is_first("a", "01", at(500)), "forgotten, and its time has long passed");
    }

    #[test]
    fn memory_is_bounded_and_what_does_not_fit_is_refused() {
        let replays = Replays::bounded(2);
        assert!(replays.is_first("a", "01", at(0)) && replays.is_first("a", "02", at(0)));
        assert!(!replays.is_first("a", "03", at(1)));
        assert!(replays.is_first("a", "03", at(61)));
    }
}
