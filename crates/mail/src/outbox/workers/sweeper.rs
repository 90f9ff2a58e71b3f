//! Deletes what is no longer kept, every ten minutes, and measures the queue, every two seconds.

use std::time::Duration;

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use service_kit::time::UnixMillis;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::outbox::store::{Outbox, chunks::ORPHANED_AFTER};

/// How often the queue is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(2);
/// How often old messages are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(600);

/// `mail_outbox_queued`, `mail_outbox_oldest_age_seconds`, `mail_userlist_untold`.
#[derive(Debug, Clone, Default)]
pub struct QueueMetrics {
    queued: Gauge,
    oldest_age: Gauge,
    userlist_updates: Gauge,
}

impl QueueMetrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("mail_outbox_queued", "Deliveries that are not settled yet", metrics.queued.clone());
        registry.register(
            "mail_outbox_oldest_age_seconds",
            "How long the oldest unsettled delivery that is due has been waiting since it was accepted",
            metrics.oldest_age.clone(),
        );
        registry.register(
            "mail_userlist_untold",
            "Status changes (unsubscribed, bounced) that wait to be sent to userlist",
            metrics.userlist_updates.clone(),
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
                let age = oldest.map_or(0, |oldest| UnixMillis::now().since(oldest).as_secs());
                metrics.oldest_age.set(i64::try_from(age).unwrap_or(i64::MAX));
            }
            if let Ok(waiting) = outbox.userlist_updates_waiting().await {
                metrics.userlist_updates.set(waiting);
            }
            if outbox.has_left_behind(UnixMillis::now()).await.unwrap_or(false) {
                let _next_time = outbox.expire_immediate(UnixMillis::now()).await;
            }
            if rounds.is_multiple_of(SWEPT_EVERY.as_secs() / MEASURED_EVERY.as_secs()) {
                let _next_time = outbox.forget(UnixMillis::now() - keep).await;
                let _next_time = outbox.sweep_chunks(UnixMillis::now() - ORPHANED_AFTER).await;
            }
            rounds += 1;
            sleep(MEASURED_EVERY).await;
        }
    };
    shutdown.run_until_cancelled(sweeping).await;
}
