//! The workers: claim what is due, hand it over, write down how it ended.
//!
//! At most `sends_max` deliveries are under way. They are claimed in batches, the oldest first, within what each domain may
//! get. When the SMTP server cannot be reached the queue stops: nothing is claimed, the server is asked now and then, and
//! as soon as it answers the queue goes on where it stopped. So an hour's outage costs a handful of attempts, and no
//! message its place.
//!
//! An attempt counts only when it is written down. Until then the delivery stays claimed, the claim is renewed, and
//! writing it down is tried again: what was delivered is not sent again because a disk was full for a minute.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lettre::{Address, address::Envelope};
use service_kit::backoff::Backoff;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Outbox,
    claim::{CLAIM, RENEWAL, Wanted},
    entry::{Claimed, Next, Settlement},
    limiter::{DomainLimits, Limiter},
    schedule::Schedule,
};
use crate::{
    allowance::Allowance,
    clock::Moment,
    delivery::{DeliveryError, Reply},
    health::Health,
    mailer,
    message::{Message, MessageId},
    metrics::SendMetrics,
    transport::Transport,
};

/// How often the outbox is looked into when nobody says that there is something new.
const POLL: Duration = Duration::from_millis(500);
/// How long the server is left alone after it could not be reached: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a step of asking it may take at first. It doubles with each failure up to that of a message: a server that is
/// back is noticed soon, and one that keeps everybody waiting at the door is not taken for one that is down for ever.
const CHECK_STEP: Duration = Duration::from_secs(5);

/// How much is sent, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Deliveries under way at the same time.
    pub sends_max: usize,
    /// The longest that one step up to the final dot takes; see [`Allowance`].
    pub step_max: Duration,
    /// From the dot to the server's last word.
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
    /// How fast.
    pub pace: Pace,
}

/// Deliveries that this instance is sending; their claims are renewed.
type UnderWay = Arc<Mutex<HashSet<i64>>>;

/// An attempt that was written down.
struct Finished {
    delivery: i64,
    domain: String,
    /// The server could not be reached.
    unreachable: bool,
}

/// What the loop remembers.
struct Work {
    claim: String,
    under_way: UnderWay,
    limiter: Arc<Mutex<Limiter>>,
    attempts: JoinSet<Finished>,
    /// The last look brought as much as there was room for.
    maybe_more: bool,
    pause: Option<Instant>,
    backoff: Backoff,
}

impl Dispatcher {
    /// Works until `shutdown`; then what is under way may finish, for [`Pace::grace`].
    pub async fn run(self, shutdown: CancellationToken) {
        let mut work = Work::new(self.pace.domain);
        let renewing = tokio::spawn(renew(self.outbox.clone(), work.claim.clone(), work.under_way.clone()));
        shutdown.run_until_cancelled(self.work(&mut work)).await;
        let finishing = async { while work.attempts.join_next().await.is_some() {} };
        if timeout(self.pace.grace, finishing).await.is_err() {
            tracing::warn!(
                broken_off = work.attempts.len(),
                "messages under way are sent again after their claims expire"
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
                () = self.outbox.woken(), if work.has_room(self.pace.sends_max) => work.maybe_more = true,
                () = sleep(wait) => work.maybe_more = true,
            }
            while let Some(finished) = work.attempts.try_join_next() {
                work.finished(finished.ok());
            }
        }
    }

