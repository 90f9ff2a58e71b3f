//! What a change of one instance costs `balance` in processor time, with a real etcd.
//!
//! An etcd has a [crowd](Crowd) of instances, all on one lease. In each round every build is started once, mirrors that
//! etcd, alone on its core and without requests, and goes through
//!
//! 1. a span in which nothing changes: what it uses anyway;
//! 2. [`PER_SECOND`] changes a second, not counted;
//! 3. the same without a pause, counted: what is done later, as writing the snapshot, is missing from the end of it and
//!    is there from before.
//!
//! The figure is what the last has more than the first, divided by the number of changes. A snapshot of 50,000 instances
//! is written every few seconds, so that it is in some rounds and not in others: the range says that. Two builds do not
//! run at the same time: beside itself, the build that was started first came out a twentieth dearer (debug).
//!
//! Active checks are off by policy: they go by time, not by changes, and the instances are addresses of loopback where
//! no program listens.

mod crowd;
mod etcd;

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeFrom,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use testkit::ports::free_ports;
use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

use crate::{
    gateway::Gateway,
    harness::Harness,
    machine,
    rounds::{Rounds, median},
    rows::Extent,
};

pub use crowd::{CROWDS, Crowd};
use etcd::Etcd;

/// Changes a second, if etcd takes so many.
pub const PER_SECOND: u32 = 100;
/// After the start: what a gateway does once with what it has just read, as its first snapshot.
const SETTLING: Duration = Duration::from_secs(3);
/// For a gateway to have mirrored etcd. Generous: debug builds are slow.
const FOLLOWS_MAX: Duration = Duration::from_secs(120);

/// What the changes of one crowd cost.
#[derive(Debug)]
pub struct Row {
    /// Who is registered.
    pub crowd: Crowd,
    /// Milliseconds of processor time for a change, above what is used while nothing changes, by build.
    pub change_ms: Rounds,
    /// Milliseconds of processor time a second while nothing changes, by build.
    pub idle_ms: Rounds,
    /// Changes a second that etcd took; the median of the rounds.
    pub per_second: f64,
}

/// A build of `balance` under measurement.
#[derive(Debug)]
struct Mirror {
    gateway: Gateway,
    admin: SocketAddr,
}

/// Processor time within a span of time.
#[derive(Debug, Clone, Copy)]
struct Span {
    used: Duration,
    took: Duration,
}

/// Where etcd is, if it is installed.
#[must_use]
pub fn etcd() -> Option<PathBuf> {
    machine::find(testkit::etcd::binary().to_str()?)
}

/// What changes cost each of the `programs`, builds of `balance`, when the `crowd` is registered.
///
/// # Errors
///
/// etcd is not installed, a gateway did not start, has ended, or does not follow etcd.
pub fn measure(harness: &Harness, programs: &[PathBuf], crowd: Crowd, extent: Extent) -> anyhow::Result<Row> {
    ensure!(etcd().is_some(), "etcd is missing; install it: apt-get install etcd-server");
    Builder::new_current_thread().enable_all().build()?.block_on(row(harness, programs, crowd, extent))
}

async fn row(harness: &Harness, programs: &[PathBuf], crowd: Crowd, extent: Extent) -> anyhow::Result<Row> {
    let mut etcd = Etcd::start().await?;
    etcd.commit(&crowd.registrations().collect::<Vec<_>>()).await?;
    let (mut change_ms, mut idle_ms) = (Rounds::new(programs.len()), Rounds::new(programs.len()));
    let mut rates = Vec::new();
    let mut numbers = 0..;
    for _ in 0..extent.rounds {
        for (build, program) in programs.iter().enumerate() {
            let mirror = Mirror::start(harness, program, &etcd)?;
            mirror.follows(&etcd).await?;
            sleep(SETTLING).await;
            let (idle, ()) = mirror.span(sleep(extent.duration)).await?;
            change(&mut etcd, crowd, &mut numbers, extent.duration).await?;
            let (busy, changes) = mirror.span(change(&mut etcd, crowd, &mut numbers, extent.duration)).await?;
            mirror.follows(&etcd).await?;
            let changes = f64::from(changes?);
            rates.push(changes / busy.took.as_secs_f64());
            idle_ms.add(build, idle.ms_a_second());
            change_ms.add(build, busy.ms_for_each(changes, idle.ms_a_second()));
        }
    }
    Ok(Row { crowd, change_ms, idle_ms, per_second: median(&rates).unwrap_or(0.0) })
}

/// Makes the changes with the next `numbers`, at [`PER_SECOND`], for so long; how many they were, at least one.
async fn change(
    etcd: &mut Etcd,
    crowd: Crowd,
    numbers: &mut RangeFrom<u32>,
    duration: Duration,
) -> anyhow::Result<u32> {
    let started = Instant::now();
    let mut done = 0;
    for number in numbers {
        etcd.commit(&[crowd.change(number)]).await?;
        done += 1;
        // By the clock, so that a late one is made up for.
        let due = Duration::from_secs(1) * done / PER_SECOND;
        sleep(due.saturating_sub(started.elapsed())).await;
        if started.elapsed() >= duration {
            break;
        }
    }
    Ok(done)
}

// === impl Mirror ===

impl Mirror {
    fn start(harness: &Harness, program: &Path, etcd: &Etcd) -> anyhow::Result<Self> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        Ok(Self { gateway: harness.mirror(program, admin, &etcd.endpoint())?, admin })
    }

    /// Waits until it has what was last committed.
    async fn follows(&self, etcd: &Etcd) -> anyhow::Result<()> {
        let follows = async {
            while etcd.revision_at(self.admin).await.is_none_or(|revision| revision < etcd.revision()) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(FOLLOWS_MAX, follows).await.context("balance does not follow etcd")
    }

    /// What it uses while `what` goes on, and what comes of that.
    async fn span<T>(&self, what: impl Future<Output = T>) -> anyhow::Result<(Span, T)> {
        let (before, started) = (self.gateway.threads()?, Instant::now());
        let outcome = what.await;
        let (after, took) = (self.gateway.threads()?, started.elapsed());
        Ok((Span { used: after.since(&before), took }, outcome))
    }
}

// === impl Span ===

impl Span {
    /// Milliseconds of processor time a second.
    fn ms_a_second(self) -> f64 {
        self.used.as_secs_f64() * 1e3 / self.took.as_secs_f64()
    }

    /// Milliseconds of processor time for each of so many changes, without the `idle_ms` of each second. Where a change
    /// costs next to nothing it may be below zero.
    fn ms_for_each(self, changes: f64, idle_ms: f64) -> f64 {
        (self.ms_a_second() - idle_ms) * self.took.as_secs_f64() / changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_anyway_is_not_what_a_change_costs() {
        let span = Span { used: Duration::from_millis(50), took: Duration::from_secs(2) };
        assert!((span.ms_a_second() - 25.0).abs() < 1e-9);
        assert!((span.ms_for_each(100.0, 5.0) - 0.4).abs() < 1e-9);
        assert!(span.ms_for_each(100.0, 25.0).abs() < 1e-9);
    }
}
