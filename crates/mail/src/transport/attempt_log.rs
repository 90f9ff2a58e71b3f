//! How attempts end, for operators: one line each, without addresses, text, or the server's words, which repeat
//! addresses.

use super::outcome::{DeliveryError, Verdict};
use crate::message::Message;

/// Logs how an attempt to deliver `message` ended. A refusal is the sender's concern and logged at `debug`.
pub(crate) fn log_attempt<T>(message: &Message, result: &Result<T, DeliveryError>) {
    let message_id = message.id();
    let Err(error) = result else {
        tracing::debug!(%message_id, "message sent");
        return;
    };
    let outcome = error.code();
    let verdict = error.verdict();
    let error = service_kit::chain(error);
    match verdict {
        Verdict::Permanent => tracing::debug!(%message_id, outcome, %error, "message not sent"),
        Verdict::Temporary => tracing::warn!(%message_id, outcome, %error, "message not sent"),
        Verdict::Unknown => tracing::warn!(%message_id, outcome, %error, "delivery outcome unknown"),
    }
}
