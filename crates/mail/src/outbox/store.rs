//! The store of the outbox: one database, SQLite or MySQL, and all that is written to it and read from it.
//!
//! | module | what it settles |
//! |---|---|
//! | `target`, [`database`], `sqlite`, `caller`, `error` | which database; connections, transactions, deadlines; how they fail |
//! | `sql` | statements, values, rows, the same for both kinds of database |
//! | [`entry`] | messages, deliveries, their states |
//! | [`accept`], `group_commit` | storing a message; many commits for the price of one |
//! | [`keys`] | requests that are repeated |
//! | [`chunks`] | contents that are too large for one row |
//! | [`claim`] | which instance sends what |
//! | `attempt_record` | how an attempt ended |
//! | [`immediate`] | messages whose clients wait |
//! | [`templates`], [`broadcasts`], [`skips`] | templates; one message to each of many; whom a broadcast left out |
//! | [`query`], [`labels`] | looking up, cancelling, requeueing; what messages are found by |
//! | [`suppression`] | addresses to which nothing is sent |
//! | [`retention`] | how much waits; what is deleted, and when |
//! | [`suppression::userlist_updates`], [`events`] | what waits for userlist and for the webhook |

pub mod accept;
mod attempt_record;
pub mod broadcasts;
mod caller;
pub mod chunks;
pub mod claim;
pub mod database;
pub mod entry;
mod error;
pub mod events;
mod group_commit;
pub mod immediate;
pub mod keys;
pub mod labels;
pub(crate) mod openapi;
pub mod query;
pub mod retention;
pub mod skips;
mod sql;
mod sqlite;
pub mod suppression;
mod target;
pub mod templates;

use std::{sync::Arc, time::Duration};

use service_kit::backoff::Backoff;
use tokio::{sync::Notify, time::sleep};

use crate::message::content::SpoolDir;

pub use accept::AcceptResult;
pub use attempt_record::REPEATS_MAX;
pub use error::OutboxError;
pub use target::DatabaseTarget;

use database::Database;
use entry::{AttemptRecord, NewMessage};
use events::Kinds;
use group_commit::{Change, Changed, Writer};

/// How long to wait before recording an attempt is retried: at first, and at most.
const RECORD_RETRY_MIN: Duration = Duration::from_millis(100);
const RECORD_RETRY_MAX: Duration = Duration::from_secs(5);

/// The outbox. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Arc<Database>,
    writer: Writer,
    woken: Arc<Notify>,
    spool: SpoolDir,
    kinds: Kinds,
}

impl Outbox {
    /// Opens nothing yet. Large messages pass through `spool`; events of `kinds` are kept for the webhook's receiver.
    #[must_use]
    pub fn new(target: DatabaseTarget, spool: SpoolDir, kinds: Kinds) -> Self {
        let database = Arc::new(Database::new(target));
        Self { writer: Writer::start(Arc::clone(&database), kinds), database, woken: Arc::default(), spool, kinds }
    }

    /// Takes a message in; `Ok` when it is on the disk. From the moment on at which all chunks of a large one are
    /// stored, it goes on when the caller leaves.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`]; or the outbox cannot be used.
    pub async fn accept(&self, message: Arc<NewMessage>) -> Result<AcceptResult, OutboxError> {
        let result = self.take_in(&message).await;
        match &result {
            Ok(result) if !result.replayed => {
                if message.claim.is_none() {
                    self.wake();
                }
            }
            Ok(_) | Err(_) => self.discard_chunks(&message),
        }
        result
    }

    async fn take_in(&self, message: &Arc<NewMessage>) -> Result<AcceptResult, OutboxError> {
        self.store_chunks(message).await?;
        match self.writer.commit(Change::Accept(Arc::clone(message))).await? {
            Changed::Accepted(result) => Ok(result),
            Changed::Recorded => unreachable!("an acceptance is answered with one"),
        }
    }

    /// Records how an attempt ended, and retries until it is recorded: what was delivered must not be sent again
    /// because the disk was full for a minute.
    pub(super) async fn record_attempt(&self, record: Arc<AttemptRecord>) {
        let mut backoff = Backoff::new(RECORD_RETRY_MIN, RECORD_RETRY_MAX);
        while let Err(error) = self.writer.commit(Change::RecordAttempt(Arc::clone(&record))).await {
            if backoff.failures() == 0 {
                tracing::warn!(error = %service_kit::chain(&error), "an attempt could not be recorded; retrying");
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// Says that there is something to send.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
