//! How fast a client takes a response, judged as the body of a request is ([`crate::downstream::request_body`]): over the time for which the client was
//! waited for, and not over the instance's.
//!
//! What the kernels take at once says nothing about the client, and neither does what it has read fast how it goes on. So a client
//! owes bytes for the time for which it is waited for, and what it takes pays for that, but never in advance: megabytes that the
//! buffers take at the beginning do not buy hours.

use std::time::Duration;

use crate::clock::Millis;

/// How long a client may be slow. A kernel whose program reads slowly opens its window in large steps only.
const GRACE: Duration = Duration::from_secs(30);

/// After so long an instance may have broken off for the client's sake: no server gives a write less time.
const SUSPECT: Duration = Duration::from_secs(5);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// For how long the client has been waited for, by the ticks that saw it.
    waited: Duration,
    since: Option<Millis>,
    has_waited: bool,
    /// Bytes that pay for what has been `waited`.
    paid: u64,
}

impl Pace {
    /// The client has taken so much.
    pub(crate) fn took(&mut self, bytes: usize, now: Millis) {
        if self.has_waited {
            self.paid += bytes as u64;
            let since = self.since.take();
            self.waited += since.map_or(Duration::ZERO, |since| now.since(since));
        }
    }

    /// It takes nothing for now; whether it is too slow for `min_bytes_per_s` (0: no limit).
    pub(crate) fn is_too_slow(&mut self, min_bytes_per_s: u64, now: Millis) -> bool {
        self.has_waited = true;
        self.waited += now.since(*self.since.get_or_insert(now));
        self.since = Some(now);
        let owed =
            |time: Duration| u64::try_from(u128::from(min_bytes_per_s) * time.as_millis() / 1000).unwrap_or(u64::MAX);
        let all = owed(self.waited);
        self.paid = self.paid.min(all);
        all - self.paid > owed(GRACE)
    }

    /// Whether the client has been waited for so long that an instance may have given it up.
    pub(crate) fn is_slow(&self) -> bool {
        self.waited >= SUSPECT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many seconds a client is too slow that takes so many bytes a second, or `None` for an hour.
    fn lasts(bytes: usize, min_bytes_per_s: u64) -> Option<u64> {
        let mut pace = Pace::default();
        pace.took(10_000_000, Millis(0));
        (0..3600).find(|second| {
            let is_too_slow = pace.is_too_slow(min_bytes_per_s, Millis(second * 1000));
            pace.took(bytes, Millis(second * 1000 + 500));
            is_too_slow
        })
    }

    #[test]
    fn a_client_that_drips_is_too_slow_after_the_grace_and_one_that_is_fast_enough_never() {
        assert_eq!(lasts(0, 100).map(|second| second / 10), Some(6), "half of the time it is not waited for");
        assert!(lasts(10, 100).is_some());
        assert_eq!((lasts(100, 100), lasts(0, 0)), (None, None));
    }

    #[test]
    fn what_was_taken_at_once_buys_no_time_to_drip() {
        let mut pace = Pace::default();
        assert!(!pace.is_too_slow(1000, Millis(0)));
        pace.took(10_000_000, Millis(1));
        let cut = (0..3600).find(|second| pace.is_too_slow(1000, Millis(1000 * second + 1)));
        assert_eq!(cut, Some(31));
    }

    #[test]
    fn the_time_of_the_instance_is_not_the_clients() {
        let mut pace = Pace::default();
        for minute in 0..100 {
            assert!(!pace.is_too_slow(1000, Millis(minute * 60_000)));
            pace.took(1, Millis(minute * 60_000));
        }
        assert!(!pace.is_slow());
    }
}
