//! Why an address is on the list, and what that stops.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::outbox::store::events::EventKind;

/// Why nothing is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Mail to it came back for good.
    Bounce,
    /// Its owner called our mail spam.
    Complaint,
    /// Its owner left.
    Unsubscribe,
    /// An operator said so.
    Manual,
}

impl Reason {
    /// The word in the database and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::Unsubscribe => "unsubscribe",
            Self::Manual => "manual",
        }
    }

    /// What an entry with this reason stops unless an operator says otherwise.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Unsubscribe => Scope::Broadcast,
            Self::Bounce | Self::Complaint | Self::Manual => Scope::All,
        }
    }

    pub(super) fn event(self) -> Option<EventKind> {
        match self {
            Self::Bounce => Some(EventKind::Bounced),
            Self::Complaint => Some(EventKind::Complained),
            Self::Unsubscribe => Some(EventKind::Unsubscribed),
            Self::Manual => None,
        }
    }
}

/// The stream of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One message to each of many.
    Broadcast,
    /// Everything else.
    Transactional,
}

impl Stream {
    /// That of a message that belongs to a broadcast, or to none.
    pub(in crate::outbox) fn of(is_broadcast: bool) -> Self {
        if is_broadcast { Self::Broadcast } else { Self::Transactional }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Broadcast => Scope::Broadcast.as_str(),
            Self::Transactional => Scope::Transactional.as_str(),
        }
    }
}

/// What an entry stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Stream, description = "Which mail is stopped")]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All mail.
    All,
    /// Broadcasts only.
    Broadcast,
    /// Everything but broadcasts.
    Transactional,
}

impl Scope {
    /// The word in the database and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Broadcast => "broadcast",
            Self::Transactional => "transactional",
        }
    }
}
