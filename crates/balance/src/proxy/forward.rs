//! From a request to the head of its response: pick, attempt, judge, maybe another attempt.

mod response;

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use discovery::policy::Policy;
use response::Settled;
use service_kit::chain;

use crate::{
    clock::Millis,
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        request_body::Body,
    },
    instance::{
        candidate::{Candidate, InFlight},
        outlier::Outcome,
    },
    io::wire::{BufferedStream, Stream},
    load_balancing::{
        affinity::Affinity,
        pick::{PickContext, TriedInstances, has_untried, pick},
    },
    message::{refusal::GatewayError, repeatable::Repeatable, request::UpstreamRequest, response::DownstreamResponse},
    proxy::{
        context::Gateway,
        hedge::{AttemptTimeouts, Event, HedgedAttempts},
        record::{self, Begun},
        retry::{self, Situation, keys},
        unavailable,
    },
    table::routing_table::Service,
    upstream::{
        attempt::{Attempt, Start},
        failure::{Failure, Progress},
    },
};

/// A request with everything that it takes to serve it.
pub(crate) struct Forward<'a> {
    gateway: &'a Gateway,
    pub(crate) service: &'a Service,
    pub(crate) policy: &'a Policy,
    pub(crate) request: UpstreamRequest,
    pub(crate) body: Body,
    pub(crate) downstream: &'a ConnectionTimers,
    /// When its head had come.
    started: Instant,
    /// When the response's had, if it has.
    answered_at: Option<Instant>,
    choice: Affinity,
    tried: TriedInstances,
    attempts_left: u32,
    may_reuse: bool,
    interims: usize,
    race: HedgedAttempts,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Served {
    /// A response is there; its body may follow.
    Response { begun: Begun, answer: DownstreamResponse, attempt: Attempt },
    /// The instance has changed the protocol; `bytes` say so to the client.
    Tunnel { bytes: Vec<u8>, attempt: Attempt },
    /// The client has left.
    ClientClosed,
}

impl<'a> Forward<'a> {
    pub(crate) fn new(
        gateway: &'a Gateway,
        service: &'a Service,
        request: UpstreamRequest,
        choice: Affinity,
        downstream: &'a ConnectionTimers,
    ) -> Self {
        let policy = &**service.policy();
        Self {
            gateway,
            service,
            attempts_left: policy.retries.attempts_max,
            policy,
            request,
            body: Body::new(gateway.buffers.vec()),
            downstream,
            started: Instant::now(),
            answered_at: None,
            choice,
            tried: TriedInstances::default(),
            may_reuse: true,
            interims: 0,
            race: HedgedAttempts::default(),
        }
    }

    /// How long the client has waited for the head of its response, or still waits.
    pub(crate) fn lasted(&self) -> Duration {
        self.answered_at.unwrap_or_else(Instant::now) - self.started
    }

    /// Serves until an instance answers or trying again is over.
    ///
    /// # Errors
    ///
    /// What the client gets instead.
    pub(crate) async fn serve<S: Stream>(&mut self, client: &mut BufferedStream<S>) -> Result<Served, GatewayError> {
        let patience = self.patience();
        self.downstream.expect_response(Some(patience.response));
        let served = self.run(client, &patience).await;
        // The attempt that lost is dropped now, and not when the response is over.
        self.race = HedgedAttempts::default();
        self.downstream.expect_response(None);
        self.downstream.stop(Waiting::Try);
        self.downstream.stop(Waiting::Body);
        served
    }

    async fn run<S: Stream>(
        &mut self,
        client: &mut BufferedStream<S>,
        patience: &AttemptTimeouts,
    ) -> Result<Served, GatewayError> {
        let first = self.attempt(self.started).await?;
        self.race.add(first.ok_or_else(|| unavailable::of(self.service, Millis::now()))?);
        self.feed(client)?;
        loop {
            let event = self
                .race
                .next(self.gateway, client, &mut self.request, &mut self.body, self.downstream, patience)
                .await;
            match event {
                Event::Answered(attempt, head_bytes) => match self.settle(attempt, head_bytes) {
                    Settled::Served(served) => return Ok(served),
                    Settled::Interim(attempt) => self.race.add(attempt),
                    Settled::Refused(refusal) => return Err(refusal),
                    Settled::Failed(attempt, failure) => self.again(attempt, failure).await?,
                },
                Event::Failed(attempt, failure) => self.again(attempt, failure).await?,
                Event::HedgeDue => self.hedge().await,
                Event::Refused(refusal) => return Err(refusal),
                Event::ClientClosed => return Ok(Served::ClientClosed),
            }
        }
    }

