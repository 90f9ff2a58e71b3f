//! The one table from failures to answers.
//!
//! | status | code | what to do |
//! |---|---|---|
//! | 502 | `smtp_refused` | nothing: the server refuses this message for good, and says why |
//! | 502 | `smtp_too_large` | send less: the server takes no message of that size |
//! | 502 | `smtp_session_refused` | repair the configuration of this service: the server refuses it, not the message |
//! | 502 | `smtp_nonsense` | look at the SMTP server |
//! | 503 | `smtp_deferred` | send it again after `Retry-After` |
//! | 503 | `smtp_unreachable`, `smtp_connection_lost` | the same: nothing was delivered |
//! | 503 | `storage_full`, `storage_failed` | the same, when there is room in the folder |
//! | 503 | `busy` | the same, soon |
//! | 504 | `smtp_timeout` | send it again later: nothing was delivered |
//! | 504 | `outcome_unknown` | send it again with the same `Idempotency-Key`; without one, that may make a duplicate |

use std::{io, time::Duration};

use axum::http::StatusCode;
use discovery::FieldError;
use service_kit::Problem;

use crate::{
    message::{MessageId, composer::ComposeError},
    outbox::OutboxError,
    templates::FillError,
    transport::outcome::{DeliveryError, Verdict, is_full},
};

/// When to try again after a 4xx. Greylisting takes minutes, an overloaded server seconds.
const DEFERRED_RETRY: Duration = Duration::from_secs(60);
/// When to try again after the server or the folder could not be used.
const DOWN_RETRY: Duration = Duration::from_secs(10);
/// When to try again while others are being sent.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When to retry while the outbox, or the folder for large messages, cannot be used.
const OUTBOX_RETRY: Duration = Duration::from_secs(5);
/// When to retry while templates cannot be filled.
const FILL_RETRY: Duration = Duration::from_secs(2);

/// The answer to a request whose message was not, or not for certain, handed over.
#[must_use]
pub fn problem(error: &DeliveryError, id: &MessageId) -> Problem {
    let code = error.code();
    match error {
        DeliveryError::Refused { stage, reply } => {
            let detail = format!("the SMTP server refused the message at {stage}: {}", reply.for_caller());
            Problem::new(StatusCode::BAD_GATEWAY, code, detail)
        }
        DeliveryError::SessionRefused { reply } => {
            let detail = format!("the SMTP server refused to talk to this service: {}", reply.for_caller());
            Problem::new(StatusCode::BAD_GATEWAY, code, detail)
        }
        DeliveryError::Nonsense { .. } | DeliveryError::TooLarge { .. } => {
            Problem::new(StatusCode::BAD_GATEWAY, code, format!("{error}; nothing was delivered"))
        }
        DeliveryError::Deferred { stage, reply } => {
            let detail = format!("the SMTP server asks to try again later at {stage}: {}", reply.for_caller());
            Problem::unavailable(code, detail, DEFERRED_RETRY)
        }
        DeliveryError::Unreachable { .. } | DeliveryError::Lost { .. } | DeliveryError::Unreadable { .. } => {
            Problem::unavailable(code, format!("{error}; nothing was delivered"), DOWN_RETRY)
        }
        DeliveryError::Store { source } => {
            Problem::unavailable(code, format!("{error}: {source}; nothing is kept of it"), DOWN_RETRY)
        }
        DeliveryError::Busy => busy(),
        DeliveryError::TimedOut { .. } => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, code, format!("{error}; nothing was delivered"))
        }
        DeliveryError::Unknown { .. } => {
            let detail = format!("{error}; if it was, it carries the Message-ID {id}");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, code, detail)
        }
    }
}

/// The answer to a request that would wait too long.
#[must_use]
pub fn busy() -> Problem {
    let error = DeliveryError::Busy;
    Problem::unavailable(error.code(), format!("{error}; nothing was sent"), BUSY_RETRY)
}

/// The answer to a request that comes again, by the record of the attempt: its [`code`](DeliveryError::code), and the
/// server's words, or ours.
#[must_use]
pub fn recorded(code: &str, reply: &str, id: &MessageId) -> Problem {
    let code = code.to_owned();
    match DeliveryError::verdict_of(&code) {
        Verdict::Permanent => {
            let detail = format!("the SMTP server refused the message: {reply}");
            Problem::new(StatusCode::BAD_GATEWAY, code, detail)
        }
        Verdict::Temporary => Problem::unavailable(code, format!("{reply}; nothing was delivered"), DOWN_RETRY),
        Verdict::Unknown => {
            let detail = format!("{reply}; if it was delivered, it carries the Message-ID {id}");
            Problem::new(StatusCode::GATEWAY_TIMEOUT, code, detail)
        }
    }
}

