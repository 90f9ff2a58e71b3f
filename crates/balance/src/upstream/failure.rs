//! A failed attempt: how far it got, and what follows from it for the instance, the metrics, another attempt and the client.

use std::{io, time::Duration};

use discovery::ServiceName;
use service_kit::chain;

use crate::{
    counters::FailureKind,
    instance::outlier::Outcome,
    message::gateway_error::GatewayError,
    upstream::{breakage::Breakage, connect_error::ConnectError},
};

/// How far a failed attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not a byte left for the upstream.
    NothingSent,
    /// The upstream may have got the request, or a part of it.
    Sent,
    /// The time for the whole request is over.
    TimedOut,
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) progress: Progress,
    /// It failed on a connection that had served before, which the instance may just have closed: that says nothing
    /// about the instance.
    pub(crate) is_stale: bool,
    /// It failed while the body was on its way. An instance may refuse one by closing the connection, which a client can
    /// provoke at will: that says nothing about the instance either. A dead one takes no connection.
    pub(crate) is_amid_body: bool,
}

/// What went wrong. `Display` completes the sentence "10.0.0.5:7070 …".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("closed the connection before it answered")]
    Closed(#[source] io::Error),
    #[error("answered what must not be passed on: {0}")]
    Malformed(&'static str),
    #[error("did not answer within {0:?}")]
    Timeout(Duration),
    /// The body of its response is broken, and nothing of it has left for the client.
    #[error(transparent)]
    Broken(Breakage),
}

// === impl Failure ===

impl Failure {
    /// Whether it speaks against the instance, and how.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match &self.kind {
            Kind::Connect(ConnectError::Connect(_) | ConnectError::Timeout(_)) => Some(Outcome::ConnectFailed),
            Kind::Connect(
                ConnectError::Forbidden(_)
                | ConnectError::Unresolved(_)
                | ConnectError::Unanswered(_)
                | ConnectError::Exhausted(_),
            ) => None,
            Kind::Closed(_) if self.is_stale => None,
            Kind::Closed(_) | Kind::Broken(Breakage::Closed(_)) if self.is_amid_body => None,
            Kind::Closed(_) => Some(Outcome::Broken),
            Kind::Timeout(_) => Some(Outcome::TimedOut),
            Kind::Malformed(_) => Some(Outcome::Malformed),
            Kind::Broken(breakage) => Some(breakage.outcome()),
        }
    }

    /// How the metrics call it; `None` when the instance has no part in it.
    pub(crate) fn metric(&self) -> Option<FailureKind> {
        match self.kind {
            // Names have metrics of their own.
            Kind::Connect(ConnectError::Exhausted(_) | ConnectError::Unresolved(_) | ConnectError::Unanswered(_)) => {
                None
            }
            Kind::Connect(_) => Some(FailureKind::Connect),
            Kind::Closed(_) | Kind::Broken(Breakage::Closed(_)) => Some(FailureKind::Closed),
            Kind::Timeout(_) | Kind::Broken(Breakage::Stalled(_)) => Some(FailureKind::Timeout),
            Kind::Malformed(_) | Kind::Broken(Breakage::Malformed) => Some(FailureKind::Malformed),
        }
    }

    /// What this host has nothing left of, when that is the reason and not the instance.
    pub(crate) fn exhaustion(&self) -> Option<&io::Error> {
        match &self.kind {
            Kind::Connect(ConnectError::Exhausted(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether it says no more than that something took too long.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::Timeout(_) | Kind::Connect(ConnectError::Timeout(_)))
    }

    /// Whether the communication failed before the head of a response: no answer will come on that connection, and
    /// nothing says that the request was carried out. A response that broke off after its head says that it was.
    pub(crate) fn is_communication(&self) -> bool {
        matches!(self.kind, Kind::Connect(_) | Kind::Closed(_))
    }

    /// Whether the instance refuses connections, rather than being silent or far.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&self.kind, Kind::Connect(ConnectError::Connect(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// What the client gets when this was the last attempt at `instance` of the service `name`; "its instance" where clients
    /// may not know the address.
    pub(crate) fn refusal(self, name: &ServiceName, instance: &str) -> GatewayError {
        let sentence = format!("{name}: {instance} {}", self.kind);
        match self.kind {
            Kind::Connect(error) => GatewayError::Unreachable(format!("{name} is down: {instance} {}", chain(&error))),
            Kind::Closed(_) if self.progress == Progress::NothingSent => GatewayError::Unreachable(sentence),
            Kind::Closed(_) => GatewayError::UpstreamClosed(format!("{sentence}; it may have carried out the request")),
            Kind::Malformed(_) | Kind::Broken(Breakage::Malformed) => GatewayError::UpstreamMalformed(sentence),
            Kind::Broken(_) => GatewayError::UpstreamClosed(sentence),
            Kind::Timeout(_) => GatewayError::UpstreamTimeout(sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhausted_host_ejects_nobody_and_says_that_it_is_overloaded() {
        let kind = Kind::Connect(ConnectError::Exhausted(io::Error::other("too many open files")));
        let failure = Failure { kind, progress: Progress::NothingSent, is_stale: false, is_amid_body: false };
        assert!(failure.outcome().is_none() && failure.metric().is_none());
        assert!(failure.exhaustion().is_some());
        let problem = GatewayError::exhausted().problem();
        assert_eq!((problem.status.as_u16(), &*problem.code), (503, "overloaded"));
    }
}
