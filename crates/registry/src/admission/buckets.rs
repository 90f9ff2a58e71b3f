//! Token buckets: who may do how much of something, in bounded memory.
//!
//! A bucket is full at first and fills at the rate; what is done is taken out of it. When there are as many buckets as there may be,
//! the full ones are forgotten, which changes nothing for their holders; if that makes no room, newcomers share one bucket
//! until it does.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often, at most, the full buckets are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// One bucket for each holder.
#[derive(Debug)]
pub struct Buckets<K> {
    /// What flows into each, in units per second; above 0.
    rate: f64,
    /// What each holds at most, in units.
    capacity: f64,
    holders_max: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    of: HashMap<K, Bucket>,
    shared: Option<Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Below 0 after something was taken that is larger than the bucket.
    level: f64,
    at: Instant,
}

// === impl Buckets ===

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets of `capacity` units, filled at `rate` units per second, for `holders_max` holders.
    #[must_use]
    pub fn new(rate: f64, capacity: f64, holders_max: usize) -> Self {
        let held = Held { of: HashMap::new(), shared: None, swept: None };
        Self { rate, capacity, holders_max, held: Mutex::new(held) }
    }

    /// Takes `amount` out of the bucket of `holder`. What is larger than a bucket needs a full one, and leaves it in debt.
    ///
    /// # Errors
    ///
    /// How long to wait until there is enough in it. Nothing was taken.
    pub fn take(&self, holder: K, amount: f64, now: Instant) -> Result<(), Duration> {
        let mut held = self.lock();
        if held.of.len() >= self.holders_max && !held.of.contains_key(&holder) {
            held.sweep(self.rate, self.capacity, now);
        }
        let full = Bucket { level: self.capacity, at: now };
        let bucket = match held.of.len() < self.holders_max || held.of.contains_key(&holder) {
            true => held.of.entry(holder).or_insert(full),
            false => held.shared.get_or_insert(full),
        };
        let level = bucket.level_at(self.rate, self.capacity, now);
        let missing = amount.min(self.capacity) - level;
        *bucket = Bucket { level, at: now };
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / self.rate));
        }
        bucket.level -= amount;
        Ok(())
    }

    /// Puts back what was taken for something that did not happen.
    pub fn give_back(&self, holder: &K, amount: f64) {
        let mut held = self.lock();
        // A bucket that is no longer there was full.
        if let Some(bucket) = held.of.get_mut(holder) {
            bucket.level = (bucket.level + amount).min(self.capacity);
        }
    }

    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        self.lock().of.len()
    }

    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl<K> Held<K> {
    /// Forgets the full ones.
    fn sweep(&mut self, rate: f64, capacity: f64, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.of.retain(|_, bucket| bucket.level_at(rate, capacity, now) < capacity);
    }
}

// === impl Bucket ===

impl Bucket {
    fn level_at(&self, rate: f64, capacity: f64, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        (self.level + filled).min(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_gets_its_rate_and_another_one_its_own() {
        let (buckets, start) = (Buckets::new(10.0, 20.0, 100), Instant::now());
        let taken = |holder, now| (0..100).filter(|_| buckets.take(holder, 1.0, now).is_ok()).count();
        assert_eq!(taken(1, start), 20, "a whole bucket at once");
        assert_eq!(taken(1, start + Duration::from_secs(1)), 10);
        assert_eq!(taken(2, start), 20);
        let wait = buckets.take(1, 1.0, start + Duration::from_secs(1)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
    }

    #[test]
    fn what_did_not_happen_is_put_back_and_what_is_too_large_for_a_bucket_is_paid_for_later() {
        let (buckets, start) = (Buckets::new(10.0, 20.0, 100), Instant::now());
        buckets.take("a", 20.0, start).unwrap();
        assert!(buckets.take("a", 1.0, start).is_err());
        buckets.give_back(&"a", 20.0);
        buckets.take("a", 50.0, start).unwrap();
        assert_eq!(buckets.take("a", 1.0, start).unwrap_err(), Duration::from_millis(3100));
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share_one_bucket() {
        let (buckets, now) = (Buckets::new(1.0, 2.0, 2), Instant::now());
        (1..=2).for_each(|holder| buckets.take(holder, 1.0, now).unwrap());
        assert_eq!((3..=10).filter(|holder| buckets.take(*holder, 1.0, now).is_ok()).count(), 2);
        assert_eq!(buckets.holders(), 2);
        assert!(buckets.take(11, 1.0, now + Duration::from_secs(5)).is_ok(), "the full ones have made room");
    }
}
