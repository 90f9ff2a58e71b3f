//! How much waits, and what is no longer kept: settled messages after `--keep`, idempotency keys after a day.

use std::sync::Arc;

use service_kit::time::UnixMillis;

use super::{
    Outbox, OutboxError, events,
    keys::KEY_KEPT_FOR,
    skips,
    sql::{Connection, placeholders, query},
};

/// Rows of a table that are deleted in one transaction, so that other writes need not wait long.
const TOGETHER: i64 = 200;

impl Outbox {
    /// How many deliveries are not settled, and when the oldest of them that is due was to be sent.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn depth(&self) -> Result<(i64, Option<UnixMillis>), OutboxError> {
        let now = UnixMillis::now();
        let counting = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let queued: i64 =
                    query("SELECT COUNT(*) FROM deliveries WHERE state = 'queued'").fetch_one(&mut *connection).await?;
                let mut oldest: Option<i64> = None;
                for bulk in [0_i64, 1] {
                    let first: Option<i64> = query(
                        "SELECT m.created_ms FROM deliveries d JOIN messages m ON m.id = d.message \
                         WHERE d.state = 'queued' AND d.bulk = ? AND d.due_ms <= ? ORDER BY d.due_ms, d.id LIMIT 1",
                    )
                    .bind(bulk)
                    .bind(now.0)
                    .fetch_optional(&mut *connection)
                    .await?;
                    oldest = oldest.into_iter().chain(first).min();
                }
                Ok((queued, oldest.map(UnixMillis)))
            })
        }));
        counting.await
    }

    /// Deletes messages that were accepted and settled before `before`, with what was noted until then about broadcasts
    /// and for the webhook's receiver; and keys older than a day.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn forget(&self, before: UnixMillis) -> Result<u64, OutboxError> {
        let oldest_key = UnixMillis::now() - KEY_KEPT_FOR;
        let mut deleted = 0;
        loop {
            let batch = self.database.write(Box::new(move |connection| {
                Box::pin(async move {
                    query("DELETE FROM idempotency_keys WHERE created_ms < ?")
                        .bind(oldest_key.0)
                        .execute(&mut *connection)
                        .await?;
                    let noted = skips::forget_some(connection, before, TOGETHER).await?
                        + events::forget_some(connection, before, TOGETHER).await?;
                    Ok(noted + forget_some(connection, before).await?)
                })
            }));
            let batch = batch.await?;
            deleted += batch;
            if batch == 0 {
                return Ok(deleted);
            }
        }
    }
}

async fn forget_some(connection: &mut Connection, before: UnixMillis) -> Result<u64, OutboxError> {
    let ids: Vec<String> = query(
        "SELECT m.id FROM messages m WHERE m.created_ms < ? AND NOT EXISTS \
         (SELECT 1 FROM deliveries d WHERE d.message = m.id AND (d.state = 'queued' OR d.settled_ms >= ?)) LIMIT ?",
    )
    .bind(before.0)
    .bind(before.0)
    .bind(TOGETHER)
    .fetch_all(&mut *connection)
    .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let ids = Arc::new(ids);
    for statement in [
        "DELETE FROM attempts WHERE delivery IN (SELECT id FROM deliveries WHERE message IN",
        "DELETE FROM deliveries WHERE message IN",
        // Its chunks belong to no message then; they are deleted a few at a time.
        "DELETE FROM large_contents WHERE message IN",
        "DELETE FROM message_labels WHERE message IN",
        "DELETE FROM messages WHERE id IN",
    ] {
        let closing = if statement.starts_with("DELETE FROM attempts") { "))" } else { ")" };
        let sql = format!("{statement} ({}{closing}", placeholders(ids.len()));
        let mut query = query(sql);
        for id in ids.iter() {
            query = query.bind(id);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
}
