//! From a request to the head of its response: pick, attempt, judge, maybe another attempt.

mod response;

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use response::Settled;
use service_kit::chain;

use crate::{
    clock::Millis,
    downstream::{deadlines::Waiting, exchange::DownstreamExchange, request_body::Upload},
    instance::{candidate::Candidate, outlier::Outcome},
    load_balancing::{
        affinity::Affinity,
        pick::{PickContext, TriedInstances, has_untried, pick},
    },
    message::{gateway_error::GatewayError, repeatable::Repeatable, request::UpstreamRequest},
    proxy::{
        context::RequestContext,
        hedge::{AttemptTimeouts, EarlyTimeouts, Event, HedgedAttempts, OnSilence},
        record::{self, Begun},
        retry::{self, Situation, budget::Income, keys},
        unavailable,
    },
    upstream::{
        attempt::{Attempt, Reserved, Start},
        failure::{Answer, Failure, Judgement, Moment, Progress},
    },
};

/// A request with everything that it takes to serve it.
pub(crate) struct Forward<'a> {
    pub(crate) context: RequestContext<'a>,
    pub(crate) upload: Upload,
    /// When its head had come.
    started: Instant,
    /// When something came of it for the last time: an answer, a failure, a place.
    last_event_at: Instant,
    affinity: Affinity,
    tried: TriedInstances,
    attempts_left: u32,
    may_reuse: bool,
    interims: usize,
    attempts: HedgedAttempts,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Served {
    /// A response has begun; its body may follow.
    Response { begun: Begun, attempt: Box<Attempt> },
    /// The instance has switched protocols, and the head that says so waits to be sent.
    Tunnel { attempt: Box<Attempt> },
    /// The client has left.
    ClientClosed,
}

// === impl Served ===

impl Served {
    /// The status that is counted.
    pub(crate) fn status(served: &Result<Self, GatewayError>) -> u16 {
        match served {
            Ok(Self::Response { begun, .. }) => begun.status,
            Ok(Self::Tunnel { .. }) => 101,
            // The client had left; what nginx logs.
            Ok(Self::ClientClosed) => 499,
            Err(refusal) => refusal.problem().status.as_u16(),
        }
    }
}

// === impl Forward ===

impl<'a> Forward<'a> {
    /// A request whose head had come at that moment.
    pub(crate) fn new(
        context: RequestContext<'a>,
        request: Box<UpstreamRequest>,
        affinity: Affinity,
        started: Instant,
    ) -> Self {
        Self {
            attempts_left: context.policy.retries.attempts_max,
            upload: Upload::new(request, &context.gateway.options),
            context,
            started,
            last_event_at: started,
            affinity,
            tried: TriedInstances::default(),
            may_reuse: true,
            interims: 0,
            attempts: HedgedAttempts::default(),
        }
    }

