//! One query: as many attempts as are safe, within one deadline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use service_kit::backoff::Backoff;
use tokio::{sync::Notify, time::sleep};

use super::{
    StoreError,
    driver::{Access, Connection, DriverError},
    monitor::Opened,
};

/// Long enough for a deadlock to dissolve, short enough not to be noticed.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A query that takes longer is a reason to look at the database, though not to give the query up. Without it, a server
/// that was killed while there were no requests is only noticed when the first query could not connect for a second.
const SLOW_QUERY: Duration = Duration::from_millis(250);

/// What a query does with a connection. It may be done more than once: the same again must be the same.
pub(super) trait Work<T>:
    for<'c> Fn(&'c mut (dyn Connection + 'static)) -> BoxFuture<'c, Result<T, DriverError>> + Send + Sync + 'static
{
}

impl<T, F> Work<T> for F where
    F: for<'c> Fn(&'c mut (dyn Connection + 'static)) -> BoxFuture<'c, Result<T, DriverError>> + Send + Sync + 'static
{
}

/// What a query needs to be tried.
pub(super) struct Attempts {
    pub(super) opened: Opened,
    pub(super) access: Access,
    pub(super) suspicion: Arc<Notify>,
    pub(super) deadline: Duration,
    /// Of the request that asks.
    pub(super) request_id: Option<String>,
}

/// An answer, and whether an earlier attempt may have had an effect as well.
pub(super) struct Answered<T> {
    pub(super) value: T,
    pub(super) is_repetition: bool,
}

/// What is not known about the attempts so far; shared with an attempt that may be dropped at any moment.
#[derive(Default)]
struct UncertainOutcome {
    /// An attempt broke off after its statement may have been sent.
    was_lost: AtomicBool,
    /// A statement may be under way.
    is_sent: AtomicBool,
}

// === impl Attempts ===

impl Attempts {
    /// Tries until there is an answer, the deadline has passed, or the database has gone.
    pub(super) async fn run<T>(self, work: impl Work<T>) -> Result<Answered<T>, StoreError> {
        let uncertain = UncertainOutcome::default();
        let result = tokio::select! {
            biased;
            result = self.attempt(&work, &uncertain) => result,
            () = self.opened.ended.cancelled() => Err(DriverError::Lost("it went away".to_owned())),
            () = self.deadline_passed() => Err(DriverError::Lost("no answer within the deadline".to_owned())),
        };
        let was_lost = uncertain.was_lost.load(Relaxed);
        match result {
            Ok(value) => Ok(Answered { value, is_repetition: was_lost }),
            Err(error) => {
                if error.is_suspicious() {
                    self.suspicion.notify_one();
                }
                // Only for what is logged: it costs as much as a part of the query.
                let span = tracing::info_span!(parent: None, "query", request_id = self.request_id);
                span.in_scope(|| log(&error));
                let may_have_changed = self.access == Access::Write && (was_lost || uncertain.is_sent.load(Relaxed));
                Err(match error.into() {
                    StoreError::Unavailable { reason, .. } => {
                        StoreError::Unavailable { reason, is_in_doubt: may_have_changed }
                    }
                    error => error,
                })
            }
        }
    }

    /// Suspects the database on the way. One timer at a time: most queries end before they need any.
    async fn deadline_passed(&self) {
        let slow = self.deadline.min(SLOW_QUERY);
        sleep(slow).await;
        self.suspicion.notify_one();
        sleep(self.deadline.saturating_sub(slow)).await;
    }

    async fn attempt<T>(&self, work: &impl Work<T>, uncertain: &UncertainOutcome) -> Result<T, DriverError> {
        let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            match self.once(work, uncertain).await {
                Ok(value) => return Ok(value),
                Err(DriverError::Contended(_)) => {}
                Err(DriverError::Lost(_)) => {
                    uncertain.was_lost.store(true, Relaxed);
                    self.suspicion.notify_one();
                }
                Err(error) => return Err(error),
            }
            sleep(pause.next_wait()).await;
        }
    }

    async fn once<T>(&self, work: &impl Work<T>, uncertain: &UncertainOutcome) -> Result<T, DriverError> {
        let mut connection = self.opened.session.connection(self.access).await?;
        uncertain.is_sent.store(true, Relaxed);
        let result = match work(&mut *connection).await {
            Ok(value) => connection.settle().await.map(|()| value),
            Err(error @ DriverError::Contended(_)) => connection.settle().await.and(Err(error)),
            Err(error) => Err(error),
        };
        uncertain.is_sent.store(false, Relaxed);
        result
    }
}

/// An outage is logged when it begins and ends, not for every query in between.
fn log(error: &DriverError) {
    let reason = error.reason();
    match error {
        DriverError::NotReached(_) | DriverError::Lost(_) | DriverError::Contended(_) => {
            tracing::debug!(reason, "query given up")
        }
        DriverError::ReadOnly(_) | DriverError::Full(_) | DriverError::Unusable(_) => {
            tracing::warn!(reason, "query refused by the database")
        }
        DriverError::Unexpected(_) => tracing::error!(reason, "query failed unexpectedly"),
    }
}
