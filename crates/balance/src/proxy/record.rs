//! How a response has ended, and what follows for its instance.
//!
//! What breaks after the head counts as what breaks before: an instance that breaks every download is no better than one that
//! breaks every connection. So the head of a good response is no verdict while its body is still to come ([`Outcome::Begun`]);
//! the end is. An event stream has no end to wait for: its head counts as an answer.

use service_kit::chain;

use crate::{
    clock::Millis,
    counters::BrokenKind,
    instance::{
        candidate::Candidate,
        outlier::{Change, Outcome},
    },
    proxy::{context::RequestContext, relay::End},
    upstream::failure::Origin,
};

/// The head of a response that is being relayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) status: u16,
    /// Whether the head was the verdict already.
    pub(crate) is_judged: bool,
}

/// Counts and logs a response that did not arrive whole.
pub(crate) fn count(context: &RequestContext<'_>, candidate: &Candidate, end: &End) {
    match end {
        End::Complete | End::ClientClosed => {}
        End::TooSlow => context.counters().broken(BrokenKind::SlowClient),
        End::Broken(breakage) => {
            context.counters().broken(breakage.counts_as().1);
            let (name, address, reason) = (&context.service.name, candidate.address(), chain(breakage));
            tracing::info!(service.name = %name, instance = %address, %reason, "a response broke");
        }
    }
}

/// What the end of a response says about its instance; `None`: nothing, or nothing new. A breakage is
/// [`Origin::Downstream`] when the instance may have broken the response off for its client's sake: because it was
/// waited for so long, or because the instance did not want all of the request.
pub(crate) fn verdict(begun: Begun, end: &End, origin: Origin) -> Option<Outcome> {
    match end {
        // Neither for nor against it: a client that leaves must not make up for the responses that the instance breaks.
        End::ClientClosed | End::TooSlow => None,
        End::Complete => (!begun.is_judged).then_some(Outcome::Answered { status: begun.status }),
        End::Broken(breakage) => (origin != Origin::Downstream).then(|| breakage.counts_as().0),
    }
}

/// Takes in what the end of a response says about its instance.
pub(crate) fn conclude(context: &RequestContext<'_>, candidate: &Candidate, outcome: Outcome, end: &End, now: Millis) {
    let change = candidate.conclude(outcome, now, context.policy);
    let reason = || match (end, outcome) {
        (End::Broken(breakage), _) => chain(breakage).to_string(),
        (_, Outcome::Answered { status }) => format!("answered {status} again"),
        (_, _) => "failed again".to_owned(),
    };
    report(context, candidate, change, reason);
}

/// Says what an outcome has changed.
pub(crate) fn report(
    context: &RequestContext<'_>,
    candidate: &Candidate,
    change: Option<Change>,
    reason: impl FnOnce() -> String,
) {
    let (name, address) = (&context.service.name, candidate.address());
    match change {
        Some(Change::Ejected { lasts }) => {
            context.counters().ejected();
            let (duration_ms, reason) = (lasts.as_millis(), reason());
            tracing::info!(service.name = %name, instance = %address, duration_ms, reason, "instance is ejected");
        }
        Some(Change::Readmitted) => {
            tracing::info!(service.name = %name, instance = %address, "instance is back in rotation");
        }
        None => {}
    }
}
