//! Recording how an attempt ended.

use service_kit::time::UnixMillis;

use super::{
    OutboxError,
    entry::{AttemptRecord, Next, State},
    events::Kinds,
    sql::{Connection, query},
    suppression::{self, NewEntry, Reason, Scope},
};

/// How often a message is sent again after unknown outcomes.
pub const REPEATS_MAX: i64 = 2;

/// The longest reply that is kept, in characters.
const REPLY_MAX_CHARS: usize = 600;

/// The attempt is recorded in any case. The delivery changes only while this instance has its claim, except that a
/// delivered one becomes delivered in any case: it may have been given up or cancelled while this instance could not
/// reach the outbox. Returns what becomes of the delivery; `None` when it did not change.
pub(super) async fn record_attempt(
    connection: &mut Connection,
    record: &AttemptRecord,
    kinds: Kinds,
) -> Result<Option<Next>, OutboxError> {
    let reply: String = record.reply.chars().take(REPLY_MAX_CHARS).collect();
    let ended = record.at.0.saturating_add(record.took_ms);
    let mut next = record.next;
    if matches!(next, Next::Repeat(_)) && same_outcomes(connection, record).await? >= REPEATS_MAX {
        next = Next::Failed;
    }
    let (state, due, settled) = match next {
        Next::Delivered => (State::Delivered, None, ended),
        Next::Failed => (State::Failed, None, ended),
        Next::Retry(UnixMillis(due)) | Next::Repeat(UnixMillis(due)) => (State::Queued, Some(due), 0),
        Next::Postponed => (State::Queued, None, 0),
    };
    // COALESCE does the same for both databases; NULL keeps the old moment.
    let done = query(
        "UPDATE deliveries SET state = ?, attempts = attempts + 1, due_ms = COALESCE(?, due_ms), claim = '', \
         claimed_until_ms = 0, outcome = ?, reply = ?, settled_ms = ? \
         WHERE id = ? AND ((state = 'queued' AND claim = ?) OR (? = 'delivered' AND state <> 'delivered'))",
    )
    .bind(state.as_str())
    .bind(due)
    .bind(record.outcome)
    .bind(&reply)
    .bind(settled)
    .bind(record.delivery)
    .bind(&record.claim)
    .bind(state.as_str())
    .execute(&mut *connection)
    .await?;
    query("INSERT INTO attempts (delivery, at_ms, took_ms, outcome, reply) VALUES (?, ?, ?, ?, ?)")
        .bind(record.delivery)
        .bind(record.at.0)
        .bind(record.took_ms)
        .bind(record.outcome)
        .bind(&reply)
        .execute(&mut *connection)
        .await?;
    if let Some(recipient) = &record.bounced {
        suppression::add(connection, &bounce(recipient, reply), UnixMillis(ended), kinds).await?;
    }
    Ok(Some(next).filter(|_| done.rows_affected() > 0))
}

/// What is kept about an address that the server calls none.
fn bounce(recipient: &str, detail: String) -> NewEntry {
    NewEntry { address: recipient.to_owned(), reason: Reason::Bounce, scope: Scope::All, detail, broadcast: None }
}

/// How many earlier attempts ended like this one.
async fn same_outcomes(connection: &mut Connection, record: &AttemptRecord) -> Result<i64, OutboxError> {
    let count = query("SELECT COUNT(*) FROM attempts WHERE delivery = ? AND outcome = ?")
        .bind(record.delivery)
        .bind(record.outcome)
        .fetch_one(connection)
        .await?;
    Ok(count)
}