/// The answer when the outbox could not do what a request asks for.
pub(crate) fn outbox_problem(error: &OutboxError) -> Problem {
    let code = error.code();
    match error {
        OutboxError::Full => {
            let detail = "the outbox's disk is full; this request changed nothing";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, code, detail).retry_after(OUTBOX_RETRY)
        }
        OutboxError::Silent => {
            let detail = "the outbox did not answer in time; the change may have been made all the same";
            Problem::unavailable(code, detail, OUTBOX_RETRY)
        }
        OutboxError::Unavailable { .. } | OutboxError::Folder { .. } | OutboxError::Contended => {
            tracing::warn!(error = %service_kit::chain(error), "a request failed because of the outbox");
            Problem::unavailable(code, "the outbox cannot be used now", OUTBOX_RETRY)
        }
        OutboxError::KeyReused => {
            let detail = "this Idempotency-Key came with another body before; use a new key for a new message";
            Problem::new(StatusCode::CONFLICT, code, detail)
        }
        OutboxError::Suppressed => {
            let detail =
                "every recipient is on the suppression list, so nothing was accepted; GET /v1/suppressions says why";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
        }
        OutboxError::NotFound => Problem::new(StatusCode::NOT_FOUND, code, "nothing has this id or name"),
        OutboxError::Conflict { reason } => Problem::new(StatusCode::CONFLICT, code, *reason),
    }
}

/// The folder for large messages cannot be used; the request was not accepted.
pub(crate) fn spool_problem(error: &io::Error) -> Problem {
    if is_full(error) {
        let detail = "the disk for large messages is full; this request was not accepted";
        return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "spool_full", detail).retry_after(OUTBOX_RETRY);
    }
    tracing::warn!(%error, "the folder for large messages (--spool-dir) cannot be used");
    let detail = "the folder for large messages cannot be used; this request was not accepted";
    Problem::unavailable("spool_unavailable", detail, OUTBOX_RETRY)
}

/// The answer to a request whose field is invalid.
pub(crate) fn invalid(error: FieldError) -> Problem {
    Problem::field(error.field, error.reason)
}

/// The answer when a template could not be filled.
pub(crate) fn fill_problem(error: FillError) -> Problem {
    match error {
        FillError::Field(error) => invalid(error),
        FillError::Unavailable { .. } => {
            Problem::unavailable("templates_unavailable", format!("{error}; nothing was changed"), FILL_RETRY)
        }
    }
}

/// The answer when a message could not be composed.
pub(crate) fn compose_problem(error: ComposeError) -> Problem {
    match error {
        ComposeError::Field(error) => invalid(error),
        ComposeError::Spool(error) => spool_problem(&error),
        ComposeError::Unsigned => Problem::internal(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::transport::outcome::{Reply, Stage};

    use super::*;

    #[test]
    fn statuses_say_whose_turn_it_is() {
        let id = MessageId::new(&"muster@example.com".parse().unwrap());
        let stage = Stage::Recipient;
        let reply = || Reply::new(550, "no");
        let cause = || "x".to_owned();
        for (error, status, retries) in [
            (DeliveryError::Refused { stage, reply: reply() }, 502, false),
            (DeliveryError::TooLarge { bytes: 2, max_bytes: 1 }, 502, false),
            (DeliveryError::SessionRefused { reply: reply() }, 502, false),
            (DeliveryError::Nonsense { stage, cause: cause() }, 502, false),
            (DeliveryError::Deferred { stage, reply: reply() }, 503, true),
            (DeliveryError::Unreachable { cause: cause() }, 503, true),
            (DeliveryError::Lost { stage, cause: cause() }, 503, true),
            (DeliveryError::Unreadable { cause: cause() }, 503, true),
            (DeliveryError::Store { source: Arc::new(std::io::ErrorKind::StorageFull.into()) }, 503, true),
            (DeliveryError::Busy, 503, true),
            (DeliveryError::TimedOut { stage }, 504, false),
            (DeliveryError::Unknown { cause: cause() }, 504, false),
        ] {
            let problem = problem(&error, &id);
            assert_eq!((problem.status.as_u16(), problem.retry_after.is_some()), (status, retries), "{error}");
            assert_eq!(problem.detail.contains(&id.to_string()), matches!(error, DeliveryError::Unknown { .. }));
        }
    }
}
