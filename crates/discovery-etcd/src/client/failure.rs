//! What went wrong in one attempt on one member: etcd-client's strings, turned into types once.

use std::error::Error as _;

use tonic::{Code, Status};

/// Why one attempt on one etcd member failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It did not answer in time: frozen, cut off, overloaded, or without a quorum. A write may have happened or not.
    #[error("no answer in time")]
    Silent,
    /// It could not be reached, or the connection broke: connection refused, no such host, TLS refused.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It answered that it cannot serve now: another leader was elected, too many requests, shutting down.
    #[error("not able to serve: {0}")]
    Unable(String),
    /// It answered that too few members agree: none of them leads, or a proposal found no majority.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// Its database has reached its quota: it deletes and keeps leases alive, and writes nothing.
    #[error("full: {0}")]
    Full(String),
    /// It has found that its members' data differ (alarm `CORRUPT`), and writes nothing.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// The token is unknown to it (expired, or forgotten in a restart), or it wants one.
    #[error("not authenticated: {0}")]
    Unauthenticated(String),
    /// The user may not do this.
    #[error("denied: {0}")]
    Denied(String),
    /// User or password are wrong.
    #[error("log-in refused: {0}")]
    LoginRefused(String),
    /// The log-in is still under way; it goes on, and later calls profit from it.
    #[error("the log-in takes its time")]
    LoggingIn,
    /// The lease is gone.
    #[error("lease not found")]
    LeaseNotFound,
    /// A lease of this id is there already.
    #[error("lease exists already")]
    LeaseExists,
    /// The revision asked for is no longer kept.
    #[error("revision has been compacted")]
    Compacted,
    /// etcd asks for no user at all.
    #[error("authentication is not enabled in etcd")]
    AuthNotEnabled,
    /// It refused the request, and every other member would.
    #[error("refused: {0}")]
    Refused(String),
}

/// How long a failure lasts, which decides whether to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// Milliseconds, or until another member is asked: repeated within the call.
    Passes,
    /// Until enough members are back. During an election, a second: repeated within the call as well.
    NoQuorum,
    /// Until an operator changes something: every repetition would be refused, so the first answer is the answer.
    Lasts,
    /// It is none: etcd works, and says what there is.
    Answer,
}

// === impl Failure ===

impl Failure {
    /// How long it lasts.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Silent | Self::Unreachable(_) | Self::Unable(_) | Self::Unauthenticated(_) | Self::LoggingIn => {
                FailureClass::Passes
            }
            Self::NoQuorum(_) => FailureClass::NoQuorum,
            Self::Full(_) | Self::Corrupt(_) | Self::Denied(_) | Self::LoginRefused(_) | Self::Refused(_) => {
                FailureClass::Lasts
            }
            Self::LeaseNotFound | Self::LeaseExists | Self::Compacted | Self::AuthNotEnabled => FailureClass::Answer,
        }
    }

    /// Whether another member, or the same one a little later, may do better.
    pub fn is_transient(&self) -> bool {
        matches!(self.class(), FailureClass::Passes | FailureClass::NoQuorum)
    }

    /// What an operator does about one that lasts; `None` for the others, and where the words of etcd say it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Full(_) => Some(
                "etcd's database has reached its quota: compact it (etcdctl compact REVISION) and defragment it (etcdctl \
                 defrag --cluster), or raise --quota-backend-bytes if the disk has room; then clear the alarm (etcdctl \
                 alarm disarm)",
            ),
            Self::Corrupt(_) => Some(
                "etcd's members differ: compare them (etcdctl endpoint hashkv --cluster), replace the one that \
                 deviates, then clear the alarm (etcdctl alarm disarm)",
            ),
            Self::Denied(_) => Some(
                "let the user's role read and write there: etcdctl role grant-permission ROLE --prefix=true readwrite PREFIX",
            ),
            Self::LoginRefused(_) => Some("check --etcd-user and its password; a changed password file is read again"),
            Self::NoQuorum(_) => Some("start the etcd members that are down; more than half of them are needed"),
            Self::Silent
            | Self::Unreachable(_)
            | Self::Unable(_)
            | Self::Unauthenticated(_)
            | Self::LoggingIn
            | Self::LeaseNotFound
            | Self::LeaseExists
            | Self::Compacted
            | Self::AuthNotEnabled
            | Self::Refused(_) => None,
        }
    }

    fn from_status(status: &Status) -> Self {
        let message = status.message();
        let text = || message.strip_prefix("etcdserver: ").unwrap_or(message).to_owned();
        // The messages are etcd's, from api/v3rpc/rpctypes/error.go; the code alone does not tell these apart.
        match (status.code(), message) {
            (_, "etcdserver: requested lease not found") => Self::LeaseNotFound,
            (_, "etcdserver: lease already exists") => Self::LeaseExists,
            (_, "etcdserver: authentication is not enabled") => Self::AuthNotEnabled,
            (_, "etcdserver: not leader") => Self::Unable(text()),
            // All three are healed by a new token.
            (_, "etcdserver: invalid auth token" | "etcdserver: user name is empty")
            | (_, "etcdserver: revision of auth store is old")
            | (Code::Unauthenticated, _) => Self::Unauthenticated(text()),
            (_, "etcdserver: authentication failed, invalid user ID or password") => Self::LoginRefused(text()),
            (Code::PermissionDenied, _) => Self::Denied(text()),
            (Code::OutOfRange, message) if message.ends_with("required revision has been compacted") => Self::Compacted,
            (Code::ResourceExhausted, message) if message.ends_with("database space exceeded") => Self::Full(text()),
            (Code::DataLoss, _) | (_, "etcdserver: corrupt cluster") => Self::Corrupt(text()),
            // A learner has no vote yet, and other members have.
            (_, "etcdserver: rpc not supported for learner") | (Code::ResourceExhausted | Code::Aborted, _) => {
                Self::Unable(text())
            }
            (_, "etcdserver: no leader" | "etcdserver: unhealthy cluster") => Self::NoQuorum(text()),
            (_, message) if message.starts_with("etcdserver: request timed out") => Self::NoQuorum(text()),
            (Code::DeadlineExceeded | Code::Cancelled, _) => Self::Silent,
            (Code::Unavailable, message) if message.starts_with("etcdserver:") => Self::Unable(text()),
            (Code::Unavailable | Code::Unknown | Code::Internal, _) => Self::Unreachable(causes(status)),
            _ => Self::Refused(text()),
        }
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error;
        match error {
            Error::GRpcStatus(status) => Self::from_status(&status),
            // The only thing that etcd-client itself says about a keep-alive response is this.
            Error::LeaseKeepAliveError(text) if text == "lease not found" => Self::LeaseNotFound,
            Error::IoError(error) => Self::Unreachable(error.to_string()),
            Error::TransportError(error) => {
                let cause = error.source().map(ToString::to_string);
                Self::Unreachable(cause.unwrap_or_else(|| error.to_string()))
            }
            Error::WatchError(text)
            | Error::LeaseKeepAliveError(text)
            | Error::EndpointError(text)
            | Error::Internal(text) => Self::Unreachable(text),
            error @ (Error::InvalidArgs(_)
            | Error::InvalidUri(_)
            | Error::Utf8Error(_)
            | Error::ElectError(_)
            | Error::InvalidMetadataValue(_)
            | Error::EndpointsNotManaged) => Self::Refused(error.to_string()),
        }
    }
}

