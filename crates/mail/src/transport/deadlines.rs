//! How long handing over a message may take, step by step.
//!
//! Two callers, two kinds of deadline. `POST /` has a client that waits: all steps together have one deadline. The
//! outbox has none, and giving up on a server that is merely slow costs an attempt, or, after the final dot, makes a
//! duplicate; so each step has the time that RFC 5321, section 4.5.3.2, asks clients to give it:
//!
//! | step | the RFC's minimum | here, at most `--smtp-step-max` |
//! |---|---|---|
//! | an address accepts the connection | | 5 s, then the next is tried |
//! | greeting and EHLO | 5 min for the greeting | 5 min |
//! | STARTTLS, its handshake, EHLO again | | 5 min |
//! | AUTH | | 5 min |
//! | MAIL FROM; RCPT TO | 5 min each | 5 min each |
//! | DATA | 2 min | 2 min |
//! | each [chunk](crate::message::content::CHUNK_BYTES) of the text | 3 min | 3 min |
//! | the final reply, after the final dot | 10 min | `--smtp-patience`, 10 min |
//!
//! A large message over a slow line therefore has as much time as it needs, as long as it moves.

use tokio::time::{Duration, Instant};

use super::outcome::Stage;

const LONG: Duration = Duration::from_secs(5 * 60);
const DATA: Duration = Duration::from_secs(2 * 60);
/// A chunk of 64 KiB is on its way within that with 365 bytes a second.
const BLOCK: Duration = Duration::from_secs(3 * 60);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct StepDeadlines {
    /// For everything together.
    until: Option<Instant>,
    step_max: Duration,
    final_reply: Duration,
}

impl StepDeadlines {
    /// All steps together until `deadline`.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { until: Some(deadline), step_max: Duration::MAX, final_reply: Duration::MAX }
    }

    /// Each step on its own, none longer than `step_max`; the final reply within `final_reply`.
    #[must_use]
    pub fn by_step(step_max: Duration, final_reply: Duration) -> Self {
        Self { until: None, step_max, final_reply }
    }

    /// Whether a client waits for the end of it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.until.is_some()
    }

    /// When a step of this stage that begins at `now` must have ended.
    #[must_use]
    pub fn ends(&self, stage: Stage, now: Instant) -> Instant {
        let asked_for = match stage {
            Stage::Session | Stage::Sender | Stage::Recipient => LONG,
            Stage::Data => DATA,
            Stage::Text => BLOCK,
            Stage::EndOfData => self.final_reply,
        };
        let longest = if stage == Stage::EndOfData { asked_for } else { asked_for.min(self.step_max) };
        match (self.until, now.checked_add(longest)) {
            (Some(until), Some(end)) => until.min(end),
            (Some(until), None) => until,
            // Some decades from now, as tokio's clock understands them.
            (None, end) => end.unwrap_or(now + Duration::from_secs(30 * 365 * 86_400)),
        }
    }

    /// The same for a step that begins now.
    pub(crate) fn ends_from_now(&self, stage: Stage) -> Instant {
        self.ends(stage, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 6] =
        [Stage::Session, Stage::Sender, Stage::Recipient, Stage::Data, Stage::Text, Stage::EndOfData];

    #[test]
    fn each_step_has_the_minutes_that_the_rfc_asks_for() {
        let deadlines = StepDeadlines::by_step(LONG, Duration::from_secs(600));
        let now = Instant::now();
        let minutes = STAGES.map(|stage| (deadlines.ends(stage, now) - now).as_secs() / 60);
        assert_eq!(minutes, [5, 5, 5, 2, 3, 10]);
    }

    #[test]
    fn a_shorter_longest_step_leaves_the_final_reply_its_time() {
        let second = Duration::from_secs(1);
        let deadlines = StepDeadlines::by_step(second, Duration::MAX);
        let now = Instant::now();
        assert!(STAGES[..5].iter().all(|stage| deadlines.ends(*stage, now) == now + second));
        assert!(deadlines.ends(Stage::EndOfData, now) > now + Duration::from_secs(86_400));
    }

    #[test]
    fn one_deadline_for_all_is_none_for_each() {
        let now = Instant::now();
        let deadlines = StepDeadlines::until(now + Duration::from_secs(15));
        assert!(STAGES.iter().all(|stage| deadlines.ends(*stage, now) == now + Duration::from_secs(15)));
        let generous = StepDeadlines::until(now + Duration::from_secs(3600));
        assert_eq!(generous.ends(Stage::Data, now), now + DATA);
    }
}
