//! The plain form: one message, sent while its client waits.
//!
//! It keeps every promise of the others: the message is on disk before the SMTP server hears of it, with its record and
//! its key; nothing goes to an address on the suppression list. And it keeps one of its own: the answer comes when the
//! server has the message, or it is certain that it will not get it from us. So each message is tried once, by the
//! instance that accepted it ([`crate::outbox::store::immediate`]):
//!
//! | what happens | the client gets | the record |
//! |---|---|---|
//! | the server takes it | 200 | delivered |
//! | the server refuses it, or cannot be reached | that, see [`crate::error`]; nothing is sent later | failed |
//! | the outbox cannot be used | 503: nothing was sent | none |
//! | the client leaves | nothing; the attempt goes on | as it ends |
//! | the same key comes meanwhile | waits, and gets the same | one |
//! | the outcome comes after the deadline | 504 with the Message-ID | as it ends |
//! | the instance is killed | nothing; the same key finds the message | see there |

pub mod direct_sender;
mod mail_request;

use std::{sync::Arc, time::Duration};

use lettre::address::Envelope;
use service_kit::{request, time::UnixMillis};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::{
    message::{Message, MessageId},
    outbox::{
        Outbox, OutboxError,
        store::{
            entry::{Accepted, NewMessage, OwnClaim},
            immediate::{MessageStatus, OwnDelivery},
        },
    },
    transport::outcome::DeliveryError,
};

pub use mail_request::{MailRequest, TEXT_MAX_BYTES, compose};

use direct_sender::{DirectSender, Reservation};

/// How long a claim outlives the longest attempt, so that an outcome can still be written down.
const CLAIM_MARGIN: Duration = Duration::from_secs(5);
/// How long an answer waits for its outcome to be on disk, which the answer does not depend on.
const RECORD_WAIT: Duration = Duration::from_millis(500);
/// How often a request looks whether the one with the same key has ended.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// Sends; cheap to clone.
#[derive(Debug, Clone)]
pub struct Plain {
    /// Where messages are kept.
    pub outbox: Outbox,
    /// Hands them over.
    pub direct_sender: Arc<DirectSender>,
    /// Attempts that go on when their clients leave.
    pub tasks: TaskTracker,
}

/// How it ended.
#[derive(Debug)]
pub struct SendResult {
    /// The message's.
    pub message_id: MessageId,
    /// How.
    pub outcome: SendOutcome,
    /// Whether the message had been accepted before.
    pub replayed: bool,
}

/// How it ended, for the client.
#[derive(Debug)]
pub enum SendOutcome {
    /// The server has it.
    Sent,
    /// It has not, or perhaps.
    Failed(DeliveryError),
    /// The same, by the record.
    Recorded {
        /// See [`DeliveryError::code`].
        outcome: String,
        /// The server's words, or ours.
        reply: String,
    },
    /// Its address is on the suppression list; nothing was sent.
    Suppressed,
    /// It was cancelled before it was sent.
    Cancelled,
    /// It is being sent, and the deadline has passed.
    UnderWay,
    /// It was accepted, and its record is not kept any more.
    Forgotten,
}

impl Plain {
    /// Takes `message` in and sends it. It goes on when the caller leaves.
    ///
    /// # Errors
    /// The outbox cannot be used, and nothing was sent.
    pub async fn send(
        &self,
        message: NewMessage,
        reservation: Reservation,
        until: Instant,
    ) -> Result<SendResult, OutboxError> {
        let plain = self.clone();
        let message_id = message.message_id.clone();
        let claim = self.claim(until);
        let message = Arc::new(NewMessage { expires: claim.expires(), claim: Some(claim.clone()), ..message });
        self.finish(message_id, until, async move { plain.accept_and_send(message, claim, reservation, until).await })
            .await
    }

