//! The regular comparison of what the watch has told with a complete list.
//!
//! Events have been lost in etcd's history (issues 17529, 19179, 20418), so the watch alone is not trusted. The list is
//! made while the watch goes on; it is compared once the watch has told everything up to the list's revision, leaving
//! out what changed later. A difference must be there at two comparisons in a row: etcd 3.4 answers progress requests a
//! little early (issue 15220).

use std::time::Duration;

use discovery::Revision;
use futures::future::{BoxFuture, FutureExt};
use tokio::time::{Instant, sleep_until};

use crate::{
    client::{error::EtcdError, etcd::Etcd},
    keys::{decode::Range, snapshot::Snapshot},
    watch::mirror::{Event, Mirror, Touched, touch_event},
};

/// Where a comparison is.
pub(crate) struct Reconcile {
    etcd: Etcd,
    interval: Duration,
    step: Step,
    touched: Touched,
}

enum Step {
    /// The next list is due then.
    Rest(Instant),
    /// A list is being made.
    List(BoxFuture<'static, Result<Snapshot, EtcdError>>),
    /// The list waits for the watch to catch up with it; `seen` is how many differences the first comparison found.
    Compare { snapshot: Snapshot, seen: Option<usize> },
}

/// What a comparison came to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Not yet.
    Open,
    /// The watch has told the truth.
    Same,
    /// It has not: so many keys are wrong. Adopt the list.
    Different { keys: usize, snapshot: Snapshot, touched: Touched },
}

// === impl Reconcile ===

impl Reconcile {
    /// The first list is made an `interval` after `now`.
    pub(crate) fn new(etcd: Etcd, interval: Duration, now: Instant) -> Self {
        Self { etcd, interval, step: Step::Rest(now + interval), touched: Touched::new() }
    }

    /// Works on the list; returns when there is nothing to do but wait for the watch. Never returns while comparing.
    ///
    /// Cancel safe: dropping it loses nothing.
    pub(crate) async fn advance(&mut self) {
        match &mut self.step {
            Step::Rest(due) => {
                sleep_until(*due).await;
                let etcd = self.etcd.clone();
                self.touched.clear();
                self.step = Step::List(async move { etcd.snapshot().await }.boxed());
            }
            Step::List(list) => match list.await {
                Ok(snapshot) => {
                    self.touched.retain(|_, modified| Revision(*modified) > snapshot.revision);
                    self.step = Step::Compare { snapshot, seen: None };
                }
                // No list, no comparison; whether etcd is well is not found out here.
                Err(_) => self.rest(),
            },
            Step::Compare { .. } => std::future::pending().await,
        }
    }

    /// Remembers what changed since the list began.
    pub(crate) fn note(&mut self, range: Range, events: &[Event]) {
        let listed = match &self.step {
            Step::Rest(_) => return,
            Step::List(_) => Revision::default(),
            Step::Compare { snapshot, .. } => snapshot.revision,
        };
        for event in events.iter().filter(|event| event.modified() > listed) {
            touch_event(&mut self.touched, range, event);
        }
    }

    /// Compares, if there is a list and the watch has told everything up to it, as it has now up to `told`.
    pub(crate) fn compare(&mut self, mirror: &Mirror, told: Revision) -> Verdict {
        let Step::Compare { snapshot, seen } = &mut self.step else { return Verdict::Open };
        if told < snapshot.revision {
            return Verdict::Open;
        }
        let keys = mirror.differences(snapshot, &self.touched);
        if keys > 0 && seen.is_none() {
            *seen = Some(keys);
            return Verdict::Open;
        }
        let snapshot = std::mem::take(snapshot);
        let touched = std::mem::take(&mut self.touched);
        self.rest();
        if keys == 0 { Verdict::Same } else { Verdict::Different { keys, snapshot, touched } }
    }

    fn rest(&mut self) {
        self.step = Step::Rest(Instant::now() + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::options::EtcdOptions, keys::decode::Entry};

    fn entry(path: &str, modified: i64) -> Entry {
        let key = format!("service/{path}").into_bytes();
        Entry { key, value: b"a:1".to_vec(), lease: 0, created: 1, modified }
    }

    fn list(revision: i64, entries: &[(&str, i64)]) -> Snapshot {
        let registered = |(path, modified): &(&str, i64)| entry(path, *modified).registered().unwrap();
        let instances = entries.iter().map(registered).collect();
        Snapshot { revision: Revision(revision), instances, ..Snapshot::default() }
    }

    /// A comparison with a list of `mail/a` and `mail/lost` at revision 7, and a mirror that has lost the latter.
    fn lost() -> (Reconcile, Mirror) {
        let etcd = Etcd::new(&EtcdOptions::default()).unwrap();
        let mut reconcile = Reconcile::new(etcd, Duration::from_secs(30), Instant::now());
        reconcile.step = Step::Compare { snapshot: list(7, &[("mail/a", 3), ("mail/lost", 6)]), seen: None };
        let mut mirror = Mirror::default();
        mirror.reset(list(5, &[("mail/a", 3)]));
        (reconcile, mirror)
    }

    #[test]
    fn a_list_is_not_compared_before_the_watch_has_caught_up_with_it() {
        let (mut reconcile, mirror) = lost();
        for _ in 0..3 {
            assert!(matches!(reconcile.compare(&mirror, Revision(6)), Verdict::Open));
        }
    }

    #[test]
    fn a_difference_that_stays_is_put_right() {
        let (mut reconcile, mut mirror) = lost();
        assert!(matches!(reconcile.compare(&mirror, Revision(7)), Verdict::Open), "it may be on its way");
        let verdict = reconcile.compare(&mirror, Revision(8));
        let Verdict::Different { keys: 1, snapshot, touched } = verdict else { panic!("{verdict:?}") };
        assert!(mirror.adopt(snapshot, &touched).has_reset());
        assert_eq!(mirror.differences(&list(7, &[("mail/a", 3), ("mail/lost", 6)]), &Touched::new()), 0);
        assert!(matches!(reconcile.step, Step::Rest(_)));
    }

    #[test]
    fn an_event_that_was_only_late_is_no_difference() {
        let (mut reconcile, mut mirror) = lost();
        assert!(matches!(reconcile.compare(&mirror, Revision(7)), Verdict::Open));
        let late = [Event::Put(entry("mail/lost", 6))];
        reconcile.note(Range::Instances, &late);
        mirror.apply(Range::Instances, &late);
        assert!(matches!(reconcile.compare(&mirror, Revision(8)), Verdict::Same));
    }

    #[test]
    fn what_happened_after_the_list_is_no_difference() {
        let (mut reconcile, mut mirror) = lost();
        let later = [Event::Delete { key: b"service/mail/lost".to_vec(), modified: 9 }];
        reconcile.note(Range::Instances, &later);
        mirror.apply(Range::Instances, &later);
        assert!(matches!(reconcile.compare(&mirror, Revision(9)), Verdict::Same));
    }
}
