use std::{sync::Arc, time::Duration};

use service_kit::client::ClientError;

use crate::{AdvertiseError, RegistryUrl, credentials::Unreadable};

/// Why a heartbeat did not register anything.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HeartbeatError {
    /// Nothing could be sent, because there is no address to announce.
    #[error("cannot tell by which address others reach this instance")]
    Advertise(#[source] AdvertiseError),
    /// Nothing could be sent, because the token or key cannot be read.
    #[error("cannot prove to a registry who this is")]
    Credentials(#[source] Arc<Unreadable>),
    /// No connection, or it broke.
    #[error("cannot reach registry {registry}")]
    Unreachable {
        /// Which one.
        registry: RegistryUrl,
        /// What broke.
        source: Arc<ClientError>,
    },
    /// It did not answer in time: frozen, overloaded, or behind a network that drops packets.
    #[error("registry {registry} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Which one.
        registry: RegistryUrl,
        /// How long it was given.
        after: Duration,
    },
    /// 429 or 503: it works, but not now. 503 is what a registry says that cannot commit in etcd.
    #[error("registry {registry} is busy ({status}): {detail}")]
    Busy {
        /// Which one.
        registry: RegistryUrl,
        /// 429 or 503.
        status: u16,
        /// What it says about it.
        detail: String,
        /// When it wants to be asked again, within our bounds.
        retry_after: Duration,
        /// For how long the registration holds nevertheless, if it says so: the lease was kept alive, and something
        /// else was not done.
        holds: Option<Duration>,
    },
    /// Another 5xx: its problem, not ours.
    #[error("registry {registry} failed ({status}): {detail}")]
    Failed {
        /// Which one.
        registry: RegistryUrl,
        /// The status.
        status: u16,
        /// What it says about it.
        detail: String,
    },
    /// 409: another incarnation holds the instance id: a successor of this instance, or a program that was given the
    /// same id. Nothing is registered for this one, and nothing was changed.
    #[error("registry {registry} says that this instance does not hold its id (409): {detail}")]
    AnotherIncarnation {
        /// Which one.
        registry: RegistryUrl,
        /// Who holds it.
        detail: String,
    },
    /// 409: what was registered has ended. A new life begins at once, unless the instance leaves.
    #[error("registry {registry} says that the registration has ended (409): {detail}")]
    IncarnationEnded {
        /// Which one.
        registry: RegistryUrl,
        /// What it says about it.
        detail: String,
    },
    /// Any other status: the heartbeat is wrong, or that is no registry. The configuration has to be changed.
    #[error("registry {registry} refuses the heartbeat ({status}): {detail}")]
    Refused {
        /// Which one.
        registry: RegistryUrl,
        /// The status.
        status: u16,
        /// The fields that it refuses, by their names; none when its answer has another `code` than `invalid_field`.
        fields: Vec<String>,
        /// What it says about it.
        detail: String,
    },
    /// Success in words that no registry uses: something else listens there.
    #[error("what answers at {registry} is no registry: {reason}")]
    Nonsense {
        /// Which one.
        registry: RegistryUrl,
        /// What is wrong with its answer.
        reason: String,
    },
    /// Every registry asked to be left alone for a moment, and the moment is not over.
    #[error("every registry asked to wait")]
    BackedOff,
}

// === impl HeartbeatError ===

impl HeartbeatError {
    /// Whether the same heartbeat may succeed on a retry, without a change of configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Advertise(error) => error.is_transient(),
            // A mounted secret may come later than the program.
            Self::Credentials(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::IncarnationEnded { .. }
            | Self::BackedOff => true,
            Self::AnotherIncarnation { .. } | Self::Refused { .. } | Self::Nonsense { .. } => false,
        }
    }

    /// Whether the registry may have taken the heartbeat all the same: it was sent, and the answer is missing or says
    /// only that something went wrong.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_connect(),
            Self::TimedOut { .. } | Self::Failed { .. } => true,
            Self::Busy { status, holds, .. } => *status >= 500 && holds.is_none(),
            Self::Advertise(_)
            | Self::Credentials(_)
            | Self::AnotherIncarnation { .. }
            | Self::IncarnationEnded { .. }
            | Self::Refused { .. }
            | Self::Nonsense { .. }
            | Self::BackedOff => false,
        }
    }

    /// For how long the registration holds although the heartbeat was not taken as it is, if the registry says so.
    #[must_use]
    pub fn holds(&self) -> Option<Duration> {
        match self {
            Self::Busy { holds, .. } => *holds,
            Self::Advertise(_)
            | Self::Credentials(_)
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Failed { .. }
            | Self::AnotherIncarnation { .. }
            | Self::IncarnationEnded { .. }
            | Self::Refused { .. }
            | Self::Nonsense { .. }
            | Self::BackedOff => None,
        }
    }
}