    /// Starts a hedged attempt. If no instance or retry budget is available, re-arms the timer. Never waits, never fails.
    async fn hedge(&mut self) {
        let stalled: Vec<_> = self.race.all().map(|attempt| Arc::clone(&attempt.candidate)).collect();
        stalled.iter().for_each(|candidate| self.tried.add(candidate));
        if self.attempts_left == 0 || !self.has_untried() {
            return;
        }
        let second = if self.spend_retry() { self.try_attempt(Instant::now()).await } else { None };
        match second {
            Some(second) => self.race.add(second),
            None => self.race.rearm(),
        }
    }

    fn patience(&self) -> AttemptTimeouts {
        let timeouts = &self.policy.timeouts;
        AttemptTimeouts {
            response: timeouts.response,
            per_try: timeouts.per_try,
            looks_for_silence: !self.gateway.options.timeouts.stall_timeout.is_zero(),
            hedge: self.policy.hedge.map(|hedge| hedge.after),
            is_safe: self.request.facts.repeatable == Repeatable::Safely && !self.request.facts.wants_upgrade,
        }
    }

    /// Takes in what has come of the body already, so that it leaves together with the head.
    fn feed<S: Stream>(&mut self, client: &mut BufferedStream<S>) -> Result<(), GatewayError> {
        if !client.unread().is_empty() {
            let used = self.request.feed(client.unread())?;
            client.consume(used);
        }
        Ok(())
    }

    /// An attempt at the instance whose turn it is, as of `now`; waits for a place when all instances are busy.
    async fn attempt(&mut self, now: Instant) -> Result<Option<Attempt>, GatewayError> {
        if let Some(attempt) = self.try_attempt(now).await {
            return Ok(Some(attempt));
        }
        if !self.has_untried() {
            return Ok(None);
        }
        // Boxed like everything rare: it would make every request larger.
        Box::pin(self.attempt_in_turn()).await.map(Some)
    }

    async fn attempt_in_turn(&mut self) -> Result<Attempt, GatewayError> {
        let breaker = self.policy.breaker;
        let place = self.gateway.queues.enter(&self.service.name, breaker.queue_max, breaker.queue_timeout);
        let place = place.ok_or(GatewayError::Busy("every instance is busy, and as many requests wait as may wait"))?;
        while place.wait().await {
            if let Some(attempt) = self.try_attempt(Instant::now()).await {
                return Ok(attempt);
            }
        }
        Err(GatewayError::Busy("every instance was busy for as long as a request may wait"))
    }

    /// An attempt without waiting; `None` when no instance is left, or all that are left are busy.
    async fn try_attempt(&mut self, at: Instant) -> Option<Attempt> {
        let (candidate, in_flight) = self.reserve()?;
        let gateway = self.gateway;
        self.attempts_left = self.attempts_left.saturating_sub(1);
        self.request.complete_head(|| candidate.address().to_string());
        let (request, may_reuse) = (&self.request, self.may_reuse);
        let start = Start { at, may_reuse, connect_timeout: self.policy.timeouts.connect };
        let mut reserved = Some((candidate, in_flight));
        poll_fn(|cx| {
            let attempt = reserved.take().map(|(candidate, in_flight)| {
                Attempt::new(&gateway.upstreams, candidate, in_flight, request, start, cx)
            });
            Poll::Ready(attempt)
        })
        .await
    }

    /// A place at an instance that was not tried and is not busy.
    fn reserve(&self) -> Option<(Arc<Candidate>, InFlight)> {
        let core = self.gateway.core;
        let sticky = self.choice.sticky.as_deref();
        let ask = PickContext { core, hash: self.choice.hash, sticky, now: self.gateway.clock.now() };
        let first = pick(&self.service.balancer, &ask, &self.tried)?.candidate;
        if let Some(in_flight) = first.begin(core) {
            return Some((first, in_flight));
        }
        let mut avoided = self.tried.clone();
        avoided.add(&first);
        loop {
            let other = pick(&self.service.balancer, &ask, &avoided)?.candidate;
            if let Some(in_flight) = other.begin(core) {
                return Some((other, in_flight));
            }
            avoided.add(&other);
        }
    }

    /// Whether an instance is left that was not tried.
    fn has_untried(&self) -> bool {
        has_untried(&self.service.balancer, &self.tried)
    }

