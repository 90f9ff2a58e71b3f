//! The outbox: what was accepted is on disk, and is sent until it is delivered, refused for good, or four days old.
//!
//! | module | what it settles |
//! |---|---|
//! | [`entry`] | messages, deliveries, their states |
//! | [`database`] | SQLite or MySQL, transactions, deadlines |
//! | [`fault`] | how it can fail |
//! | [`accept`], `writer` | taking in; many commits for the price of one |
//! | [`keys`] | requests that come again |
//! | [`immediate`] | messages whose clients wait |
//! | [`blocks`] | what is too large for one row |
//! | [`claim`] | which instance sends what |
//! | [`dispatcher`], `batch`, [`limiter`] | the workers; what goes together; what one domain gets |
//! | `attempt`, [`schedule`], `settle` | one attempt; when to try again; writing down how it ended |
//! | [`shelf`], [`broadcast`] | templates; one message to each of many |
//! | [`query`], [`suppression`] | looking, cancelling, trying again; whom to leave alone |
//! | [`labels`], [`skips`] | what messages are found by; whom a broadcast left out |
//! | [`farewell`], [`events`] | what userlist, and the webhook's receiver, are still to be told |
//! | [`sweeper`] | what is forgotten, and when |
//!
//! *Accepted means committed.* The answer 202 is given after the commit has reached the disk (SQLite: write-ahead log with
//! full synchronisation; MySQL: its default). From then on SIGKILL and a power failure lose nothing.
//!
//! *At least once.* SMTP cannot do better: between the server's last word and our writing it down there is a moment in which
//! we may die. A message can arrive twice when
//!
//! 1. the instance is killed after the final dot and before the attempt is written down;
//! 2. the connection is lost after the final dot, so that the outcome is unknown (`outcome_unknown`): such an attempt is repeated twice at most;
//! 3. the instance loses the database for longer than a [claim](claim::CLAIM) while it sends, and another one takes over.
//!
//! Each duplicate has the same Message-ID, by which readers and programs recognise it.

pub mod accept;
mod attempt;
mod batch;
pub mod blocks;
pub mod broadcast;
pub mod claim;
pub mod database;
pub mod dispatcher;
pub mod entry;
pub mod events;
pub mod farewell;
pub mod fault;
pub mod immediate;
pub mod keys;
pub mod labels;
pub mod limiter;
pub mod query;
pub mod schedule;
mod settle;
pub mod shelf;
pub mod skips;
pub mod suppression;
pub mod sweeper;
mod writer;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::content::SpoolDir;

pub use accept::Reception;
pub use database::Place;
pub use fault::OutboxError;

use database::Database;
use entry::{NewMessage, Settlement};
use events::Kinds;
use writer::{Change, Changed, Writer};

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
    pub fn new(place: Place, spool: SpoolDir, kinds: Kinds) -> Self {
        let database = Arc::new(Database::new(place));
        Self { writer: Writer::start(Arc::clone(&database), kinds), database, woken: Arc::default(), spool, kinds }
    }

    /// Takes a message in; `Ok` when it is on the disk. From the moment on at which all blocks of a large one are stored, it goes
    /// on when the caller leaves.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`]; or the outbox cannot be used.
    pub async fn accept(&self, message: Arc<NewMessage>) -> Result<Reception, OutboxError> {
        let result = self.take_in(&message).await;
        match &result {
            Ok(reception) if !reception.replayed => {
                if message.claim.is_none() {
                    self.wake();
                }
            }
            Ok(_) | Err(_) => self.discard_blocks(&message),
        }
        result
    }

    async fn take_in(&self, message: &Arc<NewMessage>) -> Result<Reception, OutboxError> {
        self.store_blocks(message).await?;
        match self.writer.commit(Change::Accept(Arc::clone(message))).await? {
            Changed::Accepted(reception) => Ok(reception),
            Changed::Settled => unreachable!("an acceptance is answered with one"),
        }
    }

    async fn settle(&self, settlement: Arc<Settlement>) -> Result<(), OutboxError> {
        self.writer.commit(Change::Settle(settlement)).await.map(|_| ())
    }

    /// Says that there is something to send.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
