//! Every way in which a request can fail, and the one table from error to status and code.
//!
//! | error | status | code | whose turn |
//! |---|---|---|---|
//! | a field of the request | 422 | `invalid_field` | the caller changes it |
//! | a setting with a mistake | 422 | `invalid_field` | the same |
//! | no such instance (overrides only) | 404 | `no_such_instance` | the caller looks again |
//! | another life holds the instance id | 409 | `another_incarnation` | the caller, which is not the holder (any more) |
//! | the life has ended | 409 | `incarnation_ended` | the caller begins a new one, if it wants to be registered |
//! | the override is for another life | 409 | `another_incarnation` | the caller looks again |
//! | etcd did not answer, or has no quorum | 503 | `etcd_unavailable` | the caller tries again, here or at another registry |
//! | etcd refuses, and will until something is changed: full, not permitted | 503 | `etcd_refused` | the operator; the detail has etcd's words |
//! | no answer in time | 503 | `etcd_slow` | as for `etcd_unavailable` |
//! | too many requests at once, or too many who wait for a change | 503 | `overloaded` | as for `etcd_unavailable` |
//! | others kept changing the same instance | 503 | `contended` | as for `etcd_unavailable` |
//! | nothing has been read from etcd yet | 503 | `not_loaded` | as for `etcd_unavailable` |
//! | etcd cannot be read now, and old is no answer | 503 | `stale` | as for `etcd_unavailable` |
//! | it is not allowed | 403, 422, 429 | see [`crate::admission::denied`] | the caller, or the operator |
//! | a bug | 500 | `internal` | us |
//!
//! What is wrong with the JSON of a body is settled before, in [`service_kit::json`].

use std::time::Duration;

use axum::http::StatusCode;
use discovery::{Address, FieldError, Incarnation, InstanceKey, Revision};
use discovery_etcd::{CallError, EtcdError, FailureClass};
use service_kit::{Problem, chain, duration};

use crate::admission::Denied;

/// How long a caller should wait after a 503: about as long as etcd takes to elect a leader.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The member of a problem that says for how long the registration holds nevertheless, in milliseconds.
pub const HOLDS_MS: &str = "holds_ms";

/// Why the registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// etcd was asked and did not do it.
    #[error("etcd did not {operation}")]
    Etcd {
        /// What was asked of it, as a verb: `keep the lease alive`.
        operation: &'static str,
        /// Its answer.
        source: EtcdError,
    },
    /// It took longer than [`crate::concurrency_limit::Limits::deadline`].
    #[error("etcd did not answer in time")]
    Late,
    /// More than [`crate::concurrency_limit::Limits::at_once_max`] were under way.
    #[error("too many requests are waiting for etcd")]
    Overloaded,
    /// More clients wait for a change than this registry can keep waiting.
    #[error("too many clients wait for a change")]
    Crowded,
    /// Each attempt to write this instance found that another client had just written it.
    #[error("{0} is being changed by others at the same time")]
    Contended(InstanceKey),
    /// `service/` has never been read.
    #[error("the list of instances has not been loaded from etcd yet")]
    NotLoaded,
    /// etcd has been silent for so long, and the caller could not tell an old answer from a new one.
    #[error("etcd has not been heard of for {}", duration::format(Duration::from_secs(.0.as_secs())))]
    Stale(Duration),
    /// A setting that would be a mistake.
    #[error("{0}")]
    Invalid(FieldError),
    /// The instance id is held by another life than the request is of.
    #[error("{key} is held by another incarnation{}", holder(.address.as_deref(), *.incarnation, *.since))]
    AnotherIncarnation {
        /// Which instance.
        key: Box<InstanceKey>,
        /// Where the holder is, if that makes sense to us.
        address: Option<Box<Address>>,
        /// The life that holds it; none: the key was written for good.
        incarnation: Option<Incarnation>,
        /// When the holder last wrote it.
        since: Revision,
    },
    /// The life that the request is of has ended.
    #[error("incarnation {incarnation} of {key} has ended")]
    IncarnationEnded {
        /// Which instance.
        key: InstanceKey,
        /// Which life.
        incarnation: Incarnation,
    },
    /// The override is about another life than the request is.
    #[error("the override of {key} is for another incarnation{}", named(*.incarnation))]
    AnotherOverride {
        /// Which instance.
        key: InstanceKey,
        /// The life that it is about.
        incarnation: Option<Incarnation>,
    },
    /// The incarnation that the caller has chosen is another instance's.
    #[error("incarnation: {0} is another instance's; draw another one")]
    LeaseInUse(Incarnation),
    /// An override of an instance that is not registered.
    #[error("{0} is not registered")]
    NoSuchInstance(InstanceKey),
    /// It is not allowed; see [`crate::admission`].
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The instance lives on as it was registered, for another TTL; the rest of what its heartbeat says was not done.
    #[error("the instance stays registered as it was")]
    Holds {
        /// The TTL of its lease, which was kept alive.
        ttl: Duration,
        /// What was not done.
        source: Box<Self>,
    },
    /// The work panicked, with these words.
    #[error("the request was not finished: {0}")]
    Broken(String),
}