    /// Judges a failure, and starts another attempt if that may be.
    ///
    /// # Errors
    ///
    /// It may not: what the client gets.
    async fn again(&mut self, attempt: Attempt, failure: Failure) -> Result<(), GatewayError> {
        let candidate = Arc::clone(&attempt.candidate);
        let started = attempt.started;
        drop(attempt);
        // Another instance would need the same of this host.
        if let Some(error) = failure.exhaustion() {
            tracing::warn!(%error, "this host has nothing left for a connection to an instance");
            return Err(GatewayError::exhausted());
        }
        self.failed(&candidate, &failure, started);
        if failure.is_stale {
            // Where one kept connection was stale, others may be.
            self.may_reuse = false;
        } else {
            self.tried.add(&candidate);
        }
        if !self.race.is_empty() {
            return Ok(());
        }
        let is_over = self.downstream.is_over(Waiting::Response);
        let situation = Situation {
            progress: if is_over { Progress::TimedOut } else { failure.progress },
            is_communication: failure.is_communication(),
            repeatable: self.request.facts.repeatable,
            body_is_whole: self.request.is_whole(),
            attempts_left: self.attempts_left,
        };
        let refusal = refusal(self.service, &candidate, failure);
        if !retry::is_allowed(situation) || !self.keeps_promise(situation, &candidate) || !self.spend_retry() {
            return Err(refusal);
        }
        match self.attempt(Instant::now()).await? {
            Some(attempt) => self.race.add(attempt),
            None => return Err(refusal),
        }
        Ok(())
    }

    /// Whether the service promises what this retry relies on, if it relies on a promise.
    fn keeps_promise(&self, situation: Situation, first: &Candidate) -> bool {
        situation.progress == Progress::NothingSent
            || situation.repeatable != Repeatable::ByKey
            || keys::are_honoured(self.service, first, self.request.bytes())
    }

    fn failed(&self, candidate: &Candidate, failure: &Failure, started: Instant) {
        let counters = self.gateway.counters(self.service);
        if let Some(kind) = failure.metric() {
            counters.failed(kind);
        }
        if failure.is_timeout() && self.shows_life(candidate) {
            // Slow is not dead.
            return;
        }
        if let Some(outcome) = failure.outcome() {
            let reason = || chain(&failure.kind).to_string();
            self.record(candidate, outcome, (started, Instant::now()), reason);
        }
    }

    /// Whether a sign of life of the instance is younger than its limit.
    fn shows_life(&self, candidate: &Candidate) -> bool {
        let (vitals, now) = (&candidate.state.vitals, Millis::now());
        let stall = self.gateway.options.timeouts.stall_timeout;
        vitals.is_fresh(vitals.limit(stall, self.policy.timeouts.response, now), now)
    }

    /// Takes in how an attempt ended that lasted from the one moment to the other.
    fn record(
        &self,
        candidate: &Candidate,
        outcome: Outcome,
        (started, now): (Instant, Instant),
        reason: impl FnOnce() -> String,
    ) {
        let change = self.service.balancer.record(candidate, outcome, now - started, Millis::of(now));
        record::report(self.gateway, self.service, candidate, change, reason);
    }

    /// Takes a retry out of the budget, and counts it; false when the budget is spent.
    fn spend_retry(&self) -> bool {
        let (gateway, service) = (self.gateway, self.service);
        let (now, turns) = (gateway.clock.now(), gateway.counters(service).turns() as u64);
        let is_known = |name: &discovery::ServiceName| gateway.table.load().service(name).is_some();
        let may = gateway.budgets.spend(&service.name, now, turns, self.policy.retries.budget_percent, is_known);
        if may {
            gateway.counters(service).retried();
        }
        may
    }
}

/// The status that is counted.
pub(crate) fn status(served: &Result<Served, GatewayError>) -> u16 {
    match served {
        Ok(Served::Response { begun, .. }) => begun.status,
        Ok(Served::Tunnel { .. }) => 101,
        // The client had left; what nginx logs.
        Ok(Served::ClientClosed) => 499,
        Err(refusal) => refusal.problem().status.as_u16(),
    }
}

/// What the client gets if this failure is the last. Of a last resort that refuses connections, its tombstone knows more.
fn refusal(service: &Service, candidate: &Candidate, failure: Failure) -> GatewayError {
    let nobody_is_registered = service.balancer.candidates.all().is_empty();
    if nobody_is_registered && failure.is_refused() {
        return unavailable::of(service, Millis::now());
    }
    let instance = unavailable::instance(service, "its instance", candidate.address());
    failure.refusal(&service.name, &instance)
}
