use discovery::{Address, InstanceId, Status, heartbeat::HeartbeatReply};
use tokio::time::Instant;

use crate::{HeartbeatError, RegistryUrl};

/// How the registration of this instance stands, as far as the replies tell.
#[derive(Debug, Clone)]
pub struct State {
    /// Whether a registry has confirmed it and the TTL is not over since. Noticed within a second of the TTL's end.
    pub registered: bool,
    /// Since when [`State::registered`] has been what it is.
    pub since: Instant,
    /// Why the last heartbeat was not taken; none when it was.
    pub last_error: Option<HeartbeatError>,
    /// The last reply, even when the registration was lost since.
    pub reply: Option<HeartbeatReply>,
    /// Who gave the last reply.
    pub registry: Option<RegistryUrl>,
    /// The address that was announced last.
    pub address: Option<Address>,
    /// The id that was announced last.
    pub instance: Option<InstanceId>,
}

// === impl State ===

impl State {
    /// Whether another instance holds the id of this one: a successor, or a program that was given the same id. It is
    /// asked with every heartbeat whether that one has ended.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        matches!(self.last_error, Some(HeartbeatError::AnotherIncarnation { .. }))
    }

    /// Whether the registry says `draining`: an operator wants this instance out of rotation, or the service itself
    /// said so.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.registered && self.reply.as_ref().is_some_and(|reply| reply.status == Status::Draining)
    }
}