/// The innermost cause says what happened ("Connection refused"); the outer ones only that it happened.
fn causes(status: &Status) -> String {
    let mut innermost = None;
    let mut next = status.source();
    while let Some(cause) = next {
        innermost = Some(cause.to_string());
        next = cause.source();
    }
    match innermost {
        Some(cause) => cause,
        None if status.message().is_empty() => format!("{:?}", status.code()),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        etcd_client::Error::GRpcStatus(Status::new(code, message)).into()
    }

    #[test]
    fn what_another_member_may_do_better_is_transient() {
        for (code, message) in [
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::FailedPrecondition, "etcdserver: not leader"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::Unknown, "transport error"),
            (Code::Cancelled, "operation was canceled"),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::InvalidArgument, "etcdserver: user name is empty"),
        ] {
            assert!(failure(code, message).is_transient(), "{message}");
        }
        assert_eq!(failure(Code::Unavailable, "etcdserver: no leader").class(), FailureClass::NoQuorum);
        assert_eq!(failure(Code::Unavailable, "etcdserver: leader changed").class(), FailureClass::Passes);
    }

    #[test]
    fn what_an_operator_must_change_lasts_and_comes_with_what_to_do() {
        for (code, message, part) in [
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", "alarm disarm"),
            (Code::DataLoss, "etcdserver: corrupt cluster", "hashkv"),
            (Code::PermissionDenied, "etcdserver: permission denied", "grant-permission"),
            (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password", "password"),
        ] {
            let failure = failure(code, message);
            assert_eq!(failure.class(), FailureClass::Lasts, "{message}");
            assert!(failure.advice().is_some_and(|advice| advice.contains(part)), "{message}");
        }
    }

    #[test]
    fn what_every_member_would_refuse_is_final() {
        assert_eq!(failure(Code::NotFound, "etcdserver: requested lease not found"), Failure::LeaseNotFound);
        assert_eq!(failure(Code::FailedPrecondition, "etcdserver: lease already exists"), Failure::LeaseExists);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(failure(Code::OutOfRange, compacted), Failure::Compacted);
        for (code, message) in [
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (Code::OutOfRange, "etcdserver: too large lease TTL"),
        ] {
            assert!(!failure(code, message).is_transient(), "{message}");
        }
    }

    #[test]
    fn a_lease_not_found_is_recognised_in_etcd_clients_words() {
        let error = etcd_client::Error::LeaseKeepAliveError("lease not found".into());
        assert_eq!(Failure::from(error), Failure::LeaseNotFound);
    }
}
