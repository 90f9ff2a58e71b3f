//! Every refusal, as an error and as a problem.
//!
//! | refusal | status | code |
//! |---|---|---|
//! | the token has not that scope | 403 | `out_of_scope` |
//! | an address outside of the allowed networks, or one that may never be announced | 422 | `address_not_allowed` |
//! | an address of the infrastructure | 422 | `address_of_infrastructure` |
//! | a name that does not exist or has no address (NXDOMAIN, NODATA), or is not taken | 422 | `name_not_allowed` |
//! | a name that no name server could tell of now | 503 | `name_unresolved` |
//! | an address that is not the sender's | 422 | `address_not_yours` |
//! | the process at the address does not prove that it is that instance | 422 | `address_not_proven` |
//! | too many addresses are being asked at once | 429 | `too_many_proofs` |
//! | the service, or the token, has enough | 429 | `too_many_instances`, `too_many_services`, `too_many_overrides` |
//! | the client asks too often | 429 | `rate_limited` |
//! | the client's network has as many waiting requests as one may have | 429 | `too_many_waiting` |
//! | more would be written in a minute than may be | 429 | `too_many_writes` |
//! | more would be in etcd than may be | 429 | `too_much_stored` |

use std::{net::IpAddr, time::Duration};

use axum::http::StatusCode;
use discovery::{Address, ServiceName};
use prometheus_client::encoding::EncodeLabelValue;
use service_kit::Problem;

use super::{
    bound::Bound,
    budget::{Budget, format_size},
};

/// How long a client should wait that found no room.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(10);

/// How long one should wait whose address could not be asked.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long one should wait whose name could not be resolved: as long as the look-up waits for its next attempt.
const UNRESOLVED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The token may not do that.
    #[error("{}", .0.detail)]
    Scope(Box<Problem>),
    /// The address is not one that may be announced.
    #[error("{ip} must not be announced: it {why}")]
    Address {
        /// What was announced, or what its name resolves to.
        ip: IpAddr,
        /// The rule; completes the sentence "it …".
        why: &'static str,
    },
    /// What listens there is a part of the infrastructure, not an instance of a service.
    #[error("{address} must not be announced: it is {what}")]
    Infrastructure {
        /// What was announced.
        address: Address,
        /// Which part; completes the sentence "it is …".
        what: &'static str,
    },
    /// The name cannot be taken.
    #[error("the name {name} cannot be announced: {why}")]
    Name {
        /// Which one.
        name: String,
        /// The rule.
        why: &'static str,
    },
    /// It cannot be told now what the name stands for: the same heartbeat may be taken a moment later.
    #[error("the name {name} cannot be resolved for now: {why}; try again, or announce the IP address")]
    Unresolved {
        /// Which one.
        name: String,
        /// What the look-up came to.
        why: String,
    },
    /// The address is not the sender's.
    #[error("{address} is not the address that the request comes from, {client}; announce your own")]
    Source {
        /// What was announced.
        address: Address,
        /// Where the request came from.
        client: IpAddr,
    },
    /// The process at the address does not prove that it is that instance.
    #[error("{address} has not proven that it is the instance: {reason}")]
    Unproven {
        /// What was announced.
        address: Address,
        /// What happened, and what to change.
        reason: String,
    },
    /// The address could not be asked, because too many others are.
    #[error("too many instances are asked for a proof of their address at once; retry later")]
    Busy,
    /// The service has as many instances as it may have.
    #[error("{service} has {max} instances already, and more are not allowed here")]
    Instances {
        /// Which service.
        service: ServiceName,
        /// How many it may have.
        max: usize,
    },
    /// The service has as many overrides as it may have instances.
    #[error(
        "{service} has {max} overrides already, and more are not allowed here; take back those of instances that are gone"
    )]
    Overrides {
        /// Which service.
        service: ServiceName,
        /// How many it may have.
        max: usize,
    },
    /// The token has instances of as many services as it may.
    #[error("the token {token} has instances of {max} services already, and more are not allowed here")]
    Services {
        /// Whose.
        token: String,
        /// How many it may have.
        max: usize,
    },
    /// The client asks too often.
    #[error("too many requests from {client}; slow down")]
    Rate {
        /// Who.
        client: IpAddr,
        /// When it may ask again.
        retry_after: Duration,
    },
    /// The client's network has as many requests that wait for a change as one may have.
    #[error("your network has {max} requests waiting for a change, as many as one may have; let one end first")]
    Waiting {
        /// How many it may have.
        max: usize,
    },
    /// More would be written in a minute than may be.
    #[error("{whose} has written as much as it may: {budget} changes and bytes a minute ({}); try again later", bound.flag())]
    Writes {
        /// Whose bound it is, as the subject of a sentence.
        whose: String,
        /// Which one.
        bound: Bound,
        /// What it is set to.
        budget: Budget,
        /// When there will be room.
        retry_after: Duration,
    },
    /// More would be in etcd than may be.
    #[error("{whose} would take more than {} in etcd ({}); remove something first", format_size(*max_bytes), bound.flag())]
    Stored {
        /// What would, as the subject of a sentence.
        whose: String,
        /// Which bound it is.
        bound: Bound,
        /// What it is set to.
        max_bytes: u64,
    },
}

