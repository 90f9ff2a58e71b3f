//! The life of a request, top to bottom.
//!
//! target → service → candidates → pick → forward → (retry) → response. One [`Gateway`] per core; everything it owns is
//! that core's alone, and the one thing it shares, the routing table, is a snapshot that it only reads.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, header, request::Parts};
use hyper::body::Incoming;
use service_kit::request::REQUEST_ID;

use crate::{
    addresses::AddressPolicy,
    clock::{Clock, Millis},
    config::GatewayOptions,
    downstream::{Downstream, Downstreams, Phase, Waiting},
    forward::{Failure, Outgoing, forward},
    framing, identity, index,
    metrics::Refusals,
    outlier::{Change, Outcome},
    per_core::PerCore,
    pick::{Ask, Tried, pick},
    pool::Pool,
    refusal::Refusal,
    reply,
    request_body::Source,
    response_body::ResponseBody,
    retry::{self, Situation, budget::Budgets},
    routing_table::{Candidate, CoreTable, RoutingTable, Service},
    target::{self, Target},
    unavailable,
};

/// How long the rest of a small body may take that nobody needs any more.
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// What one core has to serve requests with.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) core: usize,
    pub(crate) options: Rc<GatewayOptions>,
    pub(crate) table: CoreTable,
    pub(crate) addresses: AddressPolicy,
    pub(crate) clock: Rc<Clock>,
    pub(crate) pool: Pool,
    pub(crate) downstreams: Downstreams,
    pub(crate) refusals: Refusals,
    pub(crate) budgets: Budgets,
}

