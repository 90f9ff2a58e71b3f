//! One step of a conversation: bounded in time, decided by the server's code.

use std::future::Future;

use lettre::transport::smtp::Error as SmtpError;
use tokio::time::{Instant, error::Elapsed, timeout_at};

use super::{
    channel::{Channel, Trouble},
    reply::RawReply,
};
use crate::transport::outcome::{DeliveryError, Reply, Stage};

/// Leads `step` over `channel` until `deadline`. A refusal decides, whatever else has happened.
pub(super) async fn lead<T>(
    channel: &Channel,
    deadline: Instant,
    stage: Stage,
    step: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, DeliveryError> {
    begin(channel, stage)?;
    ended(channel, stage, timeout_at(deadline, step).await)
}

/// Begins a step.
pub(super) fn begin(channel: &Channel, stage: Stage) -> Result<(), DeliveryError> {
    channel.begin().map_err(|trouble| refusal(channel, stage).unwrap_or_else(|| broken(stage, trouble)))
}

/// What the end of a step means.
pub(super) fn ended<T>(
    channel: &Channel,
    stage: Stage,
    result: Result<Result<T, SmtpError>, Elapsed>,
) -> Result<T, DeliveryError> {
    match (result, refusal(channel, stage)) {
        (Ok(Ok(done)), _) => Ok(done),
        (_, Some(refusal)) => Err(refusal),
        (Err(_), None) => Err(DeliveryError::TimedOut { stage }),
        (Ok(Err(error)), None) => Err(match channel.trouble() {
            Some(trouble) => broken(stage, trouble),
            // The connection works, and lettre does not go on: no login that both sides know.
            None => no_session(stage, error.to_string()),
        }),
    }
}

/// The reply of this step, if its class (the first digit) is the one that belongs there.
pub(super) fn expect(channel: &Channel, stage: Stage, class: u8) -> Result<Reply, DeliveryError> {
    if let Some(refusal) = refusal(channel, stage) {
        return Err(refusal);
    }
    match channel.reply() {
        Some(reply) if reply.class() == class => Ok(reply.readable()),
        Some(reply) => {
            Err(DeliveryError::Nonsense { stage, cause: format!("{} where {class}xx belongs", reply.code()) })
        }
        None => Err(DeliveryError::Nonsense { stage, cause: "no reply".to_owned() }),
    }
}

/// What a refusal in this step means.
pub(super) fn refusal(channel: &Channel, stage: Stage) -> Option<DeliveryError> {
    let raw = channel.reply().filter(RawReply::is_negative)?;
    let reply = raw.readable();
    Some(match (raw.class(), stage) {
        (5, Stage::Session) => DeliveryError::SessionRefused { reply },
        (5, _) => DeliveryError::Refused { stage, reply },
        _ => DeliveryError::Deferred { stage, reply },
    })
}

fn broken(stage: Stage, trouble: Trouble) -> DeliveryError {
    match trouble {
        Trouble::Nonsense(cause) => DeliveryError::Nonsense { stage, cause: cause.to_owned() },
        Trouble::Closed => no_session(stage, "it was closed without a reply".to_owned()),
        Trouble::Broken(cause) => no_session(stage, format!("network error: {cause}")),
    }
}

fn no_session(stage: Stage, cause: String) -> DeliveryError {
    if stage == Stage::Session { DeliveryError::Unreachable { cause } } else { DeliveryError::Lost { stage, cause } }
}
