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
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    StoreError,
    driver::{Access, Connection, Fault},
    monitor::Opened,
};

/// Long enough for a deadlock to dissolve, short enough not to be noticed.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A query that takes longer is a reason to look at the database, though not to give the query up. Without it, a server
/// that was killed while nobody asked is only noticed when the first query could not connect for a second.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a query does with a connection. It may be done more than once: the same again must be the same.
pub(super) trait Work<T>:
    for<'c> Fn(&'c mut (dyn Connection + 'static)) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static
{
}

impl<T, F> Work<T> for F where
    F: for<'c> Fn(&'c mut (dyn Connection + 'static)) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static
{
}

/// What a query needs to be tried.
pub(super) struct Attempts {
    pub(super) opened: Opened,
    pub(super) access: Access,
    pub(super) suspicion: Arc<Notify>,
    pub(super) deadline: Duration,
}

/// An answer, and whether an earlier attempt may have had an effect as well.
pub(super) struct Answered<T> {
    pub(super) value: T,
    pub(super) is_repetition: bool,
}

/// What is not known about the attempts so far; shared with an attempt that may be dropped at any moment.
#[derive(Default)]
struct Doubt {
    /// An attempt broke off after its statement may have been sent.
    was_lost: AtomicBool,
    /// A statement may be under way.
    is_sent: AtomicBool,
}

// === impl Attempts ===

impl Attempts {
    /// Tries until there is an answer, the deadline has passed, or the database has gone.
    pub(super) async fn run<T>(self, work: impl Work<T>) -> Result<Answered<T>, StoreError> {
        let doubt = Doubt::default();
        let result = tokio::select! {
            biased;
            result = timeout(self.deadline, self.attempt(&work, &doubt)) => {
                result.unwrap_or_else(|_| Err(Fault::Lost("no answer within the deadline".to_owned())))
            }
            () = self.opened.ended.cancelled() => Err(Fault::Lost("it went away".to_owned())),
            never = self.lose_patience() => never,
        };
        let was_lost = doubt.was_lost.load(Relaxed);
        match result {
            Ok(value) => Ok(Answered { value, is_repetition: was_lost }),
            Err(fault) => {
                if fault.is_suspicious() {
                    self.suspicion.notify_one();
                }
                log(&fault);
                let may_have_changed = self.access == Access::Write && (was_lost || doubt.is_sent.load(Relaxed));
                Err(match fault.into() {
                    StoreError::Unavailable { reason, .. } => {
                        StoreError::Unavailable { reason, is_in_doubt: may_have_changed }
                    }
                    error => error,
                })
            }
        }
    }

    async fn lose_patience<T>(&self) -> T {
        sleep(PATIENCE).await;
        self.suspicion.notify_one();
        std::future::pending().await
    }

    async fn attempt<T>(&self, work: &impl Work<T>, doubt: &Doubt) -> Result<T, Fault> {
        let mut pause = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            match self.once(work, doubt).await {
                Ok(value) => return Ok(value),
                Err(Fault::Contended(_)) => {}
                Err(Fault::Lost(_)) => {
                    doubt.was_lost.store(true, Relaxed);
                    self.suspicion.notify_one();
                }
                Err(fault) => return Err(fault),
            }
            sleep(pause.next_wait()).await;
        }
    }

    async fn once<T>(&self, work: &impl Work<T>, doubt: &Doubt) -> Result<T, Fault> {
        let mut connection = self.opened.session.connection(self.access).await?;
        doubt.is_sent.store(true, Relaxed);
        let result = match work(&mut *connection).await {
            Ok(value) => connection.settle().await.map(|()| value),
            Err(fault @ Fault::Contended(_)) => connection.settle().await.and(Err(fault)),
            Err(fault) => Err(fault),
        };
        doubt.is_sent.store(false, Relaxed);
        result
    }
}

/// An outage is logged when it begins and ends, not for every query in between.
fn log(fault: &Fault) {
    let reason = fault.reason();
    match fault {
        Fault::NotReached(_) | Fault::Lost(_) | Fault::Contended(_) => tracing::debug!(reason, "a query was given up"),
        Fault::ReadOnly(_) | Fault::Full(_) | Fault::Unusable(_) => tracing::warn!(reason, "a query was refused"),
        Fault::Unexpected(_) => tracing::error!(reason, "a query failed in an unexpected way"),
    }
}
