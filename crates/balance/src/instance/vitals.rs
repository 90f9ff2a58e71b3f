//! Signs of life of one instance, and how long it may go without one while requests wait there.
//!
//! Slow is not dead. A process that was stopped still holds its connections, and its kernel still accepts new ones and takes
//! what is sent; only time tells it from one that works. A sign of life is any byte from the instance, of a head, a body or a
//! tunnel, on any connection, and any response to a probe; an accepted connection is none. While the last one is younger than
//! the [limit](Vitals::limit), no other instance is asked in its place, and nothing ejects it for being silent. After that,
//! and only when it has not answered a probe either, it counts as dead until its next byte.
//!
//! A single-threaded server that works for a second and a half answers no probe meanwhile, just as a stopped one. What tells
//! them apart is what they have shown before. A response that *overtakes* one that was asked for earlier proves that the
//! server works on several requests at a time, so that its silence soon means something. A server that never did so gets four
//! times as long, and every server twice as long as it has ever taken of late. Where that is wrong, the harm is
//! small: a safe request is carried out twice, and the instance is avoided until its next byte. No other request is repeated.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Millis;

/// How often a response must have overtaken another: one may have been lost and sent again on the way.
const OVERTAKINGS_MIN: u32 = 3;
/// How many times as long an instance may be silent that has not overtaken: a second and a half of work are usual, three
/// are not rare, and the lease of a stopped process that registers itself ends after three to five.
const IN_TURN: u32 = 4;
/// How often an instance was found silent, in this process.
static FINDINGS: AtomicU64 = AtomicU64::new(0);
/// How long the longest answer is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// When the last byte came.
    last_byte_at: AtomicU64,
    /// Whether it counts as dead; the next byte takes that back.
    is_silent: AtomicBool,
    /// Responses that came before one that was asked for earlier, up to [`OVERTAKINGS_MIN`].
    overtakings: AtomicU32,
    /// The longest answer of late, in milliseconds (32 bits), above the moment when it came (32 bits).
    slowest: AtomicU64,
}

// === impl Vitals ===

impl Vitals {
    /// A byte has come. Written once in a tick of the clock and not once a byte.
    pub(crate) fn hear(&self, now: Millis) {
        if self.last_byte_at.load(Ordering::Relaxed) < now.0 {
            self.last_byte_at.store(now.0, Ordering::Relaxed);
        }
        if self.is_silent.load(Ordering::Relaxed) {
            self.is_silent.store(false, Ordering::Relaxed);
        }
    }

    /// When the last byte came; the first moment there is, when none ever did.
    pub(crate) fn last_byte_at(&self) -> Millis {
        Millis(self.last_byte_at.load(Ordering::Relaxed))
    }

    /// It was silent for longer than its limit, and has not answered a probe.
    pub(crate) fn found_silent(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
        FINDINGS.fetch_add(1, Ordering::Release);
    }

    /// Whether it was found silent, and has not sent a byte since.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// The head of a response came `latency` after its request had been sent; whether it overtook another one is asked only
    /// while that is news.
    pub(crate) fn answered(&self, latency: Duration, now: Millis, overtakes: impl FnOnce() -> bool) {
        let known = self.slowest.load(Ordering::Relaxed);
        let ms = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
        if ms > (known >> 32) as u32 || is_forgotten(known, now) {
            self.slowest.store(u64::from(ms) << 32 | u64::from(now.0 as u32), Ordering::Relaxed);
        }
        if self.overtakings.load(Ordering::Relaxed) < OVERTAKINGS_MIN && overtakes() {
            self.overtakings.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long it may be silent while requests wait: `stall`, four times that when it has not shown that it works on several
    /// requests at a time, and not longer than a third of `response`, after which they are given up; but at least twice
    /// as long as its longest answer of late, up to two thirds of `response`: after that no time would be left for another
    /// instance. Zero, for ever, when `stall` is.
    pub(crate) fn limit(&self, stall: Duration, response: Duration, now: Millis) -> Duration {
        if stall.is_zero() {
            return Duration::ZERO;
        }
        let works_in_turn = self.overtakings.load(Ordering::Relaxed) < OVERTAKINGS_MIN;
        let least = if works_in_turn { stall.saturating_mul(IN_TURN) } else { stall };
        let known = self.slowest.load(Ordering::Relaxed);
        let slowest = if is_forgotten(known, now) { 0 } else { known >> 32 };
        least.min(response / 3).max(Duration::from_millis(2 * slowest)).min(response * 2 / 3)
    }

    /// Whether its last sign of life is younger than `limit`.
    pub(crate) fn is_fresh(&self, limit: Duration, now: Millis) -> bool {
        self.last_byte_at() + limit > now
    }
}

/// A number that is another one when an instance has been found silent since: what waits there may go elsewhere.
pub(crate) fn findings() -> u64 {
    FINDINGS.load(Ordering::Acquire)
}

fn is_forgotten(slowest: u64, now: Millis) -> bool {
    Duration::from_millis(u64::from((now.0 as u32).wrapping_sub(slowest as u32))) > MEMORY
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_millis(500);
    const RESPONSE: Duration = Duration::from_secs(30);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limit(vitals: &Vitals, now: u64) -> Duration {
        vitals.limit(STALL, RESPONSE, Millis(now))
    }

    #[test]
    fn one_that_has_shown_nothing_gets_four_times_as_long() {
        let vitals = Vitals::default();
        assert_eq!(limit(&vitals, 0), ms(2000));
        for n in 1..=4 {
            vitals.answered(ms(3), Millis(n), || true);
            let expected = if n < 3 { ms(2000) } else { ms(500) };
            assert_eq!(limit(&vitals, n), expected, "after {n} overtakings");
        }
    }

    #[test]
    fn everyone_gets_twice_as_long_as_it_took_and_for_ten_minutes() {
        let vitals = Vitals::default();
        vitals.answered(ms(1500), Millis(1000), || false);
        vitals.answered(ms(10), Millis(2000), || false);
        assert_eq!(limit(&vitals, 2000), ms(3000));
        assert_eq!(limit(&vitals, 1000 + 600_000), ms(3000));
        assert_eq!(limit(&vitals, 1001 + 600_000), ms(2000));
        vitals.answered(ms(10), Millis(700_000), || false);
        assert_eq!(limit(&vitals, 700_000), ms(2000), "a shorter one takes its place then");
    }

    #[test]
    fn the_deadline_of_the_request_bounds_it() {
        let vitals = Vitals::default();
        assert_eq!(vitals.limit(STALL, ms(300), Millis(0)), ms(100));
        vitals.answered(ms(200), Millis(0), || false);
        assert_eq!(vitals.limit(STALL, ms(300), Millis(0)), ms(200), "there must be time for another instance");
        assert_eq!(vitals.limit(Duration::ZERO, ms(300), Millis(0)), Duration::ZERO, "switched off");
    }

    #[test]
    fn a_byte_takes_back_that_it_was_found_silent() {
        let vitals = Vitals::default();
        vitals.hear(Millis(1000));
        assert!(vitals.is_fresh(STALL, Millis(1499)) && !vitals.is_fresh(STALL, Millis(1500)));
        vitals.found_silent();
        assert!(vitals.is_silent());
        // Of a core whose clock is a tick behind.
        vitals.hear(Millis(900));
        assert!(!vitals.is_silent() && vitals.last_byte_at() == Millis(1000));
    }
}