/// The same, for a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reason {
    /// [`Denied::Scope`]
    Scope,
    /// [`Denied::Address`], [`Denied::Infrastructure`]
    Address,
    /// [`Denied::Name`], [`Denied::Unresolved`]
    Name,
    /// [`Denied::Source`]
    Source,
    /// [`Denied::Unproven`], [`Denied::Busy`]
    Proof,
    /// [`Denied::Instances`], [`Denied::Overrides`]
    Instances,
    /// [`Denied::Services`]
    Services,
    /// [`Denied::Rate`]
    Rate,
    /// [`Denied::Waiting`]
    Waiting,
    /// [`Denied::Writes`]
    Writes,
    /// [`Denied::Stored`]
    Stored,
}

// === impl Denied ===

impl Denied {
    /// The bound of writes that was reached, if it was one.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        match self {
            Self::Writes { bound, .. } | Self::Stored { bound, .. } => Some(*bound),
            _ => None,
        }
    }

    /// For a metric.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Scope(_) => Reason::Scope,
            Self::Address { .. } | Self::Infrastructure { .. } => Reason::Address,
            Self::Name { .. } | Self::Unresolved { .. } => Reason::Name,
            Self::Source { .. } => Reason::Source,
            Self::Unproven { .. } | Self::Busy => Reason::Proof,
            Self::Instances { .. } | Self::Overrides { .. } => Reason::Instances,
            Self::Services { .. } => Reason::Services,
            Self::Rate { .. } => Reason::Rate,
            Self::Waiting { .. } => Reason::Waiting,
            Self::Writes { .. } => Reason::Writes,
            Self::Stored { .. } => Reason::Stored,
        }
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        let address = |code: &'static str| {
            let mut problem = Self::field("address", denied.to_string());
            problem.code = code.into();
            problem
        };
        let enough = |code: &'static str, wait| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, code, denied.to_string()).retry_after(wait)
        };
        match denied {
            Denied::Scope(problem) => (**problem).clone(),
            Denied::Address { .. } => address("address_not_allowed"),
            Denied::Infrastructure { .. } => address("address_of_infrastructure"),
            Denied::Name { .. } => address("name_not_allowed"),
            Denied::Unresolved { .. } => {
                Self::unavailable("name_unresolved", denied.to_string(), UNRESOLVED_RETRY_AFTER)
            }
            Denied::Source { .. } => address("address_not_yours"),
            Denied::Unproven { .. } => address("address_not_proven"),
            Denied::Busy => enough("too_many_proofs", BUSY_RETRY_AFTER),
            Denied::Instances { .. } => enough("too_many_instances", FULL_RETRY_AFTER),
            Denied::Overrides { .. } => enough("too_many_overrides", FULL_RETRY_AFTER),
            Denied::Services { .. } => enough("too_many_services", FULL_RETRY_AFTER),
            Denied::Rate { retry_after, .. } => enough("rate_limited", *retry_after),
            Denied::Waiting { .. } => enough("too_many_waiting", BUSY_RETRY_AFTER),
            Denied::Writes { retry_after, .. } => enough("too_many_writes", *retry_after),
            Denied::Stored { .. } => enough("too_much_stored", FULL_RETRY_AFTER),
        }
    }
}
