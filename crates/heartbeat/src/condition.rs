//! How the instance is, with the reason, and how often that may be said anew.
//!
//! Every change is written to etcd and wakes every gateway. What moves the instance in or out of rotation is worth that
//! at once. What does not (another reason, `degraded` instead of `passing`) is a remark: the first is said at once,
//! then [`REMARK_INTERVAL`] passes before the next, and what came in between is never said. So a transport that works
//! every other time costs etcd six writes a minute, not one with each attempt.

use std::time::Duration;

use discovery::{Reason, Status};
use tokio::time::Instant;

/// The least time between two remarks.
const REMARK_INTERVAL: Duration = Duration::from_secs(10);

/// A status and why it is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    status: Status,
    reason: Option<Reason>,
}

/// What is said of the condition, and since when.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    said: Option<(Condition, Instant)>,
}

// === impl Condition ===

impl Condition {
    /// `status` because of `reason`, which is [shortened](Reason::shorten) and left out while all is well.
    ///
    /// It goes to etcd whenever it changes: no counters and no times. Many can read it: no secrets.
    #[must_use]
    pub fn new(status: Status, reason: &str) -> Self {
        let reason = if status == Status::Passing { None } else { Reason::shorten(reason) };
        Self { status, reason }
    }

    /// What the instance is to others.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it is not passing.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Whether the change to `other` moves the instance neither in nor out of rotation.
    fn differs_by_a_remark(&self, other: &Self) -> bool {
        self.status == other.status || (self.status.is_in_rotation() && other.status.is_in_rotation())
    }
}

impl From<Status> for Condition {
    fn from(status: Status) -> Self {
        Self { status, reason: None }
    }
}

// === impl Remarks ===

impl Remarks {
    /// What a heartbeat at `now` says of an instance that is as `wanted`.
    pub(crate) fn say(&mut self, wanted: &Condition, now: Instant) -> Condition {
        match (&self.said, self.due(wanted, now)) {
            (Some((said, _)), due) if due.is_none_or(|due| now < due) => said.clone(),
            _ => {
                self.said = Some((wanted.clone(), now));
                wanted.clone()
            }
        }
    }

    /// When `wanted` may be said; `None` when it was.
    pub(crate) fn due(&self, wanted: &Condition, now: Instant) -> Option<Instant> {
        match &self.said {
            Some((said, _)) if said == wanted => None,
            Some((said, at)) if said.differs_by_a_remark(wanted) => Some(*at + REMARK_INTERVAL),
            _ => Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn degraded(reason: &str) -> Condition {
        Condition::new(Status::Degraded, reason)
    }

    #[test]
    fn what_changes_the_rotation_is_said_at_once_and_remarks_wait() {
        let mut remarks = Remarks::default();
        let now = Instant::now();
        let passing = Condition::default();
        assert_eq!(remarks.say(&passing, now), passing);
        let later = now + 20 * SECOND;
        assert_eq!(remarks.say(&degraded("a"), later), degraded("a"), "the first one waits for nothing");
        assert_eq!(remarks.say(&passing, later + SECOND), degraded("a"));
        assert_eq!(remarks.due(&degraded("b"), later + SECOND), Some(later + REMARK_INTERVAL));
        assert_eq!(remarks.say(&degraded("b"), later + 9 * SECOND), degraded("a"));
        let critical = Condition::new(Status::Critical, "gone");
        assert_eq!(remarks.say(&critical, later + 9 * SECOND), critical);
        assert_eq!(remarks.say(&passing, later + 9 * SECOND), passing, "back at once");
        assert_eq!(remarks.due(&passing, later), None);
        assert_eq!(remarks.say(&degraded("b"), later + 19 * SECOND), degraded("b"));
    }

    #[test]
    fn a_reason_that_changes_with_every_heartbeat_is_said_every_ten_seconds() {
        let mut remarks = Remarks::default();
        let start = Instant::now();
        let mut said: Vec<Condition> =
            (0..60).map(|n| remarks.say(&degraded(&n.to_string()), start + n * SECOND)).collect();
        said.dedup();
        assert_eq!(said.len(), 6, "{said:?}");
    }

    #[test]
    fn all_is_well_for_no_reason() {
        assert_eq!(Condition::new(Status::Passing, "x"), Condition::from(Status::Passing));
        assert_eq!(Condition::new(Status::Critical, "a\nb").reason().unwrap().as_str(), "a b");
    }
}
