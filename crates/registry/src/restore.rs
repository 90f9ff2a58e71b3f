//! Puts back the keys of instances that live.
//!
//! etcd deletes keys whose leases never ran out: a leader that was stopped (SIGSTOP, a paused virtual machine, a disk
//! that hangs) and goes on believes for a moment that it still leads, and that all leases have run out that were kept
//! alive at its successor; it revokes them (<https://github.com/etcd-io/etcd/issues/15247>). Their instances would be
//! registered again by their next heartbeats, up to two seconds later, and until then the one that comes first gets all
//! requests. So the registry that has [heard](crate::heard) an instance within its TTL writes its key again as soon as its
//! watch shows the deletion.
//!
//! | what is deleted | is it written again? |
//! |---|---|
//! | the key of an instance that was heard here within its TTL | yes, as it was, under the same lease: its life goes on |
//! | whose last value says `draining`: it was deregistered, here or elsewhere | no; see [`Registrar::deregister`](crate::registrar::Registrar::deregister) |
//! | that was last heard longer ago: it expired | no |
//! | that lived by another lease than the one kept alive here: another registry knows more | no |
//! | while this registry's watch had a gap, so that only a list shows it | no: a list does not tell who left; the next heartbeat does |
//!
//! *Many registries.* Each writes what it has heard itself, and only if the key is not there, in one transaction. A lease
//! that etcd has revoked is granted again with the same id, which is the instance's incarnation; so however many registries
//! do it, there is one lease, and the heartbeats that name it go on.
//!
//! *Many keys.* At most [`AT_ONCE_MAX`] are written at the same time, so that heartbeats, which do the same, have room;
//! one that is back meanwhile, or has not been heard any more, is left out when its turn comes.
//!
//! doc/decisions/0008-a-key-that-vanishes-is-put-back.md weighs the alternatives.

use std::{convert::Infallible, future::pending, time::Duration};

use discovery::{Registered, Ttl};
use discovery_etcd::{Claim, Etcd, EtcdError, Held, Registration};
use futures::{StreamExt as _, stream::FuturesUnordered};
use service_kit::chain;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, sleep_until},
};

use crate::{
    heard::Heard,
    metrics::{RestoreMetrics, Restored},
    mirror::{Mirror, vanished::Vanished},
};

/// How many keys are written at the same time. Each takes two entries in etcd's log.
pub const AT_ONCE_MAX: usize = 32;

/// One line tells of all that vanish with less than this in between, …
const QUIET: Duration = Duration::from_secs(1);
/// … or within this.
const TOLD_AFTER_MAX: Duration = Duration::from_secs(10);

/// Puts back what vanishes.
#[derive(Debug)]
pub struct Restorer {
    vanished: UnboundedReceiver<Vanished>,
    work: Work,
}

/// What one restoration needs.
#[derive(Debug)]
struct Work {
    etcd: Etcd,
    mirror: Mirror,
    heard: Heard,
    metrics: RestoreMetrics,
}

/// Keys that vanished about the same time, for one line in the log.
#[derive(Debug)]
struct Burst {
    began: Instant,
    last: Instant,
    restored: usize,
    /// Another registry, or a heartbeat, was faster; or the instance left meanwhile.
    others: usize,
    failed: usize,
    longest: Duration,
    /// Why the first of those failed that did.
    error: Option<String>,
}

// === impl Restorer ===

impl Restorer {
    /// Restores what `vanished` tells of, if it was `heard`.
    pub fn new(
        vanished: UnboundedReceiver<Vanished>,
        etcd: Etcd,
        mirror: Mirror,
        heard: Heard,
        metrics: RestoreMetrics,
    ) -> Self {
        Self { vanished, work: Work { etcd, mirror, heard, metrics } }
    }

