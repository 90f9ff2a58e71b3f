//! Messages that are sent while their client waits: accepted with a claim, sent by the instance that accepted them.
//!
//! They are in the outbox like all others, with their record, and the suppression list counts; but no worker claims
//! them. An attempt that fails settles them: the client gets the error, and sends the message again if it wants to, so
//! nothing is sent after the client has given up. A request that is repeated with the same key resumes the same message
//! ([`Outbox::take_over`]).
//!
//! | the message | what a repeated request does |
//! |---|---|
//! | delivered, refused for good, of unknown outcome | is answered the same |
//! | failed for the moment | tries it once more |
//! | withheld, and its address is not on the list any more | tries it |
//! | is being sent by another request | waits for that |
//! | was being sent by an instance that was killed | retries it after its claim: at least once, same Message-ID |
//!
//! One that an instance left behind and that is not asked for again is settled as of unknown outcome when it expires.

use std::sync::Arc;

use lettre::{Address, address::Envelope};
use service_kit::time::UnixMillis;

use super::{
    Outbox, OutboxError,
    entry::{AttemptRecord, Next, OwnClaim, State, Stored},
    events::{self, EventKind, Kinds},
    sql::{Connection, query},
    suppression::{self, Stream},
};
use crate::{
    message::{Message, MessageId},
    transport::outcome::{DeliveryError, Reply, Verdict},
};

/// How these messages are marked in `deliveries.bulk`, where workers look for 0 (single) and 1 (broadcasts).
pub(super) const IMMEDIATE: i64 = 2;

/// The outcome of what a killed instance left behind: it may have been delivered.
const UNKNOWN: &str = "outcome_unknown";
/// How many of them are settled in one transaction.
const EXPIRED_TOGETHER: u32 = 100;
const LEFT_BEHIND: &str = "the instance that was sending it ended before the outcome was known";

/// A delivery that this instance has claimed for its client.
#[derive(Debug)]
pub struct OwnDelivery {
    delivery: i64,
    claim: String,
}

/// The status of a message that was accepted before.
#[derive(Debug)]
pub enum MessageStatus {
    /// It is ours to send now.
    Claimed(OwnDelivery),
    /// The server has it.
    Delivered,
    /// It will not be sent.
    Failed {
        /// See [`DeliveryError::code`].
        outcome: String,
        /// The server's words, or ours.
        reply: String,
    },
    /// Its address is on the suppression list.
    Suppressed,
    /// It was cancelled.
    Cancelled,
    /// Another request, or a worker, has it.
    UnderWay,
    /// Its record is not kept any more.
    Forgotten,
}

type Row = (i64, String, i64, String, String, String, i64);

impl OwnDelivery {
    /// The delivery that was accepted with this claim.
    pub(crate) fn new(delivery: i64, claim: &OwnClaim) -> Self {
        Self { delivery, claim: claim.claim.clone() }
    }
}

