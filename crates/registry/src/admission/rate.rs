//! How often a client may ask: a token bucket each.
//!
//! A bucket holds two seconds' worth, and fills at the rate; a request takes one. A client is an IPv4 address or an
//! IPv6 /64, which is what one host gets to choose from. Memory is bounded: when there are [`CLIENTS_MAX`] buckets, the
//! full ones are forgotten, which changes nothing for their clients; if that makes no room, newcomers share one bucket
//! until it does.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many clients are told apart: about 4 MiB.
pub const CLIENTS_MAX: usize = 65_536;

/// How often, at most, the full buckets are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// All buckets.
#[derive(Debug)]
pub struct Rates {
    /// Requests a second; 0 for no limit.
    rate: f64,
    clients_max: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    of: HashMap<IpAddr, Bucket>,
    shared: Option<Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Instant,
}

// === impl Rates ===

impl Rates {
    /// So many requests a second for each client; 0 for no limit.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.into(), clients_max: CLIENTS_MAX, buckets: Mutex::default() }
    }

    /// Counts a request of `client`.
    ///
    /// # Errors
    ///
    /// How long to wait for the next one.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.rate == 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = 2.0 * self.rate;
        let client = who(client);
        if buckets.of.len() >= self.clients_max && !buckets.of.contains_key(&client) {
            buckets.sweep(self.rate, now);
        }
        let full = Bucket { level: burst, at: now };
        let bucket = match buckets.of.len() < self.clients_max || buckets.of.contains_key(&client) {
            true => buckets.of.entry(client).or_insert(full),
            false => buckets.shared.get_or_insert(full),
        };
        bucket.take(self.rate, now)
    }
}

// === impl Buckets ===

impl Buckets {
    /// Forgets the full ones.
    fn sweep(&mut self, rate: f64, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.of.retain(|_, bucket| bucket.level_at(rate, now) < 2.0 * rate);
    }
}

// === impl Bucket ===

impl Bucket {
    fn level_at(&self, rate: f64, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        (self.level + filled).min(2.0 * rate)
    }

    fn take(&mut self, rate: f64, now: Instant) -> Result<(), Duration> {
        let level = self.level_at(rate, now);
        let (taken, result) = match level >= 1.0 {
            true => (1.0, Ok(())),
            false => (0.0, Err(Duration::from_secs_f64((1.0 - level) / rate))),
        };
        *self = Self { level: level - taken, at: now };
        result
    }
}

/// What counts as one client.
fn who(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_client_gets_its_rate_and_another_one_its_own() {
        let (rates, start) = (Rates::new(10), Instant::now());
        let taken = |client, now| (0..100).filter(|_| rates.take(client, now).is_ok()).count();
        assert_eq!(taken(ip(1), start), 20, "two seconds' worth at once");
        assert_eq!(taken(ip(1), start + Duration::from_secs(1)), 10);
        assert_eq!(taken(ip(2), start), 20);
        let wait = rates.take(ip(1), start + Duration::from_secs(1)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_and_both_forms_of_ipv4_are_one_client() {
        assert_eq!(who("fd00::1".parse().unwrap()), who("fd00::ffff:2".parse().unwrap()));
        assert_ne!(who("fd00::1".parse().unwrap()), who("fd00:0:0:1::1".parse().unwrap()));
        assert_eq!(who("::ffff:10.0.0.1".parse().unwrap()), ip(1));
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share_one_bucket() {
        let rates = Rates { clients_max: 2, ..Rates::new(1) };
        let now = Instant::now();
        (1..=2).for_each(|last| rates.take(ip(last), now).unwrap());
        assert_eq!((3..=10).filter(|last| rates.take(ip(*last), now).is_ok()).count(), 2);
        assert_eq!(rates.buckets.lock().unwrap().of.len(), 2);
        assert!(rates.take(ip(11), now + Duration::from_secs(5)).is_ok(), "the full ones have made room");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let rates = Rates::new(0);
        assert!((0..10_000).all(|_| rates.take(ip(1), Instant::now()).is_ok()));
    }
}