    /// Goes on for as long as it is polled.
    pub async fn run(self) -> Infallible {
        let Self { mut vanished, work } = self;
        let mut under_way = FuturesUnordered::new();
        let mut burst = None::<Burst>;
        loop {
            let told_at = burst.as_ref().map(Burst::told_at);
            tokio::select! {
                Some(one) = vanished.recv(), if under_way.len() < AT_ONCE_MAX => under_way.push(work.restore(one)),
                Some(done) = under_way.next(), if !under_way.is_empty() => {
                    if let Some((outcome, took)) = done {
                        burst.get_or_insert_with(Burst::begin).add(outcome, took);
                    }
                }
                () = wait(told_at) => burst.take().iter().for_each(Burst::tell),
            }
        }
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

// === impl Work ===

impl Work {
    /// What came of it, and how long after the deletion; `None` when there was nothing to do: the instance expired or left.
    async fn restore(&self, Vanished { entry, seen }: Vanished) -> Option<(Result<Restored, EtcdError>, Duration)> {
        let Registered { key, lease, .. } = &entry.registered;
        let ttl = self.heard.ttl(key, *lease, Instant::now())?;
        let restored = self.write(&entry.registered, ttl).await;
        self.metrics.count(*restored.as_ref().unwrap_or(&Restored::Failed));
        Some((restored, seen.elapsed()))
    }

    async fn write(&self, registered: &Registered, ttl: Ttl) -> Result<Restored, EtcdError> {
        let Registered { key, instance, .. } = registered;
        if self.mirror.read().seen(key).is_some() {
            return Ok(Restored::BackAlready);
        }
        let Claim::Registered(Registration { lease, revision }) = self.claim(registered, ttl).await? else {
            return Ok(Restored::BackAlready);
        };
        if !self.heard.keep(key, lease, Instant::now()) {
            // It was deregistered meanwhile, when there was no key to be deleted.
            self.etcd.leave_as(key, lease).await?;
            return Ok(Restored::Left);
        }
        let held = Held { instance: Some(instance.clone()), lease: Some(lease), modified: revision };
        self.mirror.commit(key.clone(), revision, Some(held));
        Ok(Restored::Restored)
    }

    async fn claim(&self, registered: &Registered, ttl: Ttl) -> Result<Claim, EtcdError> {
        let Registered { key, instance, lease, .. } = registered;
        let again = match lease {
            Some(lease) => self.etcd.claim_as(*lease, key, instance, ttl, None).await,
            None => self.etcd.claim(key, instance, ttl, None).await,
        };
        match again {
            // Another program has put several keys under one lease.
            Err(EtcdError::LeaseInUse { .. }) => self.etcd.claim(key, instance, ttl, None).await,
            again => again,
        }
    }
}

// === impl Burst ===

impl Burst {
    fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, restored: 0, others: 0, failed: 0, longest: Duration::ZERO, error: None }
    }

    fn add(&mut self, outcome: Result<Restored, EtcdError>, took: Duration) {
        self.last = Instant::now();
        match outcome {
            Ok(Restored::Restored) => {
                self.restored += 1;
                self.longest = self.longest.max(took);
            }
            Ok(Restored::BackAlready | Restored::Left | Restored::Failed) => self.others += 1,
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert_with(|| chain(&error).to_string());
            }
        }
    }

    /// When to tell of it: after a second without another one.
    fn told_at(&self) -> Instant {
        (self.last + QUIET).min(self.began + TOLD_AFTER_MAX)
    }

    fn tell(&self) {
        let longest_ms = u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            restored = self.restored,
            longest_ms,
            back_already = self.others,
            failed = self.failed,
            error = self.error,
            "etcd deleted keys of live instances; they are registered again"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_told_once_it_is_quiet_and_one_that_never_ends_now_and_then() {
        let mut burst = Burst::begin();
        let began = Instant::now();
        burst.add(Ok(Restored::Restored), Duration::from_millis(7));
        assert_eq!(burst.told_at(), began + QUIET);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(500)).await;
            burst.add(Ok(Restored::BackAlready), Duration::from_millis(9));
        }
        assert_eq!(burst.told_at(), began + TOLD_AFTER_MAX);
        assert_eq!((burst.restored, burst.others, burst.longest.as_millis()), (1, 100, 7));
    }
}
