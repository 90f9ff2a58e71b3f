//! The attempts of a request that are under way: one, mostly; two while one waits for an instance that was found dead.
//!
//! An instance that was stopped, or whose host has lost its network, still holds its connections and takes what is sent to
//! it. When the [checks](crate::health::checks) find it [silent](crate::instance::vitals), a safe request that waits there is sent to another
//! one *as well*, and the first answer is the answer (a hedged request: Dean and Barroso, "The Tail at Scale", 2013). The first
//! attempt is not broken off: if the instance was only slow, nothing is lost but the second one's work, and that is bounded
//! by the budget for retries. A policy may hedge sooner (`hedge.after`), at instances that are only slow. A request that is
//! not safe never has two attempts, however long it waits: the silent instance may wake up and carry it out.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    clock::Millis,
    downstream::{deadlines::Waiting, exchange::DownstreamExchange, request_body::Upload},
    message::{gateway_error::GatewayError, request::UpstreamRequest},
    proxy::context::RequestContext,
    upstream::{
        attempt::Attempt,
        failure::{Failure, Kind},
    },
};

/// How often a request that waits checks whether its instance was found dead.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct HedgedAttempts {
    attempts: [Option<Box<Attempt>>; 2],
}

/// How long an attempt is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptTimeouts {
    /// For the head of the response since the request was sent: by all attempts together.
    pub(crate) response: Duration,
    /// What may happen before that; `None`: nothing, because the request does more than read, and the first attempt may
    /// still carry it out.
    pub(crate) early: Option<EarlyTimeouts>,
}

/// When a request that only reads gets another attempt, before its time is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EarlyTimeouts {
    /// One attempt is broken off after so long; `None`: it may use all the time.
    pub(crate) per_try: Option<Duration>,
    /// Another instance is asked as well after so long; `None`: not because of slowness.
    pub(crate) hedge: Option<Duration>,
    pub(crate) on_silence: OnSilence,
}

/// What is done when the instance at which an attempt waits was found dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnSilence {
    /// Another instance is asked as well.
    Hedge,
    /// Nothing: instances are not asked whether they are awake.
    Wait,
}

/// What comes first.
pub(crate) enum Event {
    /// This attempt has the head of a response; the others are still under way.
    Answered(Box<Attempt>),
    /// This attempt has failed.
    Failed(Box<Attempt>, Failure),
    /// The only attempt waits for too long; another one may run beside it.
    HedgeDue,
    /// The client has broken its request.
    Refused(GatewayError),
    /// The client has left.
    ClientClosed,
}

// === impl EarlyTimeouts ===

impl EarlyTimeouts {
    /// When to check whether something is due; `None`: nothing ever is.
    fn next_check(&self) -> Option<Duration> {
        let silence = (self.on_silence == OnSilence::Hedge).then_some(CHECK_INTERVAL);
        [self.per_try, silence, self.hedge].into_iter().flatten().min()
    }
}

// === impl HedgedAttempts ===

impl HedgedAttempts {
    pub(crate) fn add(&mut self, attempt: Box<Attempt>) {
        if let Some(free) = self.attempts.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(attempt);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.iter().all(Option::is_none)
    }

    /// Those that are still under way.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().flatten().map(|attempt| &**attempt)
    }

    /// No attempt came of an [`Event::HedgeDue`] for now: it is due again at the next check.
    pub(crate) fn rearm(&mut self) {
        self.attempts.iter_mut().flatten().for_each(|attempt| attempt.is_stalled = false);
    }

    /// Waits for what comes first.
    pub(crate) async fn next<D: DownstreamExchange>(
        &mut self,
        context: &RequestContext<'_>,
        client: &mut D,
        upload: &mut Upload,
        timeouts: &AttemptTimeouts,
    ) -> Event {
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.poll_attempts(context, client, upload, cx) {
                return Poll::Ready(event);
            }
            // Interim responses leave before anything else.
            if client.poll_flush(cx).is_err() {
                return Poll::Ready(Event::ClientClosed);
            }
            if upload.request.is_complete() && client.poll_left(cx).is_ready() {
                return Poll::Ready(Event::ClientClosed);
            }
            self.check_timers(context, &upload.request, timeouts)
        })
        .await
    }

    /// Moves all attempts forward, and the body with them.
    fn poll_attempts<D: DownstreamExchange>(
        &mut self,
        context: &RequestContext<'_>,
        client: &mut D,
        upload: &mut Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        loop {
            for slot in &mut self.attempts {
                let Some(attempt) = slot else { continue };
                let polled = attempt.poll(&context.gateway.upstreams, &upload.request, cx);
                let Poll::Ready(result) = polled else { continue };
                let Some(attempt) = slot.take() else { continue };
                return Poll::Ready(match result {
                    Ok(()) => Event::Answered(attempt),
                    Err(failure) => Event::Failed(attempt, failure),
                });
            }
            let request = &mut upload.request;
            if request.is_complete() || !self.all().all(|attempt| attempt.has_sent_all(request)) {
                return Poll::Pending;
            }
            if request.forget_sent() {
                self.attempts.iter_mut().flatten().for_each(|attempt| attempt.forget_sent());
            }
            match upload.poll_next(client, context.timers, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(refusal)) => return Poll::Ready(Event::Refused(refusal)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether an attempt has waited for too long.
    fn check_timers(
        &mut self,
        context: &RequestContext<'_>,
        request: &UpstreamRequest,
        timeouts: &AttemptTimeouts,
    ) -> Poll<Event> {
        let timers = context.timers;
        if timers.is_over(Waiting::Response) {
            return self.break_off(|_| true, timeouts.response);
        }
        let Some(early) = &timeouts.early else { return Poll::Pending };
        let Some(next_check) = early.next_check() else { return Poll::Pending };
        if !timers.is_over(Waiting::Try) {
            timers.keep_waiting(Waiting::Try, next_check);
            return Poll::Pending;
        }
        timers.wait(Waiting::Try, next_check);
        let now = timers.now();
        if let Some(per_try) = early.per_try
            && let Poll::Ready(event) = self.break_off(|attempt| attempt.waits_for(per_try, now), per_try)
        {
            return Poll::Ready(event);
        }
        if request.is_complete() && request.is_whole() && self.mark_stalled(early, now) {
            return Poll::Ready(Event::HedgeDue);
        }
        Poll::Pending
    }

    /// Gives up the first attempt that `is_over`.
    fn break_off(&mut self, is_over: impl Fn(&Attempt) -> bool, limit: Duration) -> Poll<Event> {
        let Some(slot) = self.attempts.iter_mut().find(|slot| slot.as_deref().is_some_and(&is_over)) else {
            return Poll::Pending;
        };
        let Some(attempt) = slot.take() else { return Poll::Pending };
        let failure = attempt.failure(Kind::Timeout(limit));
        Poll::Ready(Event::Failed(attempt, failure))
    }

    /// Marks the only attempt if it waits for too long; returns whether it was not marked before.
    fn mark_stalled(&mut self, early: &EarlyTimeouts, now: Millis) -> bool {
        let mut attempts = self.attempts.iter_mut().flatten();
        let (Some(attempt), None) = (attempts.next(), attempts.next()) else { return false };
        let is_silent = early.on_silence == OnSilence::Hedge && attempt.is_at_a_silent_instance();
        let is_slow = early.hedge.is_some_and(|hedge| attempt.waits_for(hedge, now));
        !attempt.is_stalled && {
            attempt.is_stalled = is_silent || is_slow;
            attempt.is_stalled
        }
    }
}