impl Outbox {
    /// How it stands with the message `id`; if it is to be sent, it is claimed.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn take_over(&self, id: &str, claim: &OwnClaim, now: UnixMillis) -> Result<MessageStatus, OutboxError> {
        let id = id.to_owned();
        let claim = claim.clone();
        let lock = self.database.target().lock();
        let kinds = self.kinds;
        let taking = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT id, recipient, bulk, state, outcome, reply, claimed_until_ms FROM deliveries \
                     WHERE message = ? LIMIT 1{lock}"
                );
                let row: Option<Row> = query(sql).bind(&id).fetch_optional(&mut *connection).await?;
                let Some(row) = row else { return Ok(MessageStatus::Forgotten) };
                let delivery = row.0;
                let recipient = row.1.clone();
                let was_withheld = row.3 == State::Suppressed.as_str();
                if let Some(status) = status(row, now) {
                    return Ok(status);
                }
                // Its address may have come onto the list since the message was accepted, or have been taken off it.
                let stopped = suppression::among(connection, &[&recipient], Stream::Transactional).await?;
                match stopped.into_values().next() {
                    None => claim_one(connection, delivery, &claim).await,
                    Some(_) if was_withheld => Ok(MessageStatus::Suppressed),
                    Some(reason) => {
                        suppression::mark_suppressed(connection, delivery, &reason, now, kinds).await?;
                        Ok(MessageStatus::Suppressed)
                    }
                }
            })
        }));
        taking.await
    }

    /// The message as it was accepted, addressed to its recipient.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn stored_message(&self, id: &str) -> Result<Message, DeliveryError> {
        let unreadable = |cause: String| DeliveryError::Unreadable { cause };
        let row =
            self.stored_row(id.to_owned()).await.map_err(|error| unreadable(service_kit::chain(&error).to_string()))?;
        let Some((message_id, sender, recipient, content)) = row else {
            return Err(unreadable("it is not kept any more".to_owned()));
        };
        let address =
            |text: &str| text.parse::<Address>().map_err(|_| unreadable("its addresses are damaged".to_owned()));
        let envelope = Envelope::new(Some(address(&sender)?), vec![address(&recipient)?])
            .map_err(|_| unreadable("its addresses are damaged".to_owned()))?;
        let stored = Stored::new(id, content);
        let content = self.gather(&stored).await.map_err(|error| unreadable(service_kit::chain(&error).to_string()))?;
        Ok(Message::stored(MessageId::stored(message_id), envelope, content.clone()))
    }

    async fn stored_row(&self, id: String) -> Result<Option<(String, String, String, Vec<u8>)>, OutboxError> {
        let reading = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let query = query(
                    "SELECT m.message_id, m.sender, d.recipient, m.content FROM messages m \
                     JOIN deliveries d ON d.message = m.id WHERE m.id = ? LIMIT 1",
                );
                query.bind(id).fetch_optional(connection).await
            })
        }));
        reading.await
    }

    /// Writes down how the attempt ended, again and again until it is written: what was delivered must not be sent once
    /// more. Where the server says that there is no such address, `recipient` goes on the suppression list.
    pub(crate) async fn conclude(
        &self,
        own: OwnDelivery,
        recipient: Option<Address>,
        at: UnixMillis,
        result: &Result<Reply, DeliveryError>,
    ) {
        let took = UnixMillis::now().since(at).as_millis();
        let record = AttemptRecord {
            delivery: own.delivery,
            claim: own.claim,
            at,
            took_ms: i64::try_from(took).unwrap_or(i64::MAX),
            outcome: result.as_ref().map_or_else(DeliveryError::code, |_| "sent"),
            reply: result.as_ref().map_or_else(DeliveryError::for_caller, Reply::for_caller),
            bounced: recipient
                .filter(|_| result.as_ref().is_err_and(DeliveryError::is_hard_bounce))
                .map(|one| one.to_string()),
            next: if result.is_ok() { Next::Delivered } else { Next::Failed },
        };
        self.record_attempt(Arc::new(record)).await;
    }

    /// Settles what instances left behind and nothing asks for any more. Says how many there were.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn expire_immediate(&self, now: UnixMillis) -> Result<u64, OutboxError> {
        let lock = self.database.target().for_update();
        let kinds = self.kinds;
        let mut expired = 0;
        loop {
            let expiring = self.database.write(Box::new(move |connection| {
                Box::pin(async move { expire_some(connection, now, lock, kinds).await })
            }));
            match expiring.await? {
                0 => return Ok(expired),
                some => expired += some,
            }
        }
    }

    /// Whether there is something for [`expire_immediate`](Self::expire_immediate), which costs a write.
    pub(in crate::outbox) async fn has_left_behind(&self, now: UnixMillis) -> Result<bool, OutboxError> {
        const SQL: &str = "SELECT COUNT(*) FROM deliveries WHERE state = 'queued' AND bulk = ? AND expires_ms <= ?";
        let looking = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let count: i64 = query(SQL).bind(IMMEDIATE).bind(now.0).fetch_one(connection).await?;
                Ok(count > 0)
            })
        }));
        looking.await
    }
}

async fn expire_some(
    connection: &mut Connection,
    now: UnixMillis,
    lock: &str,
    kinds: Kinds,
) -> Result<u64, OutboxError> {
    const UPDATE: &str = "UPDATE deliveries SET state = 'failed', settled_ms = ?, claim = '', outcome = ?, reply = ? \
                          WHERE id = ?";
    let select = format!(
        "SELECT id FROM deliveries WHERE state = 'queued' AND bulk = ? AND expires_ms <= ? AND claimed_until_ms <= ? \
         LIMIT {EXPIRED_TOGETHER}{lock}"
    );
    let select = query(select).bind(IMMEDIATE).bind(now.0).bind(now.0);
    let left: Vec<i64> = select.fetch_all(&mut *connection).await?;
    for delivery in &left {
        let update = query(UPDATE).bind(now.0).bind(UNKNOWN).bind(LEFT_BEHIND);
        update.bind(*delivery).execute(&mut *connection).await?;
        events::of_delivery(connection, *delivery, EventKind::Failed, UnixMillis::now(), kinds).await?;
    }
    Ok(u64::try_from(left.len()).unwrap_or(u64::MAX))
}

/// How it stands, unless it may be claimed.
fn status((_, _, bulk, state, outcome, reply, claimed_until): Row, now: UnixMillis) -> Option<MessageStatus> {
    let is_immediate = bulk == IMMEDIATE;
    match State::parse(&state) {
        Some(State::Delivered) => Some(MessageStatus::Delivered),
        Some(State::Suppressed) if is_immediate => None,
        Some(State::Suppressed) => Some(MessageStatus::Suppressed),
        Some(State::Cancelled) => Some(MessageStatus::Cancelled),
        Some(State::Queued | State::Sending) if is_immediate && UnixMillis(claimed_until) <= now => None,
        Some(State::Queued | State::Sending) => Some(MessageStatus::UnderWay),
        Some(State::Failed) if is_immediate && may_be_tried_again(&outcome) => None,
        Some(State::Failed) | None => Some(MessageStatus::Failed { outcome, reply }),
    }
}

fn may_be_tried_again(outcome: &str) -> bool {
    DeliveryError::verdict_of(outcome) == Verdict::Temporary
}

async fn claim_one(connection: &mut Connection, delivery: i64, claim: &OwnClaim) -> Result<MessageStatus, OutboxError> {
    query(
        "UPDATE deliveries SET state = 'queued', settled_ms = 0, claim = ?, claimed_until_ms = ?, expires_ms = ? WHERE id = ?",
    )
    .bind(&claim.claim)
    .bind(claim.until.0)
    .bind(claim.expires().0)
    .bind(delivery)
    .execute(connection)
    .await?;
    Ok(MessageStatus::Claimed(OwnDelivery::new(delivery, claim)))
}
