//! How much is sent to one domain: so many messages concurrently, so many a second.
//!
//! A provider that gets a burst answers with 4xx for everything that follows. The rate is a token bucket that holds one
//! second's worth, so that a single message never waits. Counted by this instance alone: n instances send n times as
//! much.

use std::collections::HashMap;

use service_kit::token_bucket::{RateLimit, TokenBucket};
use tokio::time::{Duration, Instant};

/// The limits for each domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DomainLimits {
    /// Messages being sent at the same time.
    pub concurrency: usize,
    /// Messages a second; `None`: no limit.
    pub per_second: Option<f64>,
}

/// What is being sent to each domain, and how much may follow.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: DomainLimits,
    domains: HashMap<String, Domain>,
}

#[derive(Debug)]
struct Domain {
    sending: usize,
    /// `None` where there is no rate.
    tokens: Option<TokenBucket>,
}

// === impl Limiter ===

impl Limiter {
    pub(super) fn new(limits: DomainLimits) -> Self {
        Self { limits, domains: HashMap::new() }
    }

    /// Acquires what one message to `domain` needs; `false` when the domain is at a limit.
    pub(super) fn acquire(&mut self, domain: &str, now: Instant) -> bool {
        let limits = self.limits;
        let state = self.domains.entry(domain.to_owned()).or_insert_with(|| Domain::new(limits, now));
        if state.sending >= limits.concurrency || !state.take_token(limits, now) {
            return false;
        }
        state.sending += 1;
        true
    }

    /// Ends one of the concurrent messages to `domain`. Its token stays spent.
    pub(super) fn release(&mut self, domain: &str) {
        if let Some(state) = self.domains.get_mut(domain) {
            state.sending = state.sending.saturating_sub(1);
        }
    }

    /// Domains at a limit now. Forgets those at rest.
    pub(super) fn at_limit(&mut self, now: Instant) -> Vec<String> {
        let limits = self.limits;
        self.domains.retain(|_, state| state.sending > 0 || !state.is_full(limits, now));
        let is_at_limit =
            |state: &Domain| state.sending >= limits.concurrency || state.next_token(limits, now).is_some();
        self.domains.iter().filter(|(_, state)| is_at_limit(state)).map(|(domain, _)| domain.clone()).collect()
    }

    /// How long until the first domain that waits for its rate may continue; `None` when none waits.
    pub(super) fn next_token(&self, now: Instant) -> Option<Duration> {
        self.domains.values().filter_map(|state| state.next_token(self.limits, now)).min()
    }
}

// === impl DomainLimits ===

impl DomainLimits {
    fn rate(self) -> Option<RateLimit> {
        self.per_second.map(|per_second| RateLimit { per_second, capacity: self.burst() })
    }

    fn burst(self) -> f64 {
        self.per_second.map_or(1.0, |rate| rate.max(1.0))
    }
}

// === impl Domain ===

impl Domain {
    fn new(limits: DomainLimits, now: Instant) -> Self {
        Self { sending: 0, tokens: limits.rate().map(|rate| TokenBucket::full(rate, now)) }
    }

    fn take_token(&mut self, limits: DomainLimits, now: Instant) -> bool {
        let tokens = self.tokens.as_mut().zip(limits.rate());
        tokens.is_none_or(|(bucket, rate)| bucket.take(rate, 1.0, now).is_ok())
    }

    fn is_full(&self, limits: DomainLimits, now: Instant) -> bool {
        self.tokens.zip(limits.rate()).is_none_or(|(bucket, rate)| bucket.is_full(rate, now))
    }

    /// How long until there is a token; `None` when there is one.
    fn next_token(&self, limits: DomainLimits, now: Instant) -> Option<Duration> {
        // Taken out of a copy.
        self.tokens.zip(limits.rate()).and_then(|(mut bucket, rate)| bucket.take(rate, 1.0, now).err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_gets_so_many_at_a_time_and_another_is_not_held_up() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 2, per_second: None });
        assert!(
            limiter.acquire("a", now)
                && limiter.acquire("a", now)
                && !limiter.acquire("a", now)
                && limiter.acquire("b", now)
        );
        assert_eq!(limiter.at_limit(now), ["a"]);
        limiter.release("a");
        assert!(limiter.acquire("a", now));
        assert_eq!(limiter.next_token(now), None);
    }

    #[test]
    fn a_domain_gets_so_many_a_second() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 100, per_second: Some(2.0) });
        let taken = |limiter: &mut Limiter, now| (0..10).filter(|_| limiter.acquire("a", now)).count();
        assert_eq!(taken(&mut limiter, now), 2);
        assert_eq!(limiter.next_token(now), Some(Duration::from_millis(500)));
        assert_eq!(taken(&mut limiter, now + Duration::from_millis(500)), 1);
        assert_eq!(taken(&mut limiter, now + Duration::from_secs(60)), 2, "what was not used is not saved up");
    }

    #[test]
    fn a_slow_rate_still_lets_single_messages_through_and_domains_at_rest_are_forgotten() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 1, per_second: Some(0.1) });
        assert!(limiter.acquire("a", now));
        limiter.release("a");
        assert!(
            !limiter.acquire("a", now + Duration::from_secs(9)) && limiter.acquire("a", now + Duration::from_secs(10))
        );
        limiter.release("a");
        assert!(limiter.at_limit(now + Duration::from_secs(60)).is_empty() && limiter.domains.is_empty());
    }
}
