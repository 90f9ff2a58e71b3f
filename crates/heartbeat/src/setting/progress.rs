//! How far a setting is known, and what to ask next: a plain value that answers are put into.
//!
//! ```text
//! Now ────────── from etcd itself, whatever a replica has seen: believed ─────────────────▶ After(its index)
//! After(index) ── the same as before: nothing happened in time ───────────────────────────▶ After(its index)
//!              ── something else, by who knows at least as much of etcd's history as we ──▶ After(its index)
//!              ── something else, by who knows less: it lags, or etcd was wiped ──────────▶ Now
//! ```
//!
//! When etcd itself knows less of its history than was known before, it has lost it: it was wiped, or restored from a
//! backup. A value that it has is then taken; that it has none is no deletion. (A new history that has outgrown the old
//! one before the next poll looks like the old one. The follower asks every few seconds.)

use super::SettingValue;
use crate::poll::{PollRequest, PollResponse};

/// What is known, and how much of etcd's history.
#[derive(Debug)]
pub(crate) struct Progress {
    reading: SettingValue,
    next: PollRequest,
    revision: i64,
    /// The value is from before etcd lost its history, and nothing has been written since.
    is_orphan: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { reading: SettingValue::Unknown, next: PollRequest::Now, revision: 0, is_orphan: false }
    }
}

// === impl Progress ===

impl Progress {
    pub(crate) fn reading(&self) -> &SettingValue {
        &self.reading
    }

    pub(crate) fn request(&self) -> PollRequest {
        self.next
    }

    /// Enters an answer to `request`. Whether the reading is another one now.
    pub(crate) fn take(&mut self, request: PollRequest, PollResponse { index, revision, value }: PollResponse) -> bool {
        let is_behind = revision < self.revision;
        let reading = value.map_or(SettingValue::Absent, |value| SettingValue::Is { value, revision: index });
        let is_known = reading == self.reading || (self.is_orphan && reading == SettingValue::Absent);
        if is_behind && !is_known && request != PollRequest::Now {
            self.next = PollRequest::Now;
            return false;
        }
        // etcd's own revision of "there is none" is ahead of every replica's: one of theirs is asked for first.
        let is_etcds = request == PollRequest::Now && reading == SettingValue::Absent;
        self.next = PollRequest::After(if is_etcds { 0 } else { index });
        self.revision = if request == PollRequest::Now { revision } else { revision.max(self.revision) };
        if is_known {
            return false;
        }
        if is_behind && reading == SettingValue::Absent && self.reading.value().is_some() {
            self.is_orphan = true;
            return false;
        }
        self.is_orphan = false;
        self.reading = reading;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(index: i64, revision: i64, value: Option<&str>) -> PollResponse {
        PollResponse { index, revision, value: value.map(Into::into) }
    }

    /// Knows `one`, written at revision 10, when etcd is at 100.
    fn known() -> Progress {
        let mut progress = Progress::default();
        assert_eq!((progress.reading(), progress.request()), (&SettingValue::Unknown, PollRequest::Now));
        assert!(progress.take(PollRequest::Now, said(10, 100, Some("one"))));
        assert_eq!((progress.request(), progress.reading().value()), (PollRequest::After(10), Some("one")));
        progress
    }

    #[test]
    fn a_change_and_a_deletion_are_news_and_silence_is_not() {
        let mut progress = known();
        assert!(!progress.take(PollRequest::After(10), said(10, 101, Some("one"))));
        assert!(progress.take(PollRequest::After(10), said(102, 102, Some("two"))));
        assert!(progress.take(PollRequest::After(102), said(105, 105, None)));
        assert_eq!((progress.reading(), progress.request()), (&SettingValue::Absent, PollRequest::After(105)));
        assert!(progress.take(PollRequest::After(105), said(120, 120, Some("three"))));
    }

    #[test]
    fn who_asks_first_for_what_is_not_there_waits_from_the_replicas_index() {
        let mut progress = Progress::default();
        assert!(progress.take(PollRequest::Now, said(50, 50, None)), "absent is more than unknown");
        assert_eq!(progress.request(), PollRequest::After(0));
        assert!(!progress.take(PollRequest::After(0), said(7, 45, None)));
        assert_eq!(progress.request(), PollRequest::After(7));
        assert!(!progress.take(PollRequest::After(7), said(30, 48, None)), "another replica, another index");
        assert!(progress.take(PollRequest::After(30), said(51, 51, Some("one"))));
    }

    #[test]
    fn a_replica_that_lags_takes_nothing_back() {
        for behind in [said(7, 95, Some("zero")), said(7, 95, None)] {
            let mut progress = known();
            assert!(!progress.take(PollRequest::After(10), behind));
            assert_eq!((progress.request(), progress.reading().value()), (PollRequest::Now, Some("one")));
            assert!(!progress.take(PollRequest::Now, said(10, 110, Some("one"))), "etcd itself says the same");
            assert_eq!(progress.request(), PollRequest::After(10));
        }
    }

    #[test]
    fn a_wiped_etcd_takes_nothing_back_until_the_next_write() {
        let mut progress = known();
        // The new history is longer already than the setting was old.
        assert!(!progress.take(PollRequest::After(10), said(20, 20, None)));
        assert_eq!(progress.request(), PollRequest::Now);
        assert!(!progress.take(PollRequest::Now, said(30, 30, None)), "no deletion: etcd has lost its history");
        assert!(!progress.take(PollRequest::After(0), said(20, 25, None)));
        assert_eq!(progress.request(), PollRequest::After(20));
        assert!(!progress.take(PollRequest::After(20), said(400, 400, None)), "another setting was deleted");
        assert_eq!(progress.reading().value(), Some("one"));
        assert!(progress.take(PollRequest::After(400), said(401, 401, Some("two"))));
        assert!(progress.take(PollRequest::After(401), said(402, 402, None)), "from here on a deletion is one again");
    }

    #[test]
    fn a_restored_etcd_is_believed_as_far_as_it_has_a_value() {
        let mut progress = known();
        progress.take(PollRequest::After(10), said(4, 4, Some("zero")));
        assert!(progress.take(PollRequest::Now, said(4, 4, Some("zero"))));
        assert_eq!((progress.request(), progress.reading().value()), (PollRequest::After(4), Some("zero")));
        assert!(!progress.take(PollRequest::After(4), said(4, 5, Some("zero"))));
    }
}
