//! Taking a message in: everything that belongs to it, in one transaction.

use std::{collections::HashSet, time::Duration};

use sqlx::AnyConnection;

use super::{
    OutboxError, blocks,
    entry::{Accepted, NewMessage, State},
    suppression,
};
use crate::clock::Moment;

/// How long an `Idempotency-Key` is remembered.
pub const KEY_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reception {
    /// The answer.
    pub accepted: Accepted,
    /// Whether this is the answer to the same request that came before; nothing was taken in this time.
    pub replayed: bool,
}

/// Takes `message` in, unless it has come before. `lock` is what [`Place::lock`](super::Place) says.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    message: &NewMessage,
    lock: &str,
) -> Result<Reception, OutboxError> {
    if let Some(accepted) = known(connection, message).await? {
        return Ok(Reception { accepted, replayed: true });
    }
    let addresses: Vec<&str> = message.recipients.iter().map(|(_, address)| address.as_str()).collect();
    let suppressed = suppression::among(connection, &addresses).await?;
    if message.content.in_memory().is_none() {
        blocks::attach(connection, message, lock).await?;
    }
    insert_message(connection, message).await?;
    insert_deliveries(connection, message, &suppressed).await?;
    let accepted = Accepted {
        id: message.id().to_owned(),
        message_id: message.message_id.to_string(),
        recipients: message.recipients.len() - suppressed.len(),
        suppressed: suppressed.len(),
    };
    remember(connection, message, &accepted).await?;
    Ok(Reception { accepted, replayed: false })
}

/// The answer to the request that had the same key, when there was one in the last day.
async fn known(connection: &mut AnyConnection, message: &NewMessage) -> Result<Option<Accepted>, OutboxError> {
    let Some(key) = &message.idempotency else { return Ok(None) };
    let oldest = message.created - KEY_KEPT_FOR;
    let found: Option<(String, String, i64)> =
        sqlx::query_as("SELECT fingerprint, answer, created_ms FROM idempotency_keys WHERE name = ?")
            .bind(&key.name)
            .fetch_optional(&mut *connection)
            .await?;
    match found {
        Some((.., created)) if Moment(created) < oldest => {
            sqlx::query("DELETE FROM idempotency_keys WHERE name = ?").bind(&key.name).execute(connection).await?;
            Ok(None)
        }
        Some((fingerprint, ..)) if fingerprint != key.fingerprint => Err(OutboxError::KeyReused),
        Some((_, answer, _)) => Ok(serde_json::from_str(&answer).ok()),
        None => Ok(None),
    }
}

async fn remember(
    connection: &mut AnyConnection,
    message: &NewMessage,
    accepted: &Accepted,
) -> Result<(), OutboxError> {
    let Some(key) = &message.idempotency else { return Ok(()) };
    let answer = serde_json::to_string(accepted).expect("a struct of strings and numbers becomes JSON");
    sqlx::query("INSERT INTO idempotency_keys (name, fingerprint, answer, created_ms) VALUES (?, ?, ?, ?)")
        .bind(&key.name)
        .bind(&key.fingerprint)
        .bind(answer)
        .bind(message.created.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_message(connection: &mut AnyConnection, message: &NewMessage) -> Result<(), OutboxError> {
    sqlx::query(
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
    connection: &mut AnyConnection,
    message: &NewMessage,
    suppressed: &HashSet<String>,
) -> Result<(), OutboxError> {
    for (kind, address) in &message.recipients {
        let (state, settled) = match suppressed.contains(&suppression::key(address)) {
            true => (State::Suppressed, message.created.0),
            false => (State::Queued, 0),
        };
        sqlx::query(
            "INSERT INTO deliveries (message, recipient, domain, kind, bulk, state, due_ms, expires_ms, settled_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(message.id())
        .bind(address)
        .bind(domain(address))
        .bind(kind.as_str())
        .bind(i64::from(message.broadcast.is_some()))
        .bind(state.as_str())
        .bind(message.due.0)
        .bind(message.expires.0)
        .bind(settled)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What limits are counted by.
fn domain(address: &str) -> String {
    address.rsplit('@').next().unwrap_or_default().to_ascii_lowercase()
}
