//! Active health checks: instances are asked regularly, and the suspicious ones sooner.
//!
//! | who is asked | when | what follows |
//! |---|---|---|
//! | all | every `health.active.interval`, each at a moment of its own | `fall` bad answers in a row take it out, `rise` good ones take it back |
//! | who fails the checks, or is ejected | every half second, or every second whether it is awake | a good answer ends the ejection early, and a real request decides |
//! | who has requests under way and has sent no byte for 300 ms | at the next look, and once a second | no byte within the limit (`vitals`), nor an answer to this, ejects it: a process that was stopped is noticed within about two seconds |
//!
//! The last line asks whether the instance is awake, so that one which is only slow stays. What is asked is in
//! `probe`. This runs beside the data path, on the control runtime; it tells the verdict by the instance's one
//! atomic word. So that ten thousand instances do not become ten thousand connections at once, at most 64
//! are asked at the same time and 500 in a second: then the interval grows. Beside them at most 1,024 are asked whether they are awake.

mod schedule;

use std::{sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressPolicy,
    clock::Millis,
    health::probe::{self, ProbeResult},
    instance::outlier::Change,
    table::routing_table::{RoutingTable, TableHandle},
    telemetry::metrics::Checks,
};
use schedule::{Due, Event, Occasion, Room, Schedule};

/// How often it is looked who is due.
const ROUND: Duration = Duration::from_millis(50);
/// Checks at the same time, without the questions whether an instance is awake.
const AT_ONCE_MAX: usize = 64;
/// Questions whether an instance is awake, at the same time. One to an instance that is only slow lasts for as long as it may be
/// silent, tens of seconds; those must not keep others from being asked.
const QUIET_AT_ONCE_MAX: usize = 1024;
/// Checks begun in one round: 500 a second.
const PER_ROUND_MAX: usize = 25;

/// What [`Checker::run`] works with.
#[derive(Debug)]
pub struct Checker {
    table: TableHandle,
    addresses: AddressPolicy,
    counted: Checks,
    schedule: Schedule,
    seen: Option<Arc<RoutingTable>>,
}

/// Who is being asked.
#[derive(Default)]
struct Asked {
    /// Whether they are awake.
    quiet: JoinSet<(Due, ProbeResult)>,
    others: JoinSet<(Due, ProbeResult)>,
}

// === impl Checker ===

impl Checker {
    /// Asks the instances in `table`, at no address that `addresses` forbids. `stall` is how long an instance with requests
    /// under way may be silent, at least ([`Timeouts::stall_timeout`](crate::config::Timeouts)); zero: for ever.
    #[must_use]
    pub fn new(table: TableHandle, addresses: AddressPolicy, counted: Checks, stall: Duration) -> Self {
        Self { table, addresses, counted, schedule: Schedule::new(stall), seen: None }
    }

    /// Asks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = Asked::default();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = rounds.tick() => self.begin(&mut asked),
                Some(answered) = asked.others.join_next() => self.join(answered),
                Some(answered) = asked.quiet.join_next() => self.join(answered),
            }
        }
    }

    fn join(&mut self, answered: Result<(Due, ProbeResult), JoinError>) {
        if let Ok((due, answer)) = answered {
            self.take_in(&due, &answer);
        }
    }

    fn begin(&mut self, asked: &mut Asked) {
        let table = self.table.load();
        if self.seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &table)) {
            self.schedule.follow(&table, Millis::now());
            self.seen = Some(table);
        }
        let room = Room {
            quiet: QUIET_AT_ONCE_MAX.saturating_sub(asked.quiet.len()),
            others: AT_ONCE_MAX.saturating_sub(asked.others.len()),
            all: PER_ROUND_MAX,
        };
        for due in self.schedule.due(Millis::now(), room) {
            let addresses = self.addresses.clone();
            let set = if due.occasion == Occasion::Quiet { &mut asked.quiet } else { &mut asked.others };
            set.spawn(async move {
                let answer = probe::ask(&due.candidate, &due.question, &addresses, due.patience).await;
                (due, answer)
            });
        }
    }

    fn take_in(&mut self, due: &Due, answer: &ProbeResult) {
        if !matches!(answer, ProbeResult::Unasked(_)) {
            self.counted.count(*answer == ProbeResult::Good);
        }
        let (name, instance) = (&due.candidate.key.service, due.candidate.address());
        let event = self.schedule.answered(due, answer, Millis::now());
        match event {
            Some(Event::Failing) => {
                tracing::info!(service.name = %name, %instance, reason = %answer, "instance is out of rotation: it fails its health check");
            }
            Some(Event::Passing) => {
                tracing::info!(service.name = %name, %instance, "instance passes its health check again");
            }
            Some(Event::Stalled(Change::Ejected { lasts })) => {
                let (duration_ms, reason) = (lasts.as_millis(), "does not answer at all");
                tracing::info!(service.name = %name, %instance, duration_ms, reason, "instance is ejected");
            }
            Some(Event::Stalled(Change::Readmitted)) | None => {}
        }
    }
}
