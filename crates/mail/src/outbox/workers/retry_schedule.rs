//! When to try again, as a pure function.
//!
//! RFC 5321, section 4.5.4.1, asks for at least 30 minutes between attempts in the long run and for giving up after
//! four or five days; RFC 1123, section 5.3.1.1, for two attempts in the first hour. Postfix waits 5 to 67 minutes.
//! Here the wait doubles from a minute to an hour, with a quarter of jitter either way, so that messages that failed
//! together do not come back together:
//!
//! | attempt | 1 | 2 | 3 | 4 | 5 | 6 | 7 and on |
//! |---|---|---|---|---|---|---|---|
//! | then wait | 1 min | 2 min | 4 min | 8 min | 16 min | 32 min | 1 h |
//!
//! An *unknown* outcome (the final dot was sent, and no reply came) is repeated at most
//! [`REPEATS_MAX`](crate::outbox::store::REPEATS_MAX) times: the recipient may have got each of them. A server that
//! answers nothing after the dot, for whatever reason, would otherwise make a hundred copies.
//!
//! What failed before the server had heard of the message (the connection is refused, the session is refused) says
//! nothing about the message. Such a delivery keeps its place in the queue, and the whole queue is paused: so it drains
//! in order.

use std::time::Duration;

use service_kit::time::UnixMillis;

use crate::{
    outbox::store::entry::Next,
    transport::outcome::{DeliveryError, Verdict},
};

/// The configured waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// After the first attempt.
    pub first: Duration,
    /// The longest.
    pub max: Duration,
}

impl Schedule {
    /// The wait after `attempts` attempts, with a draw in `0.0..=1.0`.
    #[must_use]
    pub fn wait(&self, attempts: u32, draw: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(30);
        let wait = self.first.saturating_mul(1 << doublings).min(self.max);
        wait.mul_f64(0.75 + 0.5 * draw.clamp(0.0, 1.0))
    }

    /// What becomes of a delivery that has now been tried `attempts` times.
    #[must_use]
    pub fn next(&self, error: &DeliveryError, attempts: u32, now: UnixMillis, expires: UnixMillis, draw: f64) -> Next {
        let again = now + self.wait(attempts, draw);
        match error.verdict() {
            Verdict::Temporary if error.is_about_the_session() && now < expires => Next::Postponed,
            Verdict::Temporary if again < expires => Next::Retry(again),
            Verdict::Unknown if again < expires => Next::Repeat(again),
            Verdict::Permanent | Verdict::Temporary | Verdict::Unknown => Next::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::outcome::{Reply, Stage};

    const SCHEDULE: Schedule = Schedule { first: Duration::from_secs(60), max: Duration::from_secs(3600) };
    const DAY: Duration = Duration::from_secs(86_400);

    fn deferred(stage: Stage) -> DeliveryError {
        DeliveryError::Deferred { stage, reply: Reply::new(450, "later") }
    }

    #[test]
    fn waits_double_to_an_hour_and_jitter_by_a_quarter() {
        let minutes: Vec<u64> = (1..=8).map(|attempts| SCHEDULE.wait(attempts, 0.5).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!((SCHEDULE.wait(1, 0.0).as_secs(), SCHEDULE.wait(1, 1.0).as_secs()), (45, 75));
        assert_eq!(SCHEDULE.wait(u32::MAX, 0.5), SCHEDULE.max);
    }

    #[test]
    fn a_message_is_tried_for_four_days_and_a_hundred_times_at_most() {
        let start = UnixMillis(0);
        let mut attempts = 0;
        let mut now = start;
        let expires = start + 4 * DAY;
        while attempts < 1000 {
            attempts += 1;
            match SCHEDULE.next(&deferred(Stage::Recipient), attempts, now, expires, 0.5) {
                Next::Retry(again) => now = again,
                next => {
                    assert_eq!(next, Next::Failed);
                    break;
                }
            }
        }
        assert!((90..110).contains(&attempts), "{attempts}");
        assert!(
            now.since(start) > 4 * DAY - SCHEDULE.max,
            "the last attempt is close to the end: {:?}",
            now.since(start)
        );
    }

    #[test]
    fn a_permanent_refusal_is_never_tried_again() {
        let refused = DeliveryError::Refused { stage: Stage::Recipient, reply: Reply::new(550, "no") };
        assert_eq!(SCHEDULE.next(&refused, 1, UnixMillis(0), UnixMillis(0) + DAY, 0.5), Next::Failed);
    }

    #[test]
    fn an_unknown_outcome_is_repeated_because_a_duplicate_is_better_than_a_loss() {
        let unknown = DeliveryError::Unknown { cause: String::new() };
        let next = SCHEDULE.next(&unknown, 1, UnixMillis(0), UnixMillis(0) + DAY, 0.5);
        assert_eq!(next, Next::Repeat(UnixMillis(0) + SCHEDULE.first));
    }

    #[test]
    fn a_server_that_cannot_be_reached_costs_no_message_its_place_but_does_not_keep_it_for_ever() {
        let unreachable = DeliveryError::Unreachable { cause: String::new() };
        let expires = UnixMillis(0) + DAY;
        for error in [&unreachable, &deferred(Stage::Session)] {
            assert_eq!(SCHEDULE.next(error, 50, UnixMillis(0), expires, 0.5), Next::Postponed);
            assert_eq!(SCHEDULE.next(error, 50, expires, expires, 0.5), Next::Failed);
        }
    }
}
