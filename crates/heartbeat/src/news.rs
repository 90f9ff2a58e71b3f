//! How a [`Change`] reads in the log.

use std::time::Duration;

use discovery::ServiceName;

use crate::{State, ledger::Change, mistaken};

/// Writes one line for `change`, after which the registration stands as in `state`.
pub(crate) fn log(service: &ServiceName, state: &State, change: Change) {
    let instance = shown(state.instance.as_ref());
    let registry = shown(state.registry.as_ref());
    let error = state.last_error.as_ref().map(mistaken::explained).unwrap_or_default();
    match change {
        Change::Registered => {
            let address = shown(state.address.as_ref());
            tracing::info!(%service, instance, address, registry, "registered");
        }
        Change::Back { after } => {
            tracing::info!(%service, instance, registry, after_ms = after.as_millis(), "registered again");
        }
        Change::Failing { holds: Duration::ZERO } => {
            tracing::warn!(%service, error, "cannot register yet; trying on");
        }
        Change::Failing { holds } => {
            tracing::warn!(%service, instance, error, holds_ms = holds.as_millis(), "heartbeats fail; trying on");
        }
        Change::Refused => {
            tracing::error!(%service, error, "the heartbeat is refused: check the configuration; trying on slowly");
        }
        Change::Recovered => tracing::info!(%service, instance, registry, "heartbeats are taken again"),
        Change::Lost => tracing::warn!(%service, instance, error, "the registration is lost; trying on"),
        Change::Unconfirmed => {
            tracing::warn!(
                %service,
                instance,
                error,
                "no registry has confirmed the registration within its TTL; it may have ended; trying on"
            );
        }
        Change::Displaced => {
            tracing::warn!(%service, instance, error, "another instance has this one's id; not registered until that ends");
        }
        Change::Contested => {
            let other = state.reply.as_ref().and_then(|reply| reply.other_holder.as_ref());
            let other = shown(other.map(|other| &other.address));
            tracing::warn!(%service, instance, other, "another program claims the id of this instance; give each its own");
        }
        Change::Moved => tracing::info!(%service, instance, registry, "heartbeats go to another registry"),
        Change::Drained => tracing::warn!(%service, instance, "drained by an operator: new requests go elsewhere"),
        Change::Undrained => tracing::info!(%service, instance, "no longer drained by an operator"),
    }
}

fn shown(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}