impl Gateway {
    /// Answers one request, whatever happens.
    pub(crate) async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        downstream: Rc<Downstream>,
    ) -> Response<ResponseBody> {
        downstream.enter(Phase::Serving);
        downstream.stop(Waiting::Head);
        downstream.stop(Waiting::Request);
        let (mut head, body) = request.into_parts();
        let id = identity::settle(&mut head.headers);
        let body = Source::new(body, &downstream, &self.options);
        let waits_to_be_asked = head.headers.contains_key(header::EXPECT);
        let table = self.table.load();
        let result = match self.admit(head, &body, &id, &table, &downstream) {
            Ok(None) => Ok(self.index(&table, &id, &downstream)),
            Ok(Some((service, mut outgoing))) => {
                let started = Instant::now();
                let result = self.serve(service, &mut outgoing, &body, &downstream).await;
                self.counters(service).responded(status(&result), started.elapsed());
                result
            }
            Err(refusal) => Err(refusal),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(refusal) => {
                if !waits_to_be_asked && !refusal.closes() {
                    // Boxed like everything rare: what a request may need is moved about with every request.
                    Box::pin(body.discard_within(DISCARD_MAX)).await;
                }
                drop(body);
                self.refuse(&refusal, &id, &downstream)
            }
        };
        if downstream.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// Judges the head, finds the service, and makes the request that leaves; `None` when it is for the gateway itself.
    /// Nothing is waited for.
    fn admit<'t>(
        &self,
        head: Parts,
        body: &Source,
        id: &HeaderValue,
        table: &'t RoutingTable,
        downstream: &Downstream,
    ) -> Result<Option<(&'t Service, Outgoing)>, Refusal> {
        framing::check_request(&head, &self.options.limits)?;
        let whole = head.uri.path_and_query().map_or("/", |whole| whole.as_str());
        let Target::Service { service: name, rest } = target::parse(whole) else { return Ok(None) };
        let Some(service) = table.service(name) else { return Err(unavailable::unknown(name, table)) };
        let rest = target::upstream(rest);
        let outgoing = Outgoing::new(head, rest, body.is_chunked(), id, service, downstream)?;
        Ok(Some((service, outgoing)))
    }

    /// Picks and forwards until an instance answers or trying again is over.
    async fn serve(
        self: &Rc<Self>,
        service: &Service,
        outgoing: &mut Outgoing,
        body: &Source,
        downstream: &Rc<Downstream>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut tried = Tried::default();
        let mut failed = None;
        let mut may_reuse = true;
        for attempts_left in (0..self.options.retries.attempts_max).rev() {
            let ask = Ask { core: self.core, hash: None, sticky: None, now: self.clock.now() };
            let Some(picked) = pick(service, &ask, &tried) else { break };
            let Some(_in_flight) = picked.candidate.begin(self.core) else {
                tried.add(&picked.candidate);
                continue;
            };
            let (candidate, started) = (&*picked.candidate, Instant::now());
            let failure = match forward(self, candidate, outgoing, body, downstream, may_reuse).await {
                Ok(response) => {
                    let outcome = Outcome::Answered { status: response.status().as_u16() };
                    self.record(service, candidate, outcome, started.elapsed());
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            // Another instance would need the same of this host.
            if let Some(overloaded) = failure.exhaustion() {
                return Err(overloaded);
            }
            self.failed(service, candidate, &failure, started.elapsed());
            if failure.is_stale {
                // Where one kept connection was stale, others may be.
                may_reuse = false;
            } else {
                tried.add(candidate);
            }
            let situation = Situation {
                progress: failure.progress,
                is_repeatable: outgoing.is_repeatable,
                body_is_whole: outgoing.has_headers() && body.is_whole(),
                attempts_left,
            };
            let refusal = refusal(service, candidate, failure);
            if !retry::is_allowed(situation) || !self.may_retry(service) {
                return Err(refusal);
            }
            self.counters(service).retried();
            failed = Some(refusal);
        }
        Err(failed.unwrap_or_else(|| unavailable::of(service, Millis::now())))
    }

    /// What a tick of the clock does on this core.
    pub(crate) fn tick(&self) {
        self.clock.tick();
        self.downstreams.tick(self.clock.now());
        self.pool.tick(self.clock.now());
    }

    fn counters<'a>(&self, service: &'a Service) -> &'a PerCore {
        &service.cores[self.core]
    }

    fn record(&self, service: &Service, candidate: &Candidate, outcome: Outcome, latency: Duration) {
        let (name, instance) = (&service.name, candidate.address());
        match candidate.record(outcome, latency, Millis::now(), service.policy()) {
            Some(Change::Ejected { lasts }) => {
                self.counters(service).ejected();
                tracing::info!(service.name = %name, %instance, ?outcome, "instance is ejected for {lasts:?}");
            }
            Some(Change::Readmitted) => {
                tracing::info!(service.name = %name, %instance, "instance is back in rotation");
            }
            None => {}
        }
    }

    fn failed(&self, service: &Service, candidate: &Candidate, failure: &Failure, latency: Duration) {
        if let Some(kind) = failure.metric() {
            self.counters(service).failed(kind);
        }
        if let Some(outcome) = failure.outcome() {
            self.record(service, candidate, outcome, latency);
        }
    }

    fn may_retry(&self, service: &Service) -> bool {
        let (now, turns) = (self.clock.now(), self.counters(service).turns() as u64);
        self.budgets.spend(&service.name, now, turns, |name| self.table.load().service(name).is_some())
    }

    fn index(&self, table: &RoutingTable, id: &HeaderValue, downstream: &Rc<Downstream>) -> Response<ResponseBody> {
        let listing = index::listing(table, self.options.index);
        reply::json(&listing, id).map(|bytes| ResponseBody::own(bytes, downstream))
    }

    fn refuse(&self, refusal: &Refusal, id: &HeaderValue, downstream: &Rc<Downstream>) -> Response<ResponseBody> {
        self.refusals.count(refusal);
        let mut response = reply::refuse(refusal, id).map(|bytes| ResponseBody::own(bytes, downstream));
        if downstream.leaves_unread() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn status(result: &Result<Response<ResponseBody>, Refusal>) -> u16 {
    match result {
        Ok(response) => response.status().as_u16(),
        Err(refusal) => refusal.problem().status.as_u16(),
    }
}

/// What the client gets if this failure is the last. Of a last resort that refuses connections, its tombstone knows more.
fn refusal(service: &Service, candidate: &Candidate, failure: Failure) -> Refusal {
    let nobody_is_registered = service.candidates.all().is_empty();
    if nobody_is_registered && failure.is_refused() {
        return unavailable::of(service, Millis::now());
    }
    failure.refusal(&service.name, candidate)
}
