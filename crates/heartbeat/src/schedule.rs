//! When the next heartbeat is due: a pure function of how the last one went.
//!
//! - **Accepted**: after `next_heartbeat_ms` of the reply, held between a tenth and two fifths of the TTL whatever the
//!   registry says, so that after a success two more heartbeats are tried before the lease ends. Counted from the start
//!   of the heartbeat, so that a slow registry does not stretch the rhythm. A little earlier at random (at most 10 %),
//!   and the first one a lot (at most half), so that instances that started together drift apart: jitter only ever
//!   shortens.
//! - **Failed** (unreachable, busy, broken): soon, then less often, at most every 2 s. With a lease of 5 s running out
//!   there is no time for more patience, and an instance must not be absent long after the registries are back.
//! - **Asked to wait** (429 or 503 with `Retry-After`): not before that, and spread over as long again, so that a
//!   registry that had to turn many away at once does not see them all again at once.
//! - **Displaced** (another instance holds the id): after two fifths of the TTL, so that we are back soon when that one
//!   ends.
//! - **Refused** (a configuration mistake): every 2 s, 4 s, 8 s, 10 s, and so on for ever: it may be the registry's
//!   configuration that gets mended.

use std::time::Duration;

use discovery::{Ttl, deadlines, heartbeat::HeartbeatReply};
use service_kit::backoff::Backoff;
use tokio::time::Instant;

/// The longest that one registry may take for one answer. Longer than any healthy one needs, and short enough that
/// three fit into the default TTL.
pub(crate) const ATTEMPT_MAX: Duration = deadlines::HEARTBEAT_ATTEMPT;
/// The longest pause while no registry answers.
const FAILED_MAX: Duration = Duration::from_secs(2);
/// The longest pause while the heartbeat is refused.
const REFUSED_MAX: Duration = Duration::from_secs(10);
/// Between the end of one heartbeat and the next, even if the status changes all the time.
const GAP: Duration = Duration::from_millis(50);

/// The longest that a registry is left alone because it asked for it, but for the spread: an eighth of it at least.
pub(crate) const HELD_MAX: Duration = Duration::from_secs(2);

/// How a heartbeat went, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Committed.
    Accepted {
        /// What the registry wishes, within our bounds: see [`Schedule::wish`].
        next: Duration,
    },
    /// No registry accepted it; a retry may succeed.
    Failed,
    /// Another instance holds the id.
    Displaced,
    /// No registry accepted it, and a retry will not succeed without a change of configuration.
    Refused,
}

/// The rhythm of one instance.
#[derive(Debug)]
pub(crate) struct Schedule {
    ttl: Ttl,
    failed: Backoff,
    refused: u32,
    accepted: u64,
}

// === impl Schedule ===

impl Schedule {
    pub(crate) fn new(ttl: Ttl) -> Self {
        let ceiling = FAILED_MAX.min(ttl.heartbeat_interval());
        Self { ttl, failed: Backoff::new(ceiling / 8, ceiling), refused: 0, accepted: 0 }
    }

    /// How long one registry gets for one answer: a fifth of the TTL, at most 1 s.
    pub(crate) fn attempt_deadline(&self) -> Duration {
        ATTEMPT_MAX.min(self.ttl.get() / 5)
    }

    /// How long a whole heartbeat over `registries` registries may take: two fifths of the TTL, so that another one
    /// fits before the lease ends.
    pub(crate) fn heartbeat_deadline(&self, registries: usize) -> Duration {
        let all = self.attempt_deadline().saturating_mul(u32::try_from(registries).unwrap_or(u32::MAX));
        all.min(self.ttl.heartbeat_interval())
    }

    /// `next_heartbeat_ms` of a reply, held within a tenth and two fifths of the TTL: the one asked for, or the one
    /// granted if that is shorter.
    pub(crate) fn wish(&self, reply: &HeartbeatReply) -> Duration {
        let ttl = granted(reply).min(self.ttl.get());
        Duration::from_millis(reply.next_heartbeat_ms).clamp(ttl / 10, ttl * 2 / 5)
    }