    /// Claims once half of the places are free: fewer and larger claims cost less.
    async fn claim(&self, work: &mut Work) {
        let room = self.pace.sends_max.saturating_sub(work.attempts.len());
        if !work.maybe_more || room == 0 || room * 2 < self.pace.sends_max {
            return;
        }
        let now = Instant::now();
        let without = locked(&work.limiter).full(now);
        let wanted = Wanted { claim: work.claim.clone(), count: room, without, now: Moment::now() };
        let (limiter, under_way) = (Arc::clone(&work.limiter), Arc::clone(&work.under_way));
        let taken: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&taken);
        let claiming = self.outbox.claim(wanted, move |candidate| {
            let is_ours = locked(&under_way).contains(&candidate.delivery);
            let goes = !is_ours && locked(&limiter).take(&candidate.domain, now);
            if goes {
                locked(&noted).push(candidate.domain.clone());
            }
            goes
        });
        match claiming.await {
            Ok(claimed) => {
                self.report(Ok(()));
                work.maybe_more = claimed.len() >= room;
                for delivery in claimed {
                    locked(&work.under_way).insert(delivery.delivery);
                    work.attempts.spawn(attempt(self.clone(), work.claim.clone(), delivery));
                }
            }
            Err(error) => {
                locked(&taken).iter().for_each(|domain| locked(&work.limiter).give_back(domain));
                self.report(Err(service_kit::chain(&error).to_string()));
                work.maybe_more = false;
            }
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
        let step = CHECK_STEP.saturating_mul(1 << work.backoff.failures().min(10)).min(self.pace.step_max);
        let result = self.transport.check(Allowance::by_step(step, step)).await;
        self.health.note(&result);
        match result {
            Ok(()) => {
                tracing::info!("the queue goes on");
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
        let token = locked(&self.limiter).next_token().unwrap_or(POLL).max(Duration::from_millis(1));
        if self.pause.is_some() { pause } else { POLL.min(token) }
    }

    fn finished(&mut self, finished: Option<Finished>) {
        let Some(Finished { delivery, domain, unreachable }) = finished else { return };
        locked(&self.under_way).remove(&delivery);
        locked(&self.limiter).give_back(&domain);
        // A place is free.
        self.maybe_more = true;
        if unreachable && self.pause.is_none() {
            tracing::warn!("the queue waits until the SMTP server can be reached");
            self.pause = Some(Instant::now() + self.backoff.next_wait());
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps claims alive, until it is aborted.
async fn renew(outbox: Outbox, claim: String, under_way: UnderWay) {
    loop {
        sleep(RENEWAL).await;
        let deliveries: Vec<i64> = locked(&under_way).iter().copied().collect();
        if let Err(error) = outbox.renew(&claim, deliveries, Moment::now() + CLAIM).await {
            tracing::warn!(error = %service_kit::chain(&error), "claims could not be renewed");
        }
    }
}

async fn attempt(dispatcher: Dispatcher, claim: String, claimed: Claimed) -> Finished {
    let (at, started) = (Moment::now(), Instant::now());
    let result = hand_over(&dispatcher, &claimed).await;
    let attempts = claimed.attempts.saturating_add(1);
    let next = match &result {
        Ok(_) => Next::Delivered,
        Err(error) => {
            dispatcher.pace.schedule.next(error, attempts, Moment::now(), claimed.expires, rand::random::<f64>())
        }
    };
    let settlement = Arc::new(Settlement {
        delivery: claimed.delivery,
        claim,
        at,
        took_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        outcome: result.as_ref().map_or_else(DeliveryError::code, |_| "sent"),
        reply: result.as_ref().map_or_else(DeliveryError::for_caller, Reply::for_caller),
        next,
    });
    write_down(&dispatcher.outbox, settlement).await;
    let unreachable = result.as_ref().is_err_and(DeliveryError::is_about_the_session);
    Finished { delivery: claimed.delivery, domain: claimed.domain, unreachable }
}

async fn hand_over(dispatcher: &Dispatcher, claimed: &Claimed) -> Result<Reply, DeliveryError> {
    let mut measured = dispatcher.metrics.start();
    let result = match message(&dispatcher.outbox, claimed).await {
        Ok(message) => {
            measured.its_turn();
            let pace = dispatcher.pace;
            let result = dispatcher.transport.deliver(&message, Allowance::by_step(pace.step_max, pace.patience)).await;
            dispatcher.health.note(&result);
            mailer::log(&message, &result);
            result
        }
        Err(error) => {
            tracing::warn!(message_id = claimed.message_id, %error, "a message of the outbox cannot be sent");
            Err(error)
        }
    };
    measured.ended(&result);
    result
}

/// The stored message, addressed to this one recipient.
async fn message(outbox: &Outbox, claimed: &Claimed) -> Result<Message, DeliveryError> {
    let damaged = |_| DeliveryError::Unreadable { cause: "its addresses are damaged".to_owned() };
    let address = |text: &str| text.parse::<Address>().map_err(damaged);
    let (sender, recipient) = (address(&claimed.sender)?, address(&claimed.recipient)?);
    let envelope = Envelope::new(Some(sender), vec![recipient])
        .map_err(|_| DeliveryError::Unreadable { cause: "its addresses are damaged".to_owned() })?;
    let content = outbox.gather(&claimed.content).await;
    let content =
        content.map_err(|error| DeliveryError::Unreadable { cause: service_kit::chain(&error).to_string() })?;
    Ok(Message::stored(MessageId::stored(claimed.message_id.clone()), envelope, content.clone()))
}

pub(super) async fn write_down(outbox: &Outbox, settlement: Arc<Settlement>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = outbox.settle(Arc::clone(&settlement)).await {
        if backoff.failures() == 0 {
            tracing::warn!(error = %service_kit::chain(&error), "an attempt could not be written down; trying again");
        }
        sleep(backoff.next_wait()).await;
    }
}
