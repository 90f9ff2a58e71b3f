//! The workers: claim what is due, send it, record how it ended.
//!
//! At most `sends_max` transactions (see `batch`) are under way. They are claimed in batches, the oldest first, within
//! what each domain may get. When the SMTP server cannot be reached the queue pauses: nothing is claimed, the server is
//! checked now and then, and as soon as it answers the queue resumes where it stopped. A server that only takes fewer
//! connections than the transport tries to open is not such a server: the transport finds out how many it takes, and
//! the queue continues. So an outage of an hour costs a handful of attempts, and no message loses its place.
//!
//! An attempt counts only when it is recorded. Until then the delivery stays claimed, the claim is renewed, and
//! recording is retried: what was delivered is not sent again because a disk was full for a minute.

mod attempt;
mod transactions;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{backoff::Backoff, time::UnixMillis};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    limiter::{DomainLimits, Limiter},
    retry_schedule::Schedule,
};
use crate::{
    metrics::SendMetrics,
    outbox::store::{
        Outbox,
        claim::{RECIPIENTS_MAX, RENEWAL, Wanted},
        entry::{CLAIM, Claimed},
    },
    transport::{Transport, deadlines::StepDeadlines, health::Health},
};

use attempt::{Finished, attempt};
use transactions::{Begun, Chooser, transactions};

/// How often the outbox is polled without a notification of something new.
const POLL: Duration = Duration::from_millis(500);
/// How long to wait before a server that could not be reached is checked: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a step of asking it may take at first. It doubles with each failure up to that of a message: a server that
/// is back is noticed soon, and a slow server is not treated as down.
const CHECK_STEP: Duration = Duration::from_secs(5);

/// How much is sent, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct DispatchOptions {
    /// Messages under way at the same time; one to several recipients of one domain counts as one.
    pub sends_max: usize,
    /// The longest that one step up to the final dot takes; see [`StepDeadlines`].
    pub step_max: Duration,
    /// From the final dot to the server's final reply.
    pub patience: Duration,
    /// How long what is under way at the end may go on.
    pub grace: Duration,
    /// When to try again.
    pub schedule: Schedule,
    /// What one domain gets.
    pub domain: DomainLimits,
}

/// What the workers need.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// Where messages are.
    pub outbox: Outbox,
    /// Where they go.
    pub transport: Arc<Transport>,
    /// Learns from every attempt, and whether the outbox can be used.
    pub health: Health,
    /// Counts every attempt.
    pub metrics: SendMetrics,
    /// How much, and for how long.
    pub options: DispatchOptions,
}

/// Deliveries that this instance is sending; their claims are renewed.
type UnderWay = Arc<Mutex<HashSet<i64>>>;

/// What the loop remembers.
struct Work {
    claim: String,
    under_way: UnderWay,
    limiter: Arc<Mutex<Limiter>>,
    attempts: JoinSet<Finished>,
    claimed_at: Instant,
    /// The last look brought as much as there was room for.
    maybe_more: bool,
    pause: Option<Instant>,
    backoff: Backoff,
}

impl Dispatcher {
    /// Works until `shutdown`; then what is under way may finish, for [`DispatchOptions::grace`].
    pub async fn run(self, shutdown: CancellationToken) {
        let mut work = Work::new(self.options.domain);
        let renewing = tokio::spawn(renew(self.outbox.clone(), work.claim.clone(), work.under_way.clone()));
        shutdown.run_until_cancelled(self.work(&mut work)).await;
        let finishing = async { while work.attempts.join_next().await.is_some() {} };
        if timeout(self.options.grace, finishing).await.is_err() {
            tracing::warn!(
                under_way = work.attempts.len(),
                "stopped with messages under way; they are sent again after their claims expire"
            );
        }
        renewing.abort();
    }

    async fn work(&self, work: &mut Work) {
        loop {
            self.resume(work).await;
            if work.pause.is_none() {
                self.claim(work).await;
            }
            let wait = work.wait();
            tokio::select! {
                Some(finished) = work.attempts.join_next() => work.finished(finished.ok()),
                () = self.outbox.woken(), if work.has_room(self.options.sends_max) => work.maybe_more = true,
                () = sleep(wait) => work.maybe_more = true,
            }
            while let Some(finished) = work.attempts.try_join_next() {
                work.finished(finished.ok());
            }
        }
    }

