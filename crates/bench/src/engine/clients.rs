//! Due requests → free connections.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use mio::{Registry, Token, event::Event};
use slab::Slab;

use super::{
    connection::{Connection, Job, Step},
    load::{Broken, Connections, Done, Load, Outcome, Pace, Traffic},
};

/// How often requests are looked at that take too long.
const PATIENCE_TICK: Duration = Duration::from_millis(50);

/// The clients of one [`Load`]. Their connections live on between runs.
#[derive(Debug)]
pub struct Clients {
    load: Load,
    connections: Slab<Connection>,
    free: Vec<usize>,
    waiting: VecDeque<(u64, Instant)>,
    /// The number of the next request that becomes due.
    next: u64,
    under_way: usize,
    started: Option<Instant>,
    patience_looked_at: Option<Instant>,
    is_stopped: bool,
}

// === impl Clients ===

impl Clients {
    /// Clients that have not started yet.
    #[must_use]
    pub fn new(load: Load) -> Self {
        Self {
            load,
            connections: Slab::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            next: 0,
            under_way: 0,
            started: None,
            patience_looked_at: None,
            is_stopped: false,
        }
    }

    /// No further request becomes due; those that wait or are under way go on.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether every request that became due is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let all_were_due = match self.load.pace {
            Pace::InAll(all, _) => self.next >= all,
            Pace::UnderWay(_) | Pace::PerSecond(_) => self.is_stopped,
        };
        self.started.is_some() && all_were_due && self.waiting.is_empty() && self.under_way == 0
    }

    /// Open connections, busy or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How long nothing needs to be done, if nothing happens on a socket.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Duration> {
        if self.load.spin {
            return Some(Duration::ZERO);
        }
        let due = self.started.zip(self.load.pace.due(self.next)).map(|(started, due)| started + due);
        let due = due.filter(|_| !self.is_stopped).map(|due| due.saturating_duration_since(now));
        Some(due.map_or(PATIENCE_TICK, |due| due.min(PATIENCE_TICK)))
    }

    /// Sends what is due, and gives up on what takes too long.
    pub(super) fn tick(&mut self, registry: &Registry, traffic: &mut dyn Traffic, now: Instant) {
        self.become_due(now);
        self.dispatch(registry, traffic, now);
        if self.patience_looked_at.is_none_or(|at| now >= at + PATIENCE_TICK) {
            self.patience_looked_at = Some(now);
            self.lose_patience(registry, traffic, now);
        }
    }

    /// A socket of theirs is ready.
    pub(super) fn ready(
        &mut self,
        key: usize,
        event: &Event,
        scratch: &mut [u8],
        registry: &Registry,
        traffic: &mut dyn Traffic,
    ) {
        // It may have been given up earlier in the same batch of events.
        if let Some(connection) = self.connections.get_mut(key) {
            let step = connection.ready(event, scratch);
            self.after(key, step, registry, traffic);
        }
    }

    /// Closes all connections; their requests are forgotten.
    pub(super) fn close(&mut self, registry: &Registry) {
        self.connections.drain().for_each(|connection| connection.close(registry));
        self.free.clear();
        self.waiting.clear();
        self.under_way = 0;
    }

    fn become_due(&mut self, now: Instant) {
        let started = *self.started.get_or_insert(now);
        if self.is_stopped {
            return;
        }
        match self.load.pace {
            Pace::PerSecond(_) => {
                while let Some(due) = self.load.pace.due(self.next).map(|due| started + due).filter(|due| *due <= now) {
                    self.waiting.push_back((self.next, due));
                    self.next += 1;
                }
            }
            Pace::UnderWay(wanted) => {
                while self.under_way + self.waiting.len() < wanted {
                    self.waiting.push_back((self.next, now));
                    self.next += 1;
                }
            }
            Pace::InAll(all, at_once) => {
                while self.next < all && ((self.under_way + self.waiting.len()) as u64) < at_once {
                    self.waiting.push_back((self.next, now));
                    self.next += 1;
                }
            }
        }
    }

    fn dispatch(&mut self, registry: &Registry, traffic: &mut dyn Traffic, now: Instant) {
        while let Some((number, due)) = self.waiting.front().copied() {
            let key = match self.free_connection(registry) {
                Ok(Some(key)) => key,
                Ok(None) => return,
                Err(_) => {
                    self.waiting.pop_front();
                    let outcome = Outcome::Broken(Broken::Refused);
                    traffic.done(Done { number, due, sent: None, at: now, outcome });
                    continue;
                }
            };
            self.waiting.pop_front();
            self.under_way += 1;
            let step = self.connections[key].start(number, due, |out| traffic.write(number, out));
            self.after(key, step, registry, traffic);
        }
    }

    /// A connection for the next request; `None` when as many as may be are busy.
    fn free_connection(&mut self, registry: &Registry) -> io::Result<Option<usize>> {
        while let Some(key) = self.free.pop() {
            if self.connections.contains(key) {
                return Ok(Some(key));
            }
        }
        if self.connections.len() >= self.load.connections_max {
            return Ok(None);
        }
        let closes = self.load.connections == Connections::Fresh;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        entry.insert(Connection::open(self.load.target, registry, Token(key), closes)?);
        Ok(Some(key))
    }

    fn after(&mut self, key: usize, step: Step, registry: &Registry, traffic: &mut dyn Traffic) {
        match step {
            Step::Waiting => {}
            Step::Answered(job, status, head) => {
                if self.connections[key].closes() {
                    self.remove(key, registry);
                } else if self.load.connections == Connections::Kept {
                    self.free.push(key);
                }
                self.report(job, Outcome::Answered(status, &head), traffic);
            }
            Step::Over(job) => {
                self.remove(key, registry);
                if let Some((job, broken)) = job {
                    self.report(job, Outcome::Broken(broken), traffic);
                }
            }
        }
    }

    fn report(&mut self, job: Job, outcome: Outcome<'_>, traffic: &mut dyn Traffic) {
        self.under_way -= 1;
        traffic.done(Done { number: job.number, due: job.due, sent: job.sent, at: Instant::now(), outcome });
    }

    fn lose_patience(&mut self, registry: &Registry, traffic: &mut dyn Traffic, now: Instant) {
        let patience = self.load.patience;
        let is_late = |job: Job| now.saturating_duration_since(job.sent.unwrap_or(job.due)) > patience;
        let late: Vec<_> = self.connections.iter().filter_map(|(key, one)| Some((key, one.job()?))).collect();
        for (key, job) in late.into_iter().filter(|(_, job)| is_late(*job)) {
            self.remove(key, registry);
            self.report(job, Outcome::Broken(Broken::TimedOut), traffic);
        }
    }

    fn remove(&mut self, key: usize, registry: &Registry) {
        self.free.retain(|free| *free != key);
        if let Some(connection) = self.connections.try_remove(key) {
            connection.close(registry);
        }
    }
}
