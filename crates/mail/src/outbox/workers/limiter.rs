//! How much goes to one domain: so many at a time, so many a second.
//!
//! A provider that gets a burst answers with 4xx for everything that follows. The rate is a token bucket that holds one
//! second's worth, so that a single message never waits. Counted by this instance alone: n instances send n times as much.

use std::collections::HashMap;

use tokio::time::{Duration, Instant};

/// The limits for each domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DomainLimits {
    /// Messages being sent at the same time.
    pub concurrency: usize,
    /// Messages a second; `None`: no limit.
    pub per_second: Option<f64>,
}

/// What is under way, and how much may follow.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: DomainLimits,
    domains: HashMap<String, Domain>,
}

#[derive(Debug)]
struct Domain {
    under_way: usize,
    tokens: f64,
    refilled: Instant,
}

impl Limiter {
    pub(super) fn new(limits: DomainLimits) -> Self {
        Self { limits, domains: HashMap::new() }
    }

    /// Takes a place for one message to `domain`, when there is one.
    pub(super) fn take(&mut self, domain: &str, now: Instant) -> bool {
        let limits = self.limits;
        let state = self.domains.entry(domain.to_owned()).or_insert_with(|| Domain::new(limits, now));
        state.refill(limits, now);
        if state.under_way >= limits.concurrency || state.tokens < 1.0 {
            return false;
        }
        state.under_way += 1;
        state.tokens -= 1.0;
        true
    }

    /// Gives the place back. Tokens are spent.
    pub(super) fn give_back(&mut self, domain: &str) {
        if let Some(state) = self.domains.get_mut(domain) {
            state.under_way = state.under_way.saturating_sub(1);
        }
    }

    /// Domains that can take nothing now. Forgets those at rest.
    pub(super) fn full(&mut self, now: Instant) -> Vec<String> {
        let limits = self.limits;
        self.domains.values_mut().for_each(|state| state.refill(limits, now));
        self.domains.retain(|_, state| state.under_way > 0 || state.tokens < limits.burst());
        let full = |state: &Domain| state.under_way >= limits.concurrency || state.tokens < 1.0;
        self.domains.iter().filter(|(_, state)| full(state)).map(|(domain, _)| domain.clone()).collect()
    }

    /// How long until some domain that waits for its rate may go on; `None` when none does.
    pub(super) fn next_token(&self) -> Option<Duration> {
        let rate = self.limits.per_second?;
        let missing = self.domains.values().map(|state| 1.0 - state.tokens).filter(|missing| *missing > 0.0);
        missing.reduce(f64::min).map(|missing| Duration::from_secs_f64(missing / rate))
    }
}

impl DomainLimits {
    fn burst(self) -> f64 {
        self.per_second.map_or(1.0, |rate| rate.max(1.0))
    }
}

impl Domain {
    fn new(limits: DomainLimits, now: Instant) -> Self {
        Self { under_way: 0, tokens: limits.burst(), refilled: now }
    }

    fn refill(&mut self, limits: DomainLimits, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = match limits.per_second {
            Some(rate) => (self.tokens + passed * rate).min(limits.burst()),
            None => limits.burst(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_gets_so_many_at_a_time_and_another_is_not_held_up() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 2, per_second: None });
        assert!(limiter.take("a", now) && limiter.take("a", now) && !limiter.take("a", now) && limiter.take("b", now));
        assert_eq!(limiter.full(now), ["a"]);
        limiter.give_back("a");
        assert!(limiter.take("a", now));
        assert_eq!(limiter.next_token(), None);
    }

    #[test]
    fn a_domain_gets_so_many_a_second() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 100, per_second: Some(2.0) });
        let taken = |limiter: &mut Limiter, now| (0..10).filter(|_| limiter.take("a", now)).count();
        assert_eq!(taken(&mut limiter, now), 2);
        assert_eq!(limiter.next_token(), Some(Duration::from_millis(500)));
        assert_eq!(taken(&mut limiter, now + Duration::from_millis(500)), 1);
        assert_eq!(taken(&mut limiter, now + Duration::from_secs(60)), 2, "what was not used is not saved up");
    }

    #[test]
    fn a_slow_rate_still_lets_single_messages_through_and_domains_at_rest_are_forgotten() {
        let now = Instant::now();
        let mut limiter = Limiter::new(DomainLimits { concurrency: 1, per_second: Some(0.1) });
        assert!(limiter.take("a", now));
        limiter.give_back("a");
        assert!(!limiter.take("a", now + Duration::from_secs(9)) && limiter.take("a", now + Duration::from_secs(10)));
        limiter.give_back("a");
        assert!(limiter.full(now + Duration::from_secs(60)).is_empty() && limiter.domains.is_empty());
    }
}
