//! Taking a message in: everything that belongs to it, in one transaction.

use std::collections::HashMap;

use super::{
    OutboxError, chunks,
    entry::{Accepted, NewMessage, State},
    immediate::IMMEDIATE,
    keys, labels,
    sql::{Connection, query},
    suppression::{self, Stream},
};

/// How accepting a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptResult {
    /// The answer.
    pub accepted: Accepted,
    /// Whether this is the answer to the same request that came before; nothing was accepted this time.
    pub replayed: bool,
    /// The delivery of a message that was accepted now with a claim.
    pub(crate) delivery: Option<i64>,
}

impl AcceptResult {
    /// The answer to a request that came before.
    #[must_use]
    pub fn before(accepted: Accepted) -> Self {
        Self { accepted, replayed: true, delivery: None }
    }
}

/// Takes `message` in, unless it has come before. `lock` is what [`DatabaseTarget::lock`](super::DatabaseTarget) says.
pub(super) async fn insert(
    connection: &mut Connection,
    message: &NewMessage,
    lock: &str,
) -> Result<AcceptResult, OutboxError> {
    if let Some(key) = &message.idempotency
        && let Some(accepted) = keys::known(connection, key, message.created).await?
    {
        return Ok(AcceptResult::before(accepted));
    }
    let addresses: Vec<&str> = message.recipients.iter().map(|(_, address)| address.as_str()).collect();
    let suppressed = suppression::among(connection, &addresses, Stream::of(message.broadcast.is_some())).await?;
    let is_stopped = |(_, address): &(_, String)| suppression::reason(&suppressed, address).is_some();
    // A broadcast says whom it passed over, and one that is sent at once has its record.
    let is_reported = message.broadcast.is_none() && message.claim.is_none();
    if is_reported && message.recipients.iter().all(is_stopped) {
        return Err(OutboxError::Suppressed);
    }
    if message.content.in_memory().is_none() {
        chunks::attach(connection, message, lock).await?;
    }
    insert_message(connection, message).await?;
    insert_deliveries(connection, message, &suppressed).await?;
    labels::insert(connection, message.id(), &message.labels).await?;
    let delivery = if message.claim.is_some() { Some(its_delivery(connection, message).await?) } else { None };
    let stopped = message.recipients.iter().filter(|recipient| is_stopped(recipient)).count();
    let accepted = Accepted {
        id: message.id().to_owned(),
        message_id: message.message_id.to_string(),
        recipients: message.recipients.len() - stopped,
        suppressed: stopped,
    };
    if let Some(key) = &message.idempotency {
        keys::remember(connection, key, &accepted, message.created).await?;
    }
    Ok(AcceptResult { accepted, replayed: false, delivery })
}

async fn insert_message(connection: &mut Connection, message: &NewMessage) -> Result<(), OutboxError> {
    query(
        "INSERT INTO messages (id, message_id, sender, subject, content, created_ms, broadcast) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(message.id())
    .bind(message.message_id.to_string())
    .bind(&message.sender)
    .bind(&message.subject)
    .bind(message.content.in_memory().unwrap_or_default())
    .bind(message.created.0)
    .bind(message.broadcast.as_deref().unwrap_or_default())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_deliveries(
    connection: &mut Connection,
    message: &NewMessage,
    suppressed: &HashMap<String, String>,
) -> Result<(), OutboxError> {
    let (claim, claimed_until) = message.claim.as_ref().map_or(("", 0), |own| (own.claim.as_str(), own.until.0));
    for (kind, address) in &message.recipients {
        let (state, settled, reason) = match suppression::reason(suppressed, address) {
            Some(reason) => (State::Suppressed, message.created.0, reason),
            None => (State::Queued, 0, ""),
        };
        query(
            "INSERT INTO deliveries (message, recipient, domain, kind, bulk, state, due_ms, expires_ms, settled_ms, \
             reply, claim, claimed_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(message.id())
        .bind(address)
        .bind(domain(address))
        .bind(kind.as_str())
        .bind(bulk(message))
        .bind(state.as_str())
        .bind(message.due.0)
        .bind(message.expires.0)
        .bind(settled)
        .bind(reason)
        .bind(claim)
        .bind(claimed_until)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The one delivery of a message that was accepted with a claim.
async fn its_delivery(connection: &mut Connection, message: &NewMessage) -> Result<i64, OutboxError> {
    let query = query("SELECT id FROM deliveries WHERE message = ?").bind(message.id());
    query.fetch_one(connection).await
}

/// Which messages go first; see [`immediate`](super::immediate).
fn bulk(message: &NewMessage) -> i64 {
    if message.claim.is_some() { IMMEDIATE } else { i64::from(message.broadcast.is_some()) }
}

/// What limits are counted by.
fn domain(address: &str) -> String {
    address.rsplit('@').next().unwrap_or_default().to_ascii_lowercase()
}