// === impl RegistryError ===

impl RegistryError {
    /// The same, of a heartbeat that has kept a lease of this TTL alive.
    #[must_use]
    pub fn holding(self, ttl: Duration) -> Self {
        Self::Holds { ttl, source: Box::new(self) }
    }
}

/// ` at 10.0.0.5:7070 (4f2a90c1d3e5b677), as written at revision 7`
fn holder(address: Option<&Address>, incarnation: Option<Incarnation>, since: Revision) -> String {
    let at = address.map(|address| format!(" at {address}")).unwrap_or_default();
    format!("{at}{}, as written at revision {since}", named(incarnation))
}

fn named(incarnation: Option<Incarnation>) -> String {
    incarnation.map(|incarnation| format!(" ({incarnation})")).unwrap_or_default()
}

/// 422 for a field, as the crate `discovery` words it.
pub fn field(error: FieldError) -> Problem {
    Problem::field(error.field, error.reason)
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        Self::from(&error)
    }
}

impl From<&RegistryError> for Problem {
    fn from(error: &RegistryError) -> Self {
        let unavailable = |code: &'static str| Self::unavailable(code, format!("{error}; try again"), RETRY_AFTER);
        match error {
            RegistryError::Contended(_) => unavailable("contended"),
            RegistryError::Etcd { source, .. } => etcd(error, source),
            RegistryError::Late => unavailable("etcd_slow"),
            RegistryError::Overloaded | RegistryError::Crowded => unavailable("overloaded"),
            RegistryError::NotLoaded => unavailable("not_loaded"),
            RegistryError::Stale(_) => unavailable("stale"),
            RegistryError::Invalid(error) => field(error.clone()),
            RegistryError::AnotherIncarnation { .. } => {
                let what = "two programs have the same instance id, or this one was replaced; give each its own id";
                Self::new(StatusCode::CONFLICT, "another_incarnation", format!("{error}: {what}"))
            }
            RegistryError::AnotherOverride { .. } => Self::new(
                StatusCode::CONFLICT,
                "another_incarnation",
                format!("{error}; look at the list of overrides"),
            ),
            RegistryError::IncarnationEnded { .. } => {
                let what = "begin a new one with \"incarnation\":\"new\"";
                Self::new(StatusCode::CONFLICT, "incarnation_ended", format!("{error}; {what}"))
            }
            RegistryError::LeaseInUse(_) => Self::field("incarnation", "is another instance's; draw another one"),
            RegistryError::NoSuchInstance(_) => {
                Self::new(StatusCode::NOT_FOUND, "no_such_instance", format!("{error}; look at the list of instances"))
            }
            RegistryError::Denied(denied) => denied.into(),
            RegistryError::Holds { ttl, source } => {
                let holds_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                Self::from(&**source).with(HOLDS_MS, holds_ms)
            }
            RegistryError::Broken(_) => {
                tracing::error!(error = %chain(error), "a request failed");
                Self::internal()
            }
        }
    }
}

/// What etcd did not do, and why, as far as its caller can make use of that. Not a warning for each: while etcd is away or
/// full there are hundreds a second, and readiness says it once.
fn etcd(error: &RegistryError, source: &EtcdError) -> Problem {
    tracing::debug!(error = %chain(error), "a call to etcd failed");
    match source.cause().map(CallError::class) {
        Some(FailureClass::NoQuorum) => {
            let detail = format!("{error}, because it has no quorum; try again");
            Problem::unavailable("etcd_unavailable", detail, RETRY_AFTER)
        }
        Some(FailureClass::Passes) => {
            Problem::unavailable("etcd_unavailable", format!("{error}; try again"), RETRY_AFTER)
        }
        Some(FailureClass::Lasts | FailureClass::Answer) | None => {
            let cause = source.cause().map_or_else(|| chain(source).to_string(), CallError::answer);
            Problem::unavailable("etcd_refused", format!("{error}: {cause}"), RETRY_AFTER)
        }
    }
}
