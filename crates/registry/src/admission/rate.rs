//! How often a client may ask: a token bucket each.
//!
//! A bucket holds two seconds' worth, and fills at the rate; a request takes one. A client is an IPv4 address or an
//! IPv6 /64, which is what one host gets to choose from. Memory is bounded by [`CLIENTS_MAX`]; see [`service_kit::token_bucket`].

use std::{net::IpAddr, time::Duration};

use service_kit::{
    connections::ClientNetwork,
    token_bucket::{RateLimit, TokenBuckets},
};
use tokio::time::Instant;

/// How many clients are told apart: about 4 MiB.
pub const CLIENTS_MAX: usize = 65_536;

/// All buckets.
#[derive(Debug)]
pub struct Rates(Option<TokenBuckets<ClientNetwork>>);

// === impl Rates ===

impl Rates {
    /// So many requests a second for each client; 0 for no limit.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self((rate > 0.0).then(|| TokenBuckets::new(RateLimit { per_second: rate, capacity: 2.0 * rate }, CLIENTS_MAX)))
    }

    /// Counts a request of `client`.
    ///
    /// # Errors
    ///
    /// How long to wait for the next one.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.as_ref().map_or(Ok(()), |buckets| buckets.take(ClientNetwork::of(client), 1.0, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client_and_so_are_both_forms_of_ipv4() {
        let rates = Rates::new(1);
        let now = Instant::now();
        let taken = |client: &str| rates.take(client.parse().unwrap(), now).is_ok();
        assert!(taken("fd00::1") && taken("fd00::ffff:2") && !taken("fd00::3"), "two seconds' worth at once");
        assert!(taken("fd00:0:0:1::1"));
        assert!(taken("::ffff:10.0.0.1") && taken("10.0.0.1") && !taken("10.0.0.1"));
    }

    #[test]
    fn no_limit_is_no_limit() {
        let rates = Rates::new(0);
        assert!((0..10_000).all(|_| rates.take([10, 0, 0, 1].into(), Instant::now()).is_ok()));
    }
}