    /// When to send the next heartbeat after one that `started`, ended `now` and went like `verdict`. `draw` is uniform
    /// in `0.0..=1.0`.
    pub(crate) fn next(&mut self, verdict: Verdict, started: Instant, now: Instant, draw: f64) -> Instant {
        let shortened = |pause: Duration, share: f64| pause.mul_f64(1.0 - share * draw.clamp(0.0, 1.0));
        match verdict {
            Verdict::Accepted { next } => {
                let share = if self.accepted == 0 { 0.5 } else { 0.1 };
                self.accepted += 1;
                self.refused = 0;
                self.failed.reset();
                (started + shortened(next, share)).max(now + GAP)
            }
            Verdict::Failed => {
                self.refused = 0;
                now + self.failed.next_wait_at(draw)
            }
            Verdict::Displaced => {
                self.refused = 0;
                self.failed.reset();
                now + shortened(self.ttl.heartbeat_interval(), 0.1)
            }
            Verdict::Refused => {
                let pause = self.ttl.heartbeat_interval().saturating_mul(1 << self.refused.min(10)).min(REFUSED_MAX);
                self.refused = self.refused.saturating_add(1);
                now + shortened(pause, 0.1)
            }
        }
    }

    /// How long to leave a registry alone that asked for `retry_after`: no longer than until the next heartbeat would
    /// be due, whatever it asks for, so that a short lease is not waited to its end.
    pub(crate) fn held(&self, retry_after: Duration, draw: f64) -> Duration {
        held(retry_after, HELD_MAX.min(self.ttl.heartbeat_interval()), draw)
    }

    /// The same for a heartbeat that cannot wait, because the status has changed; `ended` is when the last one did.
    pub(crate) fn at_once(ended: Instant, now: Instant) -> Instant {
        now.max(ended + GAP)
    }
}

/// How long to leave a registry alone that asked for `retry_after`, if `longest` is the longest but for the spread;
/// `draw` is uniform in `0.0..=1.0`.
pub(crate) fn held(retry_after: Duration, longest: Duration, draw: f64) -> Duration {
    let retry_after = retry_after.min(longest);
    let spread = retry_after.min(longest - retry_after).max(longest / 8);
    retry_after + spread.mul_f64(draw.clamp(0.0, 1.0))
}

/// How long a reply is good for, held within what a TTL can be.
pub(crate) fn granted(reply: &HeartbeatReply) -> Duration {
    Duration::from_millis(reply.ttl_ms).clamp(Ttl::MIN.get(), Ttl::MAX.get())
}

