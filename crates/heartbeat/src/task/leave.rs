//! Leaving: `draining`, then the deletion, then a moment for the gateways.
//!
//! A deletion looks the same to a gateway as an expiry. Written first, `draining` lets it tell an instance that left,
//! which is not to be tried any more, from one that vanished, which may be worth a last try.
//!
//! All of it is bounded, because a supervisor that stops a service kills it soon: each registry gets 1 s for the
//! deletion, which is longer than it takes, so that a deregistration that succeeds is not taken for one that failed.
//! For `draining`, which the deletion says as well, each gets half of that, and all of them 1 s; both together have 2
//! s.
//!
//! Both are about this life alone: what another one holds under the same id, a successor or a copy, is left alone. And
//! a frozen registry that finds an old heartbeat in its socket when it thaws registers nothing, because that names a
//! life that has ended.

use std::time::Duration;

use discovery::{Status, deadlines};
use tokio::time::{Instant, sleep};

use super::{Limits, ShutdownRequest, Task};

/// The target of the log lines, which people filter by: it does not move with the file.
const LOG_TARGET: &str = "heartbeat::leave";

const ATTEMPT: Duration = deadlines::HEARTBEAT_ATTEMPT;
const DRAINING_ATTEMPT: Duration = Duration::from_millis(500);
const DRAINING: Duration = ATTEMPT;
const WHOLE: Duration = Duration::from_secs(2);

// === impl Task ===

impl Task {
    /// Deregisters and waits until the gateways have let go.
    pub(crate) async fn leave(mut self, leave: ShutdownRequest) {
        let until = Instant::now() + WHOLE;
        // There is no later, so a registry that asked to wait is asked nevertheless.
        self.registries.release();
        self.lives.leave();
        let Some(identity) = self.announced.take() else { return };
        let is_known = self.registration.was_registered() || self.in_doubt;
        if is_known {
            let limits = Limits { attempt: DRAINING_ATTEMPT, whole: DRAINING };
            if let Ok(accepted) = self.send(identity.clone(), Status::Draining.into(), limits).await {
                let changes = self.registration.accepted(Instant::now(), accepted);
                self.publish(&changes);
            }
        }
        let instance = identity.instance;
        if self.registration.state().is_displaced() {
            tracing::info!(target: LOG_TARGET, service = %self.service, %instance, "left; another instance holds the id and goes on");
            return;
        }
        // A registry that had no room for `draining` has some for a deletion.
        self.registries.release();
        let limits = Limits { attempt: ATTEMPT, whole: until.saturating_duration_since(Instant::now()) };
        let is_deleted = self.delete(&instance, limits).await;
        if !is_known {
            return;
        }
        if is_deleted {
            tracing::info!(target: LOG_TARGET, service = %self.service, %instance, "deregistered");
        } else {
            let ttl_ms = self.ttl.as_millis();
            tracing::warn!(target: LOG_TARGET, service = %self.service, %instance, ttl_ms, "no registry accepted the deregistration; the registration will expire");
        }
        sleep(leave.let_go).await;
    }
}
