//! A failed attempt: what went wrong, how far it had got, and, in [one table](Failure::consequences), all that follows:
//! for the instance, the metrics, another attempt and the client.

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
    pub(crate) moment: Moment,
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

/// When a connection was closed that should not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It had served before, and the instance may just have closed it: that says nothing about the instance.
    OnReuse,
    /// The body was on its way. An instance may refuse one by closing the connection, which a client can provoke at
    /// will: that says nothing about the instance either. A dead one takes no connection.
    AmidBody,
    /// Any other.
    Other,
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The client, or what it can provoke at will.
    Downstream,
    /// The instance, or the way to it.
    Upstream,
    /// This host, its name servers or its rules.
    Internal,
}

/// Whether a failure speaks against the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    Nothing,
    /// It took too long, which is nothing against an instance that shows other signs of life: slow is not dead.
    UnlessAlive(Outcome),
    Against(Outcome),
}

/// What is known of the request at the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstAttempt {
    /// The communication failed before the head of a response: no answer will come, and nothing says that the request
    /// was carried out.
    Ended,
    /// It may still be carried out, or was: a response that broke off after its head says so.
    MayGoOn,
}

/// What the client gets when no other attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 503: the gateway's host has nothing left.
    Overloaded,
    /// 503: the service is down. The flag: its instance refuses connections, rather than being silent or far.
    Down { is_refused: bool },
    /// 503: nothing was sent.
    Unreachable,
    /// 502: the instance may have carried out the request.
    Closed,
    /// 502: the response broke off.
    Broken,
    /// 502: the response is nonsense.
    Malformed,
    /// 504.
    Timeout,
}

/// All that follows from a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consequences {
    pub(crate) origin: Origin,
    pub(crate) judgement: Judgement,
    /// What the metrics call it; `None` when the instance has no part in it.
    pub(crate) metric: Option<FailureKind>,
    pub(crate) first_attempt: FirstAttempt,
    pub(crate) answer: Answer,
}

// === impl Failure ===

impl Failure {
    /// The table. Retries of [`Origin::Internal`] failures other than of this host are up to the instance's name or
    /// address: another instance has others.
    pub(crate) fn consequences(&self) -> Consequences {
        match &self.kind {
            Kind::Connect(error) => self.not_connected(error),
            Kind::Closed(_) => {
                let (origin, judgement) = self.closed();
                let answer = if self.progress == Progress::NothingSent { Answer::Unreachable } else { Answer::Closed };
                Consequences {
                    origin,
                    judgement,
                    metric: Some(FailureKind::Closed),
                    first_attempt: FirstAttempt::Ended,
                    answer,
                }
            }
            Kind::Malformed(_) => {
                answered(Judgement::Against(Outcome::Malformed), FailureKind::Malformed, Answer::Malformed)
            }
            Kind::Timeout(_) => {
                answered(Judgement::UnlessAlive(Outcome::TimedOut), FailureKind::Timeout, Answer::Timeout)
            }
            Kind::Broken(Breakage::Closed(_)) => {
                let (origin, judgement) = self.closed();
                Consequences { origin, ..answered(judgement, FailureKind::Closed, Answer::Broken) }
            }
            Kind::Broken(Breakage::Stalled(_)) => {
                answered(Judgement::Against(Outcome::TimedOut), FailureKind::Timeout, Answer::Broken)
            }
            Kind::Broken(Breakage::Malformed) => {
                answered(Judgement::Against(Outcome::Broken), FailureKind::Malformed, Answer::Malformed)
            }
        }
    }

    /// The part of the table for an instance to which there is no connection.
    fn not_connected(&self, error: &ConnectError) -> Consequences {
        let failed = |judgement, is_refused| Consequences {
            origin: Origin::Upstream,
            judgement,
            metric: Some(FailureKind::Connect),
            first_attempt: FirstAttempt::Ended,
            answer: Answer::Down { is_refused },
        };
        let unjudged = Consequences { origin: Origin::Internal, ..failed(Judgement::Nothing, false) };
        match error {
            ConnectError::Connect(error) => {
                failed(Judgement::Against(Outcome::ConnectFailed), error.kind() == io::ErrorKind::ConnectionRefused)
            }
            ConnectError::Timeout(_) => failed(Judgement::UnlessAlive(Outcome::ConnectFailed), false),
            ConnectError::Forbidden(_) => unjudged,
            // Names have metrics of their own.
            ConnectError::Unresolved(_) | ConnectError::Unanswered(_) => Consequences { metric: None, ..unjudged },
            ConnectError::Exhausted(_) => Consequences { metric: None, answer: Answer::Overloaded, ..unjudged },
        }
    }

