//! Writing down how an attempt ended.

use sqlx::AnyConnection;

use super::{
    OutboxError,
    entry::{Next, Settlement, State},
};
use crate::clock::Moment;

/// The longest reply that is kept, in characters.
const REPLY_MAX_CHARS: usize = 600;

/// The attempt is kept whatever has become of the delivery meanwhile; the delivery changes only while it is still ours,
/// except that what was delivered stays delivered.
pub(super) async fn settle(connection: &mut AnyConnection, settlement: &Settlement) -> Result<(), OutboxError> {
    let reply: String = settlement.reply.chars().take(REPLY_MAX_CHARS).collect();
    let ended = settlement.at.0.saturating_add(settlement.took_ms);
    let (state, due, settled) = match settlement.next {
        Next::Delivered => (State::Delivered, None, ended),
        Next::Failed => (State::Failed, None, ended),
        Next::Retry(Moment(due)) => (State::Queued, Some(due), 0),
        Next::Postponed => (State::Queued, None, 0),
    };
    // COALESCE does the same for both databases; NULL keeps the old moment.
    sqlx::query(
        "UPDATE deliveries SET state = ?, attempts = attempts + 1, due_ms = COALESCE(?, due_ms), claim = '', \
         claimed_until_ms = 0, outcome = ?, reply = ?, settled_ms = ? \
         WHERE id = ? AND state = 'queued' AND (claim = ? OR ? = 'delivered')",
    )
    .bind(state.as_str())
    .bind(due)
    .bind(settlement.outcome)
    .bind(&reply)
    .bind(settled)
    .bind(settlement.delivery)
    .bind(&settlement.claim)
    .bind(state.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO attempts (delivery, at_ms, took_ms, outcome, reply) VALUES (?, ?, ?, ?, ?)")
        .bind(settlement.delivery)
        .bind(settlement.at.0)
        .bind(settlement.took_ms)
        .bind(settlement.outcome)
        .bind(&reply)
        .execute(connection)
        .await?;
    Ok(())
}