    /// Something had to be waited for before the first attempt, until `now`.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.last_event_at = now;
    }

    /// How long the client has waited for the head of its response, as of the last event.
    pub(crate) fn lasted(&self) -> Duration {
        self.last_event_at - self.started
    }

    /// Serves until an instance answers or trying again is over.
    ///
    /// # Errors
    ///
    /// What the client gets instead.
    pub(crate) async fn serve<D: DownstreamExchange>(&mut self, client: &mut D) -> Result<Served, GatewayError> {
        let (timers, timeouts) = (self.context.timers, self.timeouts());
        timers.expect_response(Some(timeouts.response));
        let served = self.run(client, &timeouts).await;
        // The attempt that lost is dropped now, and not when the response is over.
        self.attempts = HedgedAttempts::default();
        timers.expect_response(None);
        timers.stop(Waiting::Try);
        timers.stop(Waiting::Body);
        served
    }

    async fn run<D: DownstreamExchange>(
        &mut self,
        client: &mut D,
        timeouts: &AttemptTimeouts,
    ) -> Result<Served, GatewayError> {
        let begins_at = self.last_event_at;
        let first = self.attempt(begins_at).await?;
        self.attempts.add(first.ok_or_else(|| unavailable::of(self.context.service, Millis::of(begins_at)))?);
        // What has come of the body already leaves together with the head.
        self.upload.take_in(client)?;
        loop {
            let event = self.attempts.next(&self.context, client, &mut self.upload, timeouts).await;
            let now = self.event();
            match event {
                Event::Answered(attempt) => match self.settle(client, attempt, now) {
                    Settled::Served(served) => return Ok(served),
                    Settled::Interim(attempt) => self.attempts.add(attempt),
                    Settled::Refused(refusal) => return Err(refusal),
                    Settled::Failed(attempt, failure) => self.retry(attempt, failure, now).await?,
                },
                Event::Failed(attempt, failure) => self.retry(attempt, failure, now).await?,
                Event::HedgeDue => self.hedge(now).await,
                Event::Refused(refusal) => return Err(refusal),
                Event::ClientClosed => return Ok(Served::ClientClosed),
            }
        }
    }

    /// Starts a hedged attempt. If no instance or retry budget is available, re-arms the timer. Never waits, never fails.
    async fn hedge(&mut self, now: Instant) {
        let stalled: Vec<_> = self.attempts.all().map(|attempt| Arc::clone(&attempt.candidate)).collect();
        stalled.iter().for_each(|candidate| self.tried.add(candidate));
        if self.attempts_left == 0 || !self.has_untried() {
            return;
        }
        let second = if self.spend_retry() { self.try_attempt(now).await } else { None };
        match second {
            Some(second) => self.attempts.add(second),
            None => self.attempts.rearm(),
        }
    }

    /// Something has come: the moment of it, for all that follows.
    fn event(&mut self) -> Instant {
        self.last_event_at = self.context.gateway.clock.read();
        self.last_event_at
    }

    fn timeouts(&self) -> AttemptTimeouts {
        let RequestContext { gateway, policy, .. } = self.context;
        let facts = &self.upload.request.facts;
        let asks_whether_awake = !gateway.options.timeouts.stall_timeout.is_zero();
        let only_reads = facts.repeatable == Repeatable::Safely && !facts.wants_upgrade;
        AttemptTimeouts {
            response: policy.timeouts.response,
            early: only_reads.then_some(EarlyTimeouts {
                per_try: policy.timeouts.per_try,
                hedge: policy.hedge.map(|hedge| hedge.after),
                on_silence: if asks_whether_awake { OnSilence::Hedge } else { OnSilence::Wait },
            }),
        }
    }

    /// An attempt at the instance whose turn it is, as of `now`; waits for a place when all instances are busy.
    async fn attempt(&mut self, now: Instant) -> Result<Option<Box<Attempt>>, GatewayError> {
        if let Some(attempt) = self.try_attempt(now).await {
            return Ok(Some(attempt));
        }
        if !self.has_untried() {
            return Ok(None);
        }
        // Boxed like everything rare: it would make every request larger.
        Box::pin(self.attempt_in_turn()).await.map(Some)
    }

    async fn attempt_in_turn(&mut self) -> Result<Box<Attempt>, GatewayError> {
        let breaker = self.context.policy.breaker;
        let place =
            self.context.gateway.queues.enter(&self.context.service.name, breaker.queue_max, breaker.queue_timeout);
        let place = place.ok_or(GatewayError::Busy("every instance is busy, and as many requests wait as may wait"))?;
        while place.wait().await {
            let now = self.event();
            if let Some(attempt) = self.try_attempt(now).await {
                return Ok(attempt);
            }
        }
        self.event();
        Err(GatewayError::Busy("every instance was busy for as long as a request may wait"))
    }

    /// An attempt without waiting; `None` when no instance is left, or all that are left are busy.
    async fn try_attempt(&mut self, at: Instant) -> Option<Box<Attempt>> {
        let reserved = self.reserve()?;
        let gateway = self.context.gateway;
        self.attempts_left = self.attempts_left.saturating_sub(1);
        self.upload.request.complete_head(|| reserved.candidate.address().to_string());
        let (request, may_reuse) = (&self.upload.request, self.may_reuse);
        let start = Start { at, may_reuse, connect_timeout: self.context.policy.timeouts.connect };
        let mut reserved = Some(reserved);
        poll_fn(|cx| {
            let reserved = reserved.take();
            Poll::Ready(reserved.map(|reserved| Attempt::new(&gateway.upstreams, reserved, request, start, cx)))
        })
        .await
    }

    /// A place at an instance that was not tried and is not busy.
    fn reserve(&self) -> Option<Reserved> {
        let core = self.context.gateway.core;
        let sticky = self.affinity.sticky.as_deref();
        let gateway = self.context.gateway;
        let (keep_alive, now) = (gateway.upstreams.pool.keep_alive(), gateway.clock.now());
        let wants_upgrade = self.upload.request.facts.wants_upgrade;
        let ask = PickContext { core, hash: self.affinity.hash, sticky, wants_upgrade, keep_alive, now };
        let balancer = &self.context.service.balancer;
        let first = pick(balancer, &ask, &self.tried)?.candidate;
        if let Some(in_flight) = balancer.begin(&first, core) {
            return Some(Reserved { candidate: first, in_flight });
        }
        let mut avoided = self.tried.clone();
        avoided.add(&first);
        loop {
            let other = pick(balancer, &ask, &avoided)?.candidate;
            if let Some(in_flight) = balancer.begin(&other, core) {
                return Some(Reserved { candidate: other, in_flight });
            }
            avoided.add(&other);
        }
    }

    /// Whether an instance is left that was not tried.
    fn has_untried(&self) -> bool {
        has_untried(&self.context.service.balancer, &self.tried)
    }

    /// Judges a failure, and starts another attempt if that may be.
    ///
    /// # Errors
    ///
    /// It may not: what the client gets.
    async fn retry(&mut self, attempt: Box<Attempt>, failure: Failure, now: Instant) -> Result<(), GatewayError> {
        let candidate = Arc::clone(&attempt.candidate);
        let started = attempt.started;
        drop(attempt);
        let consequences = failure.consequences();
        if consequences.answer == Answer::Overloaded {
            // Another instance would need the same of this host.
            tracing::warn!(error = %chain(&failure.kind), "this host has nothing left for a connection to an instance");
            return Err(self.answer(&candidate, &failure, now));
        }
        self.count(&candidate, &failure, (started, now));
        if failure.moment == Moment::OnReuse {
            // Where one kept connection was stale, others may be.
            self.may_reuse = false;
        } else {
            self.tried.add(&candidate);
        }
        if !self.attempts.is_empty() {
            return Ok(());
        }
        let is_over = self.context.timers.is_over(Waiting::Response);
        let situation = Situation {
            progress: if is_over { Progress::TimedOut } else { failure.progress },
            first_attempt: consequences.first_attempt,
            repeatable: self.upload.request.facts.repeatable,
            body_is_whole: self.upload.request.is_whole(),
            attempts_left: self.attempts_left,
        };
        if !retry::is_allowed(situation) || !self.keeps_promise(situation, &candidate) || !self.spend_retry() {
            return Err(self.answer(&candidate, &failure, now));
        }
        match self.attempt(now).await? {
            Some(attempt) => self.attempts.add(attempt),
            None => return Err(self.answer(&candidate, &failure, now)),
        }
        Ok(())
    }

    /// Whether the service promises what this retry relies on, if it relies on a promise.
    fn keeps_promise(&self, situation: Situation, first: &Candidate) -> bool {
        situation.progress == Progress::NothingSent
            || situation.repeatable != Repeatable::ByKey
            || keys::are_honoured(self.context.service, first, self.upload.request.bytes())
    }

    /// Counts a failed attempt, for the metrics and for its instance.
    fn count(&self, candidate: &Candidate, failure: &Failure, (started, now): (Instant, Instant)) {
        let consequences = failure.consequences();
        if let Some(kind) = consequences.metric {
            self.context.counters().failed(kind);
        }
        let outcome = match consequences.judgement {
            Judgement::Nothing => return,
            Judgement::UnlessAlive(_) if self.shows_life(candidate, Millis::of(now)) => return,
            Judgement::UnlessAlive(outcome) | Judgement::Against(outcome) => outcome,
        };
        let reason = || chain(&failure.kind).to_string();
        self.record(candidate, outcome, now - started, Millis::of(now), reason);
    }

    /// Whether a sign of life of the instance is younger than its limit.
    fn shows_life(&self, candidate: &Candidate, now: Millis) -> bool {
        let vitals = &candidate.state.vitals;
        let stall = self.context.gateway.options.timeouts.stall_timeout;
        vitals.is_fresh(vitals.limit(stall, self.context.policy.timeouts.response, now), now)
    }

    /// Takes in how an attempt ended, `latency` after its beginning.
    fn record(
        &self,
        candidate: &Candidate,
        outcome: Outcome,
        latency: Duration,
        now: Millis,
        reason: impl FnOnce() -> String,
    ) {
        let change = self.context.service.balancer.record(candidate, outcome, latency, now);
        record::report(&self.context, candidate, change, reason);
    }

    /// Takes a retry out of the budget, and counts it; false when the budget is spent.
    fn spend_retry(&self) -> bool {
        let (gateway, service) = (self.context.gateway, self.context.service);
        let requests = gateway.counters(service).turns() as u64;
        let percent = self.context.policy.retries.budget_percent;
        let income = Income { now: gateway.clock.now(), requests, percent };
        let is_known = |name: &discovery::ServiceName| gateway.table.load().service(name).is_some();
        let may = gateway.budgets.spend(&service.name, income, is_known);
        if may {
            gateway.counters(service).retried();
        }
        may
    }

    /// What the client gets if this failure is the last. Of a last resort that refuses connections, its tombstone knows
    /// more.
    fn answer(&self, candidate: &Candidate, failure: &Failure, now: Instant) -> GatewayError {
        let service = self.context.service;
        let is_last_resort = service.balancer.candidates.all().is_empty();
        if is_last_resort && failure.consequences().answer == (Answer::Down { is_refused: true }) {
            return unavailable::of(service, Millis::of(now));
        }
        let instance = unavailable::instance(service, "its instance", candidate.address());
        failure.answer(&service.name, &instance)
    }
}
