use std::time::Duration;

use discovery::policy::Passive;

use super::{Change, Outcome, Verdict, is_fault};
use crate::{clock::Millis, hash::mix};

/// How long the request of a probation may take before another one may try.
const PROBATION: Duration = Duration::from_secs(1);

/// Most doublings of an ejection that are counted.
const EJECTIONS_MAX: u64 = 63;
const STREAK_MAX: u64 = 255;

/// The word taken apart; all zero: healthy, without a stain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Answers of 5xx in a row (8 bits).
    pub(super) bad_answers: u64,
    /// Requests without an answer in a row (8 bits).
    pub(super) silences: u64,
    /// Ejections without an answer between them; 0: not ejected (6 bits).
    pub(super) ejections: u64,
    /// It refused the last connection.
    pub(super) refused: bool,
    /// The probes say that it is unwell.
    pub(super) failing: bool,
    /// A request is trying it.
    pub(super) on_probation: bool,
    /// The end of the ejection, or of the probation (38 bits, eight years).
    pub(super) until: Millis,
}

// === impl State ===

impl State {
    pub(super) fn verdict(self, now: Millis) -> Verdict {
        match self {
            Self { ejections: 1.., until, .. } if now < until => Verdict::Ejected { until },
            Self { failing: true, .. } => Verdict::Failing,
            Self { ejections: 0, .. } => Verdict::Healthy,
            Self { .. } => Verdict::Probation,
        }
    }

    pub(super) fn is_unhealthy(self) -> bool {
        self.ejections > 0 || self.failing
    }

    pub(super) fn refuses(self) -> bool {
        self.refused && self.ejections > 0
    }

    pub(super) fn try_out(self, now: Millis) -> Option<Self> {
        let is_due = self.verdict(now) == Verdict::Probation;
        is_due.then(|| Self { on_probation: true, until: now + PROBATION, ..self })
    }

    /// `None` when the outcome changes nothing.
    pub(super) fn after(self, outcome: Outcome, now: Millis, policy: &Passive, seed: u64) -> Option<Self> {
        let after = match outcome {
            Outcome::Begun => self,
            Outcome::Answered { status } if !is_fault(status) => Self { failing: self.failing, ..Self::default() },
            // Whatever was under way when it was ejected tells nothing new.
            _ if matches!(self.verdict(now), Verdict::Ejected { .. }) && !self.on_probation => self,
            Outcome::Answered { .. } | Outcome::Malformed => {
                let bad_answers = (self.bad_answers + 1).min(STREAK_MAX);
                let answered = Self { bad_answers, silences: 0, refused: false, ..self };
                match is_reached(bad_answers, policy.consecutive_5xx) {
                    true => answered.eject(now, policy, seed),
                    false => Self { ejections: 0, on_probation: false, until: Millis(0), ..answered },
                }
            }
            Outcome::Broken | Outcome::TimedOut => {
                let silences = (self.silences + 1).min(STREAK_MAX);
                let silent = Self { silences, refused: false, ..self };
                match is_reached(silences, policy.consecutive_failures) || self.on_probation {
                    true => silent.eject(now, policy, seed),
                    false => silent,
                }
            }
            Outcome::ConnectFailed => Self { refused: true, ..self }.eject(now, policy, seed),
        };
        (after != self).then_some(after)
    }

    /// `None` when it is ejected already.
    pub(super) fn stalled(self, now: Millis, policy: &Passive, seed: u64) -> Option<Self> {
        let is_ejected = matches!(self.verdict(now), Verdict::Ejected { .. }) && !self.on_probation;
        let silences = u64::from(policy.consecutive_failures).max(self.silences);
        (!is_ejected).then(|| Self { silences, refused: false, ..self }.eject(now, policy, seed))
    }

    pub(super) fn checked(self, is_passing: bool) -> Option<Self> {
        (self.failing == is_passing).then_some(Self { failing: !is_passing, ..self })
    }

    pub(super) fn shorten(self, now: Millis) -> Option<Self> {
        let is_waiting = self.ejections > 0 && now < self.until && !self.on_probation;
        is_waiting.then_some(Self { until: now, ..self })
    }

    /// What the step from here to there is called; `None` when it changes nothing for requests.
    pub(super) fn change_to(self, after: Self, now: Millis) -> Option<Change> {
        match (self.ejections, after.ejections) {
            (1.., 0) => Some(Change::Readmitted),
            (_, 1..) if after.until > now && !after.on_probation => {
                Some(Change::Ejected { lasts: after.until.since(now) })
            }
            _ => None,
        }
    }

    fn eject(self, now: Millis, policy: &Passive, seed: u64) -> Self {
        let doublings = u32::try_from(self.ejections).unwrap_or(u32::MAX).min(20);
        let longest = policy.base_ejection.saturating_mul(1 << doublings).min(policy.max_ejection);
        // Between four fifths and the whole.
        let spared = u32::try_from(mix(seed ^ now.0) % 200).unwrap_or_default();
        let pause = longest * (1000 - spared) / 1000;
        let ejections = (self.ejections + 1).min(EJECTIONS_MAX);
        Self { ejections, on_probation: false, until: now + pause, ..self }
    }

    pub(super) fn pack(self) -> u64 {
        let flags = u64::from(self.refused) << 40 | u64::from(self.failing) << 39 | u64::from(self.on_probation) << 38;
        self.bad_answers << 56 | self.silences << 48 | self.ejections << 41 | flags | self.until.0 & ((1 << 38) - 1)
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self {
            bad_answers: word >> 56,
            silences: word >> 48 & 0xff,
            ejections: word >> 41 & 0x3f,
            refused: word >> 40 & 1 == 1,
            failing: word >> 39 & 1 == 1,
            on_probation: word >> 38 & 1 == 1,
            until: Millis(word & ((1 << 38) - 1)),
        }
    }
}

/// 0 is never reached.
fn is_reached(streak: u64, limit: u32) -> bool {
    limit > 0 && streak >= u64::from(limit)
}
