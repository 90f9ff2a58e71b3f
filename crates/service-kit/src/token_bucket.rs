//! Token buckets: how often, or how much, is allowed.
//!
//! A bucket is full at first and is refilled at a constant rate; what is done is taken out of it. [`TokenBuckets`] are
//! many of them, one for each client, token or key, in bounded memory: when there are as many as there may be, the full
//! ones are dropped, which changes nothing for their holders; if that makes no room, newcomers share one bucket until
//! it does.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often, at most, the full buckets are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What a bucket allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// What flows in, in units per second; above 0.
    pub per_second: f64,
    /// What fits in, in units: the burst.
    pub capacity: f64,
}

/// One bucket. Its limit is an argument, because many buckets share one.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    /// Below 0 after something was taken that is larger than the bucket.
    level: f64,
    at: Instant,
}

/// One bucket for each holder, all with the same limit.
#[derive(Debug)]
pub struct TokenBuckets<K> {
    limit: RateLimit,
    holders_max: usize,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    by_holder: HashMap<K, TokenBucket>,
    shared: Option<TokenBucket>,
    swept: Option<Instant>,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// A full one.
    #[must_use]
    pub fn full(limit: RateLimit, now: Instant) -> Self {
        Self { level: limit.capacity, at: now }
    }

    /// Takes `amount` out. What is larger than the bucket needs a full one, and leaves it in debt.
    ///
    /// # Errors
    ///
    /// How long to wait until there is enough in it. Nothing was taken.
    pub fn take(&mut self, limit: RateLimit, amount: f64, now: Instant) -> Result<(), Duration> {
        self.level = self.level_at(limit, now);
        self.at = now;
        let missing = amount.min(limit.capacity) - self.level;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / limit.per_second));
        }
        self.level -= amount;
        Ok(())
    }

    /// Puts back what was taken for something that did not happen.
    pub fn put_back(&mut self, limit: RateLimit, amount: f64) {
        self.level = (self.level + amount).min(limit.capacity);
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_full(&self, limit: RateLimit, now: Instant) -> bool {
        self.level_at(limit, now) >= limit.capacity
    }

    fn level_at(&self, limit: RateLimit, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * limit.per_second;
        (self.level + filled).min(limit.capacity)
    }
}

// === impl TokenBuckets ===

impl<K: Eq + Hash> TokenBuckets<K> {
    /// Buckets for `holders_max` holders.
    #[must_use]
    pub fn new(limit: RateLimit, holders_max: usize) -> Self {
        let buckets = Buckets { by_holder: HashMap::new(), shared: None, swept: None };
        Self { limit, holders_max, buckets: Mutex::new(buckets) }
    }

    /// [`TokenBucket::take`] out of the bucket of `holder`.
    ///
    /// # Errors
    ///
    /// As [`TokenBucket::take`].
    pub fn take(&self, holder: K, amount: f64, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.lock();
        if buckets.by_holder.len() >= self.holders_max && !buckets.by_holder.contains_key(&holder) {
            buckets.sweep(self.limit, now);
        }
        let full = TokenBucket::full(self.limit, now);
        let bucket = match buckets.by_holder.len() < self.holders_max || buckets.by_holder.contains_key(&holder) {
            true => buckets.by_holder.entry(holder).or_insert(full),
            false => buckets.shared.get_or_insert(full),
        };
        bucket.take(self.limit, amount, now)
    }

    /// Puts back what was taken for something that did not happen.
    pub fn put_back(&self, holder: &K, amount: f64) {
        // A bucket that is no longer there was full.
        if let Some(bucket) = self.lock().by_holder.get_mut(holder) {
            bucket.put_back(self.limit, amount);
        }
    }

    /// How many buckets there are, the shared one left out.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.lock().by_holder.len()
    }

    fn lock(&self) -> MutexGuard<'_, Buckets<K>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Buckets ===

impl<K> Buckets<K> {
    /// Drops the full ones.
    fn sweep(&mut self, limit: RateLimit, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.by_holder.retain(|_, bucket| !bucket.is_full(limit, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_gets_its_rate_and_another_one_its_own() {
        let buckets = TokenBuckets::new(RateLimit { per_second: 10.0, capacity: 20.0 }, 100);
        let start = Instant::now();
        let taken = |holder, now| (0..100).filter(|_| buckets.take(holder, 1.0, now).is_ok()).count();
        assert_eq!(taken(1, start), 20, "a whole bucket at once");
        assert_eq!(taken(1, start + Duration::from_secs(1)), 10);
        assert_eq!(taken(2, start), 20);
        let wait = buckets.take(1, 1.0, start + Duration::from_secs(1)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
    }

    #[test]
    fn what_did_not_happen_is_put_back_and_what_is_too_large_for_a_bucket_is_paid_for_later() {
        let buckets = TokenBuckets::new(RateLimit { per_second: 10.0, capacity: 20.0 }, 100);
        let start = Instant::now();
        buckets.take("a", 20.0, start).unwrap();
        assert!(buckets.take("a", 1.0, start).is_err());
        buckets.put_back(&"a", 20.0);
        buckets.take("a", 50.0, start).unwrap();
        assert_eq!(buckets.take("a", 1.0, start).unwrap_err(), Duration::from_millis(3100));
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share_one_bucket() {
        let buckets = TokenBuckets::new(RateLimit { per_second: 1.0, capacity: 2.0 }, 2);
        let now = Instant::now();
        (1..=2).for_each(|holder| buckets.take(holder, 1.0, now).unwrap());
        assert_eq!((3..=10).filter(|holder| buckets.take(*holder, 1.0, now).is_ok()).count(), 2);
        assert_eq!(buckets.holders(), 2);
        assert!(buckets.take(11, 1.0, now + Duration::from_secs(5)).is_ok(), "the full ones have made room");
    }
}