    /// Answers a request that was accepted before, and resumes it. Without a reservation it neither waits nor sends.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn resume(
        &self,
        accepted: Accepted,
        reservation: Option<Reservation>,
        until: Instant,
    ) -> Result<SendResult, OutboxError> {
        let plain = self.clone();
        let claim = self.claim(until);
        let message_id = MessageId::stored(accepted.message_id.clone());
        self.finish(message_id, until, async move { plain.resume_accepted(&accepted, claim, reservation, until).await })
            .await
    }

    /// The attempt is a task of its own: neither a client who leaves nor a deadline that passes loses its outcome.
    async fn finish(
        &self,
        message_id: MessageId,
        until: Instant,
        attempt: impl Future<Output = Result<SendResult, OutboxError>> + Send + 'static,
    ) -> Result<SendResult, OutboxError> {
        let attempt = self.tasks.spawn(request::continuing(attempt));
        // A moment more than the attempt has.
        match tokio::time::timeout_at(until + RECORD_WAIT, attempt).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Err(OutboxError::Unavailable { reason: format!("the attempt ended early: {error}") }),
            Err(_) => Ok(SendResult { message_id, outcome: SendOutcome::UnderWay, replayed: false }),
        }
    }

    /// Lets attempts end whose clients have left, for `grace` at most. New ones must not begin any more.
    pub async fn finish_within(&self, grace: Duration) {
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                under_way = self.tasks.len(),
                "stopped with messages under way; their delivery outcome is unknown"
            );
        }
    }

    fn claim(&self, until: Instant) -> OwnClaim {
        OwnClaim::new(UnixMillis::now() + until.saturating_duration_since(Instant::now()) + CLAIM_MARGIN)
    }

    async fn accept_and_send(
        &self,
        message: Arc<NewMessage>,
        claim: OwnClaim,
        reservation: Reservation,
        until: Instant,
    ) -> Result<SendResult, OutboxError> {
        let result = self.outbox.accept(Arc::clone(&message)).await?;
        if result.replayed {
            return self.resume_accepted(&result.accepted, claim, Some(reservation), until).await;
        }
        let outcome = match (result.accepted.recipients, result.delivery) {
            (0, _) | (_, None) => SendOutcome::Suppressed,
            (_, Some(delivery)) => {
                self.hand_over(OwnDelivery::new(delivery, &claim), addressed(&message), Some(reservation), until).await
            }
        };
        Ok(SendResult { message_id: message.message_id.clone(), outcome, replayed: false })
    }

    async fn resume_accepted(
        &self,
        accepted: &Accepted,
        claim: OwnClaim,
        reservation: Option<Reservation>,
        until: Instant,
    ) -> Result<SendResult, OutboxError> {
        let waits_until = if reservation.is_some() { until } else { Instant::now() };
        let (outcome, replayed) = match self.settled_or_claimed(&accepted.id, &claim, waits_until).await? {
            MessageStatus::Claimed(own) => {
                let message = self.outbox.stored_message(&accepted.id).await;
                (self.hand_over(own, message, reservation, until).await, false)
            }
            MessageStatus::Delivered => (SendOutcome::Sent, true),
            MessageStatus::Failed { outcome, reply } => (SendOutcome::Recorded { outcome, reply }, true),
            MessageStatus::Suppressed => (SendOutcome::Suppressed, true),
            MessageStatus::Cancelled => (SendOutcome::Cancelled, true),
            MessageStatus::UnderWay => (SendOutcome::UnderWay, true),
            MessageStatus::Forgotten => (SendOutcome::Forgotten, true),
        };
        Ok(SendResult { message_id: MessageId::stored(accepted.message_id.clone()), outcome, replayed })
    }

    /// Waits while another request sends the message, as long as there is time.
    async fn settled_or_claimed(
        &self,
        id: &str,
        claim: &OwnClaim,
        until: Instant,
    ) -> Result<MessageStatus, OutboxError> {
        loop {
            match self.outbox.take_over(id, claim, UnixMillis::now()).await? {
                MessageStatus::UnderWay if Instant::now() + LOOKS_EVERY < until => sleep(LOOKS_EVERY).await,
                status => return Ok(status),
            }
        }
    }

    async fn hand_over(
        &self,
        own: OwnDelivery,
        message: Result<Message, DeliveryError>,
        reservation: Option<Reservation>,
        until: Instant,
    ) -> SendOutcome {
        let at = UnixMillis::now();
        let recipient = message.as_ref().ok().and_then(|message| message.envelope().to().first()).cloned();
        let result = match (message, reservation) {
            (Ok(message), Some(reservation)) => self.direct_sender.send(&message, reservation, until).await,
            (Ok(_), None) => Err(DeliveryError::Busy),
            (Err(error), _) => Err(error),
        };
        let outbox = self.outbox.clone();
        let written = result.clone();
        let writing = self.tasks.spawn(async move { outbox.conclude(own, recipient, at, &written).await });
        let _written_later = timeout(RECORD_WAIT, writing).await;
        match result {
            Ok(_) => SendOutcome::Sent,
            Err(error) => SendOutcome::Failed(error),
        }
    }
}

/// The message, to its one recipient.
fn addressed(message: &NewMessage) -> Result<Message, DeliveryError> {
    let damaged = || DeliveryError::Unreadable { cause: "its addresses are damaged".to_owned() };
    let address = |text: &str| text.parse().map_err(|_| damaged());
    let recipients = message.recipients.iter().map(|(_, recipient)| address(recipient)).collect::<Result<_, _>>()?;
    let envelope = Envelope::new(Some(address(&message.sender)?), recipients).map_err(|_| damaged())?;
    Ok(Message::stored(message.message_id.clone(), envelope, message.content.clone()))
}
