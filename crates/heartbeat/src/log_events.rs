//! How a [`Change`] reads in the log.

use std::time::Duration;

use discovery::ServiceName;

use crate::{State, mistaken, registration_state::Change};

/// The target of the log lines, which people filter by: it does not move with the file.
const LOG_TARGET: &str = "heartbeat::news";

/// Writes one line for `change`, after which the registration stands as in `state`.
pub(crate) fn log(service: &ServiceName, state: &State, change: Change) {
    let instance = shown(state.instance.as_ref());
    let registry = shown(state.registry.as_ref());
    let error = state.last_error.as_ref().map(mistaken::explained).unwrap_or_default();
    match change {
        Change::Registered => {
            let address = shown(state.address.as_ref());
            tracing::info!(target: LOG_TARGET, %service, instance, address, registry, "registered");
        }
        Change::Back { after } => {
            tracing::info!(target: LOG_TARGET, %service, instance, registry, after_ms = after.as_millis(), "registered again");
        }
        Change::Failing { holds: Duration::ZERO } => {
            tracing::warn!(target: LOG_TARGET, %service, error, "not registered yet; retrying");
        }
        Change::Failing { holds } => {
            tracing::warn!(target: LOG_TARGET, %service, instance, error, holds_ms = holds.as_millis(), "heartbeats failing; retrying");
        }
        Change::Refused => {
            tracing::error!(target: LOG_TARGET, %service, error, "the heartbeat is refused: check the configuration; retrying with backoff");
        }
        Change::Recovered => {
            tracing::info!(target: LOG_TARGET, %service, instance, registry, "heartbeats succeed again")
        }
        Change::Lost => {
            tracing::warn!(target: LOG_TARGET, %service, instance, error, "the registration is lost; retrying")
        }
        Change::Unconfirmed => {
            tracing::warn!(target: LOG_TARGET,
                %service,
                instance,
                error,
                "no registry has confirmed the registration within its TTL; it may have ended; retrying"
            );
        }
        Change::Displaced => {
            tracing::warn!(target: LOG_TARGET, %service, instance, error, "another instance holds this id; not registered until it ends");
        }
        Change::Contested => {
            let other = state.reply.as_ref().and_then(|reply| reply.other_holder.as_ref());
            let other = shown(other.map(|other| &other.address));
            tracing::warn!(target: LOG_TARGET, %service, instance, other, "another program claims the id of this instance; give each its own");
        }
        Change::Moved => {
            tracing::info!(target: LOG_TARGET, %service, instance, registry, "heartbeats go to another registry")
        }
        Change::Drained => {
            tracing::warn!(target: LOG_TARGET, %service, instance, "drained by an operator: new requests go elsewhere")
        }
        Change::Undrained => tracing::info!(target: LOG_TARGET, %service, instance, "no longer drained by an operator"),
    }
}

fn shown(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}
