//! What is forgotten: settled messages after `--keep`, idempotency keys after a day. And what is measured meanwhile.

use std::{sync::Arc, time::Duration};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use sqlx::{AnyConnection, AssertSqlSafe};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Outbox, OutboxError, blocks::ORPHANED_AFTER, claim::marks, events, keys::KEY_KEPT_FOR, skips};
use crate::clock::Moment;

/// How often the queue is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(2);
/// How often old messages are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(600);
/// Messages, and rows of other tables, that are deleted in one transaction: others want to write, too.
const TOGETHER: i64 = 200;

/// `mail_outbox_queued`, `mail_outbox_oldest_age_seconds`, `mail_userlist_untold`.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    queued: Gauge,
    oldest_age: Gauge,
    farewells: Gauge,
}

impl QueueMetrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("mail_outbox_queued", "Deliveries that are not settled yet", metrics.queued.clone());
        registry.register(
            "mail_outbox_oldest_age_seconds",
            "How long the oldest unsettled delivery that is due has been waiting since it was taken in",
            metrics.oldest_age.clone(),
        );
        registry.register(
            "mail_userlist_untold",
            "Addresses of which userlist is still to be told that they left or bounced",
            metrics.farewells.clone(),
        );
        metrics
    }
}

/// Measures and forgets, until `shutdown`.
pub async fn run(outbox: Outbox, metrics: QueueMetrics, keep: Duration, shutdown: CancellationToken) {
    let sweeping = async {
        let mut rounds = 0_u64;
        loop {
            // Errors are those that the dispatcher reports.
            if let Ok((queued, oldest)) = outbox.depth().await {
                metrics.queued.set(queued);
                let age = oldest.map_or(0, |oldest| Moment::now().since(oldest).as_secs());
                metrics.oldest_age.set(i64::try_from(age).unwrap_or(i64::MAX));
            }
            if let Ok(farewells) = outbox.farewells().await {
                metrics.farewells.set(farewells);
            }
            if outbox.has_left_behind(Moment::now()).await.unwrap_or(false) {
                let _next_time = outbox.expire_immediate(Moment::now()).await;
            }
            if rounds.is_multiple_of(SWEPT_EVERY.as_secs() / MEASURED_EVERY.as_secs()) {
                let _next_time = outbox.forget(Moment::now() - keep).await;
                let _next_time = outbox.sweep_blocks(Moment::now() - ORPHANED_AFTER).await;
            }
            rounds += 1;
            sleep(MEASURED_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(sweeping).await;
}

impl Outbox {
    /// How many deliveries are not settled, and when the oldest of them that is due was to be sent.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn depth(&self) -> Result<(i64, Option<Moment>), OutboxError> {
        let now = Moment::now();
        let counting = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let queued: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE state = 'queued'")
                    .fetch_one(&mut *connection)
                    .await?;
                let mut oldest: Option<i64> = None;
                for bulk in [0_i64, 1] {
                    let first: Option<i64> = sqlx::query_scalar(
                        "SELECT m.created_ms FROM deliveries d JOIN messages m ON m.id = d.message \
                         WHERE d.state = 'queued' AND d.bulk = ? AND d.due_ms <= ? ORDER BY d.due_ms, d.id LIMIT 1",
                    )
                    .bind(bulk)
                    .bind(now.0)
                    .fetch_optional(&mut *connection)
                    .await?;
                    oldest = oldest.into_iter().chain(first).min();
                }
                Ok((queued, oldest.map(Moment)))
            })
        }));
        counting.await
    }

    /// Deletes messages that were taken in and settled before `before`, with what was noted until then about broadcasts and for
    /// the webhook's receiver; and keys older than a day.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn forget(&self, before: Moment) -> Result<u64, OutboxError> {
        let oldest_key = Moment::now() - KEY_KEPT_FOR;
        let mut deleted = 0;
        loop {
            let batch = self.database.write(Box::new(move |connection| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM idempotency_keys WHERE created_ms < ?")
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

async fn forget_some(connection: &mut AnyConnection, before: Moment) -> Result<u64, OutboxError> {
    let ids: Vec<String> = sqlx::query_scalar(
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
        // Its blocks are nobody's then, and are swept away a few at a time.
        "DELETE FROM large_contents WHERE message IN",
        "DELETE FROM message_labels WHERE message IN",
        "DELETE FROM messages WHERE id IN",
    ] {
        let closing = if statement.starts_with("DELETE FROM attempts") { "))" } else { ")" };
        let sql = format!("{statement} ({}{closing}", marks(ids.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for id in ids.iter() {
            query = query.bind(id);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
}
