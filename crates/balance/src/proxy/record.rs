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

/// Takes in how a response has ended. A breakage is [`Origin::Downstream`] when the instance may have broken the response off for its
/// client's sake: because it was waited for so long, or because the instance did not want all of the request.
pub(crate) fn conclude(context: &RequestContext<'_>, candidate: &Candidate, begun: Begun, end: &End, origin: Origin) {
    let counters = context.counters();
    let outcome = match end {
        // Neither for nor against it: a client that leaves must not make up for the responses that the instance breaks.
        End::ClientClosed => return,
        End::Complete if begun.is_judged => return,
        End::Complete => Outcome::Answered { status: begun.status },
        End::TooSlow => return counters.broken(BrokenKind::SlowClient),
        End::Broken(breakage) => {
            let (outcome, kind) = breakage.counts_as();
            counters.broken(kind);
            let (name, address, reason) = (&context.service.name, candidate.address(), chain(breakage));
            tracing::info!(service.name = %name, instance = %address, %reason, "a response broke");
            if origin == Origin::Downstream {
                return;
            }
            outcome
        }
    };
    let change = candidate.conclude(outcome, Millis::now(), context.policy);
    let reason = || match end {
        End::Broken(breakage) => chain(breakage).to_string(),
        _ => format!("answered {} again", begun.status),
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