#[cfg(test)]
mod thundering_herd;

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

    fn schedule() -> Schedule {
        Schedule::new(Ttl::default())
    }

    fn reply(ttl_ms: u64, next_heartbeat_ms: u64) -> HeartbeatReply {
        HeartbeatReply { ttl_ms, next_heartbeat_ms, revision: 1, ..HeartbeatReply::default() }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn jitter_only_ever_shortens_the_wait_that_the_registry_asked_for() {
        let now = Instant::now();
        for draw in DRAWS {
            let mut schedule = schedule();
            let verdict = Verdict::Accepted { next: ms(2000) };
            let first = schedule.next(verdict, now, now + ms(5), draw) - now;
            assert!((ms(1000)..=ms(2000)).contains(&first), "{first:?}");
            let second = schedule.next(verdict, now, now + ms(5), draw) - now;
            assert!((ms(1800)..=ms(2000)).contains(&second), "{second:?}");
        }
    }

    #[test]
    fn a_slow_registry_does_not_stretch_the_rhythm() {
        let now = Instant::now();
        let next = schedule().next(Verdict::Accepted { next: ms(2000) }, now, now + ms(900), 0.0);
        assert_eq!(next, now + ms(2000));
        let next = schedule().next(Verdict::Accepted { next: ms(500) }, now, now + ms(900), 0.0);
        assert_eq!(next, now + ms(900) + GAP, "but there is always a pause");
    }

    #[test]
    fn whatever_the_registry_says_the_wait_allows_two_losses_and_is_no_busy_loop() {
        for (ttl_ms, next_ms, expected) in [
            (5000, 2000, 2000),
            (5000, 1000, 1000),
            (5000, 0, 500),
            (5000, 3_600_000, 2000),
            (5000, u64::MAX, 2000),
            (2000, 2000, 800),
            (0, 0, 200),
            (u64::MAX, u64::MAX, 2000),
            (3_600_000, 60_000, 2000),
        ] {
            assert_eq!(schedule().wish(&reply(ttl_ms, next_ms)), ms(expected), "{ttl_ms} {next_ms}");
        }
    }

    #[test]
    fn the_pause_grows_to_two_seconds_while_no_registry_answers() {
        let mut schedule = schedule();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..6).map(|_| schedule.next(Verdict::Failed, now, now, 1.0) - now).collect();
        assert_eq!(waits, [ms(500), ms(1000), ms(2000), ms(2000), ms(2000), ms(2000)]);
        schedule.next(Verdict::Accepted { next: ms(2000) }, now, now, 0.0);
        assert_eq!(schedule.next(Verdict::Failed, now, now, 0.0) - now, ms(250), "short again after a success");
    }

    #[test]
    fn who_is_asked_to_wait_waits_at_least_that_long_and_never_until_the_lease_has_ended() {
        for (asked_ms, latest_ms) in [(250, 500), (500, 1000), (1000, 2000), (1500, 2000), (1900, 2150), (2000, 2250)] {
            assert_eq!(schedule().held(ms(asked_ms), 0.0), ms(asked_ms));
            assert_eq!(schedule().held(ms(asked_ms), 1.0), ms(latest_ms));
        }
        // A heartbeat that is due after two fifths of the TTL and refused, and the answer to the next one, within the
        // TTL.
        for ttl in [Ttl::MIN, Ttl::from_millis(3000).unwrap(), Ttl::default(), Ttl::MAX] {
            let schedule = Schedule::new(ttl);
            assert!(ttl.heartbeat_interval() + schedule.held(ms(3_600_000), 1.0) < ttl.get(), "{ttl}");
        }
    }

    #[test]
    fn a_refused_heartbeat_is_sent_again_slowly_and_for_ever() {
        let mut schedule = schedule();
        let now = Instant::now();
        let waits: Vec<Duration> = (0..100).map(|_| schedule.next(Verdict::Refused, now, now, 0.0) - now).collect();
        assert_eq!(waits[..4], [ms(2000), ms(4000), ms(8000), ms(10_000)]);
        assert_eq!(waits[99], ms(10_000));
    }

    #[test]
    fn a_whole_heartbeat_and_the_next_one_fit_into_the_ttl() {
        for ttl in [Ttl::MIN, Ttl::default(), Ttl::MAX] {
            let schedule = Schedule::new(ttl);
            for registries in [1, 2, 3, 100] {
                let whole = schedule.heartbeat_deadline(registries);
                assert!(ttl.heartbeat_interval() + whole < ttl.get(), "{ttl} with {registries}");
                assert!(schedule.attempt_deadline() <= whole);
            }
        }
        assert_eq!(schedule().attempt_deadline(), ms(1000));
        assert_eq!(schedule().heartbeat_deadline(3), ms(2000));
    }

    #[test]
    fn a_changed_status_does_not_wait_but_is_no_busy_loop() {
        let now = Instant::now();
        assert_eq!(Schedule::at_once(now, now), now + GAP);
        assert_eq!(Schedule::at_once(now, now + ms(500)), now + ms(500));
    }
}
