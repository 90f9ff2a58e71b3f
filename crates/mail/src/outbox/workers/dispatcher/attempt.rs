//! One attempt: a message to its recipients at one domain, and for each of them a record of its own.

use std::sync::Arc;

use futures::future::join_all;
use lettre::{Address, address::Envelope};
use service_kit::time::UnixMillis;
use tokio::time::Instant;

use super::Dispatcher;
use crate::{
    message::{Message, MessageId},
    outbox::store::{
        Outbox,
        entry::{AttemptRecord, Claimed, Next},
    },
    transport::{
        attempt_log::log_attempt,
        deadlines::StepDeadlines,
        outcome::{DeliveryError, Outcome, Reply},
    },
};

/// An attempt that was written down.
pub(super) struct Finished {
    pub(super) deliveries: Vec<i64>,
    pub(super) domain: String,
    /// The server could not be reached.
    pub(super) is_unreachable: bool,
}

/// When an attempt began.
#[derive(Clone, Copy)]
struct Began {
    at: UnixMillis,
    started: Instant,
}

/// Hands over what was claimed of one message for one domain, and writes down how it ended for each recipient.
pub(super) async fn attempt(dispatcher: Dispatcher, claim: String, together: Vec<Claimed>) -> Finished {
    let began = Began { at: UnixMillis::now(), started: Instant::now() };
    // A conversation has a large state, which a task would be moved with.
    let outcomes = Box::pin(hand_over(&dispatcher, &together)).await;
    // Another instance, or process, may hold the other connections: then nothing stands still but this message.
    let is_unreachable = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).any(is_unreachable);
    let some_were_taken = outcomes.iter().any(Result::is_ok);
    let settling = together.iter().zip(&outcomes).map(|(claimed, outcome)| {
        let record = record(&dispatcher, &claim, began, claimed, outcome, some_were_taken);
        dispatcher.outbox.record_attempt(Arc::new(record))
    });
    join_all(settling).await;
    let deliveries = together.iter().map(|claimed| claimed.delivery).collect();
    let domain = together.into_iter().next().map(|claimed| claimed.domain).unwrap_or_default();
    Finished { deliveries, domain, is_unreachable }
}

/// Busy means that our own connections are, and says nothing about the server.
fn is_unreachable(error: &DeliveryError) -> bool {
    error.is_about_the_session() && !matches!(error, DeliveryError::Busy)
}

/// How it ended for each, in their order.
async fn hand_over(dispatcher: &Dispatcher, together: &[Claimed]) -> Vec<Outcome> {
    let mut measured: Vec<_> = together.iter().map(|_| dispatcher.metrics.start()).collect();
    let outcomes = match message(&dispatcher.outbox, together).await {
        Ok(message) => {
            measured.iter_mut().for_each(|measured| measured.its_turn());
            let options = dispatcher.options;
            let deadlines = StepDeadlines::by_step(options.step_max, options.patience);
            let outcomes = dispatcher.transport.deliver(&message, deadlines).await;
            for outcome in &outcomes {
                dispatcher.health.note(outcome);
                log_attempt(&message, outcome);
            }
            outcomes
        }
        Err(error) => {
            let message_id = together.first().map(|claimed| claimed.message_id.as_str());
            tracing::warn!(message_id, %error, "a message of the outbox cannot be read");
            vec![Err(error); together.len()]
        }
    };
    measured.iter_mut().zip(&outcomes).for_each(|(measured, outcome)| measured.ended(outcome));
    outcomes
}

/// The stored message, addressed to these of its recipients.
async fn message(outbox: &Outbox, together: &[Claimed]) -> Result<Message, DeliveryError> {
    let damaged = || DeliveryError::Unreadable { cause: "its addresses are damaged".to_owned() };
    let address = |text: &str| text.parse::<Address>().map_err(|_| damaged());
    let first = together.first().ok_or_else(damaged)?;
    let recipients = together.iter().map(|claimed| address(&claimed.recipient)).collect::<Result<Vec<_>, _>>()?;
    let envelope = Envelope::new(Some(address(&first.sender)?), recipients).map_err(|_| damaged())?;
    let content = outbox.gather(&first.content).await;
    let content =
        content.map_err(|error| DeliveryError::Unreadable { cause: service_kit::chain(&error).to_string() })?;
    Ok(Message::stored(MessageId::stored(first.message_id.clone()), envelope, content.clone()))
}

fn record(
    dispatcher: &Dispatcher,
    claim: &str,
    began: Began,
    claimed: &Claimed,
    outcome: &Outcome,
    some_were_taken: bool,
) -> AttemptRecord {
    let attempts = claimed.attempts.saturating_add(1);
    let next = match outcome {
        Ok(_) => Next::Delivered,
        // The others were taken, so it goes with the next transaction.
        Err(error) if some_were_taken && error.is_too_many_recipients() => Next::Postponed,
        Err(error) => {
            dispatcher.options.schedule.next(error, attempts, UnixMillis::now(), claimed.expires, rand::random::<f64>())
        }
    };
    let is_bounced = outcome.as_ref().is_err_and(DeliveryError::is_hard_bounce);
    AttemptRecord {
        delivery: claimed.delivery,
        claim: claim.to_owned(),
        at: began.at,
        took_ms: i64::try_from(began.started.elapsed().as_millis()).unwrap_or(i64::MAX),
        outcome: outcome.as_ref().map_or_else(DeliveryError::code, |_| "sent"),
        reply: outcome.as_ref().map_or_else(DeliveryError::for_caller, Reply::for_caller),
        bounced: is_bounced.then(|| claimed.recipient.clone()),
        next,
    }
}