    /// Whose fault it is that a connection was closed.
    fn closed(&self) -> (Origin, Judgement) {
        match self.moment {
            Moment::OnReuse => (Origin::Upstream, Judgement::Nothing),
            Moment::AmidBody => (Origin::Downstream, Judgement::Nothing),
            Moment::Other => (Origin::Upstream, Judgement::Against(Outcome::Broken)),
        }
    }

    /// What the client gets when this was the last attempt at `instance` of the service `name`; "its instance" where clients
    /// may not know the address.
    pub(crate) fn answer(&self, name: &ServiceName, instance: &str) -> GatewayError {
        let sentence = || format!("{name}: {instance} {}", self.kind);
        match self.consequences().answer {
            Answer::Overloaded => GatewayError::exhausted(),
            Answer::Down { .. } => {
                GatewayError::Unreachable(format!("{name} is down: {instance} {}", chain(&self.kind)))
            }
            Answer::Unreachable => GatewayError::Unreachable(sentence()),
            Answer::Closed => {
                GatewayError::UpstreamClosed(format!("{}; it may have carried out the request", sentence()))
            }
            Answer::Broken => GatewayError::UpstreamClosed(sentence()),
            Answer::Malformed => GatewayError::UpstreamMalformed(sentence()),
            Answer::Timeout => GatewayError::UpstreamTimeout(sentence()),
        }
    }
}

/// What follows when the instance was reached, and may have begun to carry out the request.
fn answered(judgement: Judgement, metric: FailureKind, answer: Answer) -> Consequences {
    Consequences {
        origin: Origin::Upstream,
        judgement,
        metric: Some(metric),
        first_attempt: FirstAttempt::MayGoOn,
        answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(moment: Moment) -> Failure {
        Failure { kind: Kind::Closed(io::ErrorKind::ConnectionReset.into()), progress: Progress::Sent, moment }
    }

    #[test]
    fn an_exhausted_host_ejects_no_instance_and_says_that_it_is_overloaded() {
        let kind = Kind::Connect(ConnectError::Exhausted(io::Error::other("too many open files")));
        let failure = Failure { kind, progress: Progress::NothingSent, moment: Moment::Other };
        let Consequences { origin, judgement, metric, answer, .. } = failure.consequences();
        assert_eq!((origin, judgement, metric), (Origin::Internal, Judgement::Nothing, None));
        assert_eq!(answer, Answer::Overloaded);
        let problem = failure.answer(&"mail".parse().unwrap(), "its instance").problem();
        assert_eq!((problem.status.as_u16(), &*problem.code), (503, "overloaded"));
    }

    #[test]
    fn what_a_client_can_provoke_is_nothing_against_an_instance() {
        let amid_body = closed(Moment::AmidBody).consequences();
        assert_eq!((amid_body.origin, amid_body.judgement), (Origin::Downstream, Judgement::Nothing));
        assert_eq!(closed(Moment::OnReuse).consequences().judgement, Judgement::Nothing);
        assert_eq!(closed(Moment::Other).consequences().judgement, Judgement::Against(Outcome::Broken));
    }

    #[test]
    fn slow_is_not_dead_and_a_refused_connection_is() {
        let of = |kind| Failure { kind, progress: Progress::NothingSent, moment: Moment::Other }.consequences();
        let limit = Duration::from_secs(1);
        assert_eq!(of(Kind::Timeout(limit)).judgement, Judgement::UnlessAlive(Outcome::TimedOut));
        let far = of(Kind::Connect(ConnectError::Timeout(limit)));
        assert_eq!(far.judgement, Judgement::UnlessAlive(Outcome::ConnectFailed));
        let refused = of(Kind::Connect(ConnectError::Connect(io::ErrorKind::ConnectionRefused.into())));
        assert_eq!(refused.judgement, Judgement::Against(Outcome::ConnectFailed));
        assert_eq!(
            (far.answer, refused.answer),
            (Answer::Down { is_refused: false }, Answer::Down { is_refused: true })
        );
    }

    #[test]
    fn only_a_communication_that_failed_before_a_head_ends_the_first_attempt() {
        let of = |kind| Failure { kind, progress: Progress::Sent, moment: Moment::Other }.consequences().first_attempt;
        assert_eq!(of(Kind::Closed(io::ErrorKind::UnexpectedEof.into())), FirstAttempt::Ended);
        assert_eq!(of(Kind::Timeout(Duration::ZERO)), FirstAttempt::MayGoOn);
        assert_eq!(of(Kind::Malformed("x")), FirstAttempt::MayGoOn);
        assert_eq!(of(Kind::Broken(Breakage::Closed(io::ErrorKind::UnexpectedEof.into()))), FirstAttempt::MayGoOn);
    }
}
