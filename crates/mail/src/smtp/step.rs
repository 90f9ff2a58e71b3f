//! One step of a conversation: bounded in time, and with our errors instead of lettre's.

use std::future::Future;

use lettre::transport::smtp::{
    Error as SmtpError,
    response::{Response, Severity},
};
use tokio::time::{Instant, timeout_at};

use crate::delivery::{DeliveryError, Reply, Stage};

/// Waits for `step` until `deadline`.
pub(super) async fn within<T>(
    deadline: Instant,
    stage: Stage,
    step: impl Future<Output = Result<T, SmtpError>>,
) -> Result<T, DeliveryError> {
    match timeout_at(deadline, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(classify(stage, &error)),
        Err(_) => Err(DeliveryError::TimedOut { stage }),
    }
}

/// The one place that knows what lettre's errors mean.
fn classify(stage: Stage, error: &SmtpError) -> DeliveryError {
    let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if let Some(code) = error.status() {
        let reply = Reply::new(code.into(), &text);
        return match (error.is_permanent(), stage) {
            (true, Stage::Session) => DeliveryError::SessionRefused { reply },
            (true, _) => DeliveryError::Refused { stage, reply },
            (false, _) => DeliveryError::Deferred { stage, reply },
        };
    }
    if error.is_response() && text != END_OF_STREAM {
        return DeliveryError::Nonsense { stage, cause: "not a reply as RFC 5321 defines them".to_owned() };
    }
    let cause = if error.is_response() { "it was closed without a reply".to_owned() } else { error.to_string() };
    if stage == Stage::Session { DeliveryError::Unreachable { cause } } else { DeliveryError::Lost { stage, cause } }
}

/// lettre's words for the end of the stream where a reply should be; it files them under bad replies.
const END_OF_STREAM: &str = "incomplete response";

/// Whether a positive reply is of the kind that belongs here; otherwise what is wrong with it.
pub(super) fn expect(expected: Severity, response: &Response) -> Result<(), String> {
    let code = response.code();
    if code.severity == expected { Ok(()) } else { Err(format!("{code} where {expected}xx belongs")) }
}