    /// Claims once half of the places are free, because fewer and larger claims cost less; or for those that are free
    /// when that takes long, because the others may hang.
    async fn claim(&self, work: &mut Work) {
        let room = self.options.sends_max.saturating_sub(work.attempts.len());
        let now = Instant::now();
        let is_soon = now.saturating_duration_since(work.claimed_at) < POLL;
        if !work.maybe_more || room == 0 || (is_soon && room * 2 < self.options.sends_max) {
            return;
        }
        work.claimed_at = now;
        let without = locked(&work.limiter).at_limit(now);
        let wanted = Wanted { claim: work.claim.clone(), count: room, without, now: UnixMillis::now() };
        let begun = Begun::new(Arc::clone(&work.limiter));
        let mut chooser =
            Chooser { under_way: Arc::clone(&work.under_way), now, begun: begun.clone(), sizes: HashMap::new() };
        match self.outbox.claim(wanted, move |candidate, has_room| chooser.choose(candidate, has_room)).await {
            Ok(claimed) => {
                self.report(Ok(()));
                self.start(work, claimed, room);
            }
            Err(error) => {
                begun.give_back();
                self.report(Err(service_kit::chain(&error).to_string()));
                work.maybe_more = false;
            }
        }
    }

    fn start(&self, work: &mut Work, claimed: Vec<Claimed>, room: usize) {
        let looked_at_all = claimed.len() < RECIPIENTS_MAX;
        let transactions = transactions(claimed);
        work.maybe_more = transactions.len() >= room || !looked_at_all;
        for together in transactions {
            locked(&work.under_way).extend(together.iter().map(|claimed| claimed.delivery));
            work.attempts.spawn(attempt(self.clone(), work.claim.clone(), together));
        }
    }

    fn report(&self, state: Result<(), String>) {
        let reason = state.as_ref().err().cloned();
        if self.health.note_outbox(state) {
            match reason {
                None => tracing::info!("the outbox can be used"),
                Some(reason) => tracing::warn!(reason, "the outbox cannot be used"),
            }
        }
    }

    /// Asks a server that could not be reached whether it can be now, when it is time.
    async fn resume(&self, work: &mut Work) {
        if work.pause.is_none_or(|until| Instant::now() < until) {
            return;
        }
        let step = CHECK_STEP.saturating_mul(1 << work.backoff.failures().min(10)).min(self.options.step_max);
        let result = self.transport.check(StepDeadlines::by_step(step, step)).await;
        self.health.note(&result);
        match result {
            Ok(()) => {
                tracing::info!("queue resumed");
                work.pause = None;
                work.backoff.reset();
                work.maybe_more = true;
            }
            Err(_) => work.pause = Some(Instant::now() + work.backoff.next_wait()),
        }
    }
}

impl Work {
    fn new(limits: DomainLimits) -> Self {
        Self {
            claim: Uuid::new_v4().simple().to_string(),
            under_way: UnderWay::default(),
            limiter: Arc::new(Mutex::new(Limiter::new(limits))),
            attempts: JoinSet::new(),
            claimed_at: Instant::now(),
            maybe_more: true,
            pause: None,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
        }
    }

    fn has_room(&self, sends_max: usize) -> bool {
        self.attempts.len() < sends_max
    }

    fn wait(&self) -> Duration {
        let pause = self.pause.map_or(POLL, |until| until.saturating_duration_since(Instant::now()));
        let token = locked(&self.limiter).next_token(Instant::now()).unwrap_or(POLL).max(Duration::from_millis(1));
        if self.pause.is_some() { pause } else { POLL.min(token) }
    }

    fn finished(&mut self, finished: Option<Finished>) {
        let Some(Finished { deliveries, domain, is_unreachable }) = finished else { return };
        locked(&self.under_way).retain(|delivery| !deliveries.contains(delivery));
        locked(&self.limiter).release(&domain);
        // A place is free.
        self.maybe_more = true;
        if is_unreachable && self.pause.is_none() {
            tracing::warn!("queue paused until the SMTP server can be reached");
            self.pause = Some(Instant::now() + self.backoff.next_wait());
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps claims alive, until it is aborted.
async fn renew(outbox: Outbox, claim: String, under_way: UnderWay) {
    loop {
        sleep(RENEWAL).await;
        let deliveries: Vec<i64> = locked(&under_way).iter().copied().collect();
        if let Err(error) = outbox.renew(&claim, deliveries, UnixMillis::now() + CLAIM).await {
            tracing::warn!(error = %service_kit::chain(&error), "claims could not be renewed; retrying");
        }
    }
}
