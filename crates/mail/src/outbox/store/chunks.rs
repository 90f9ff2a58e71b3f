//! Contents that are too large for one row: into the database and out of it, chunk by chunk.
//!
//! A message of 100 MB in one statement would be held in memory several times over, on both sides, and take longer than
//! any call may. So its chunks are stored first, a few in a transaction. They belong to no message until it is
//! accepted, in a transaction that is as small as any other and checks that all of them are there. Chunks that stay
//! orphaned, because the instance was killed in between or the request was a repetition, are deleted after
//! [`ORPHANED_AFTER`].
//!
//! On the way out they are gathered in the [spool](crate::message::content) before the SMTP server hears of the
//! message: a database that fails in the middle costs an attempt, and no server gets half a message.

use std::{io, io::Write as _, time::Duration};

use service_kit::time::UnixMillis;

use super::{
    Outbox, OutboxError,
    entry::{NewMessage, Stored},
    sql::{Connection, query},
};
use crate::message::content::{Content, waiting};

/// The bytes of a chunk: 256 KiB, far below what a MySQL server takes in a packet (`max_allowed_packet`, 16 MiB or
/// more).
const STORED_BYTES: usize = 256 * 1024;
/// Chunks of one transaction: what a slow disk flushes in a moment.
const TOGETHER: usize = 4;
/// When chunks without a message are taken for forgotten. Storing the largest message takes minutes.
pub const ORPHANED_AFTER: Duration = Duration::from_secs(3600);
/// Forgotten contents that are looked for at once.
const SWEPT_TOGETHER: usize = 100;
/// Chunks that are deleted in one transaction.
const DELETED_TOGETHER: i64 = 64;

/// Why a content could not be gathered.
#[derive(Debug, thiserror::Error)]
pub(in crate::outbox) enum GatherError {
    #[error("the outbox cannot be read")]
    Outbox(#[from] OutboxError),
    #[error("chunks of the message are missing")]
    Incomplete,
    #[error("the folder for large messages (--spool-dir) cannot be used")]
    Spool(#[from] io::Error),
}

impl Outbox {
    /// Stores the chunks of a message that is about to be accepted, if it is that large.
    pub(super) async fn store_chunks(&self, message: &NewMessage) -> Result<(), OutboxError> {
        if message.content.in_memory().is_some() {
            return Ok(());
        }
        if !self.database.has_room(message.content.len()) {
            return Err(OutboxError::Full);
        }
        let mut position = 0;
        loop {
            let chunks = read(&message.content, position).map_err(|error| OutboxError::Unavailable {
                reason: format!("the folder for large messages: {error}"),
            })?;
            if chunks.is_empty() {
                return Ok(());
            }
            let count = i64::try_from(chunks.len()).unwrap_or(i64::MAX);
            self.insert_chunks(message.id().to_owned(), position, chunks).await?;
            position += count;
        }
    }

    async fn insert_chunks(&self, message: String, first: i64, chunks: Vec<Vec<u8>>) -> Result<(), OutboxError> {
        let storing = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                for (position, bytes) in (first..).zip(chunks) {
                    query("INSERT INTO content_blocks (message, position, bytes) VALUES (?, ?, ?)")
                        .bind(&message)
                        .bind(position)
                        .bind(bytes)
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        }));
        storing.await
    }

    /// Deletes the chunks of a message in the background unless it was accepted. What is left is deleted by the
    /// sweeper.
    pub(super) fn discard_chunks(&self, message: &NewMessage) {
        if message.content.in_memory().is_none() {
            let outbox = self.clone();
            let id = message.id().to_owned();
            tokio::spawn(async move {
                if let Err(error) = outbox.delete_chunks(&id).await {
                    tracing::warn!(message = id, %error, "chunks of a message that was not accepted could not be deleted");
                }
            });
        }
    }

    /// A few in a transaction, from the end: the first one marks what is left to do.
    async fn delete_chunks(&self, message: &str) -> Result<(), OutboxError> {
        let lock = self.database.target().lock();
        loop {
            let message = message.to_owned();
            let deleting =
                self.database.write(Box::new(move |connection| Box::pin(delete_last(connection, message, lock))));
            if !deleting.await? {
                return Ok(());
            }
        }
    }

    /// The content of a message.
    pub(in crate::outbox) async fn gather<'s>(&self, stored: &'s Stored) -> Result<&'s Content, GatherError> {
        match stored {
            Stored::Whole(content) => Ok(content),
            Stored::Chunks { message, gathered } => gathered.get_or_try_init(|| self.gather_chunks(message)).await,
        }
    }

    async fn gather_chunks(&self, message: &str) -> Result<Content, GatherError> {
        let length = self.length(message.to_owned()).await?.ok_or(GatherError::Incomplete)?;
        let mut spool = self.spool.begin();
        let mut position = 0;
        while let Some(bytes) = self.chunk(message.to_owned(), position).await? {
            waiting(|| spool.write_all(&bytes))?;
            position += 1;
        }
        let content = spool.finish()?;
        if i64::try_from(content.len()) != Ok(length) {
            return Err(GatherError::Incomplete);
        }
        Ok(content)
    }

    async fn length(&self, message: String) -> Result<Option<i64>, OutboxError> {
        let reading = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let query = query("SELECT length FROM large_contents WHERE message = ?").bind(message);
                query.fetch_optional(connection).await
            })
        }));
        reading.await
    }

    async fn chunk(&self, message: String, position: i64) -> Result<Option<Vec<u8>>, OutboxError> {
        let reading = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let query = query("SELECT bytes FROM content_blocks WHERE message = ? AND position = ?");
                query.bind(message).bind(position).fetch_optional(connection).await
            })
        }));
        reading.await
    }

    /// Deletes chunks that have had no message since before `oldest`. Says of how many messages.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn sweep_chunks(&self, oldest: UnixMillis) -> Result<usize, OutboxError> {
        // An id begins with the milliseconds at which it was made (UUID version 7).
        let before = format!("{:012x}", oldest.0.max(0));
        let mut swept = 0;
        let mut after = String::new();
        loop {
            let orphans = self.orphans(after, before.clone()).await?;
            for message in &orphans {
                match self.delete_chunks(message).await {
                    Ok(()) => swept += 1,
                    // Others may go all the same, and this one next time.
                    Err(error) => tracing::warn!(message, %error, "orphaned chunks could not be deleted"),
                }
            }
            match orphans.last() {
                Some(last) if orphans.len() == SWEPT_TOGETHER => after = last.clone(),
                _ => return Ok(swept),
            }
        }
    }

    async fn orphans(&self, after: String, before: String) -> Result<Vec<String>, OutboxError> {
        let looking = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let query = query(
                    "SELECT b.message FROM content_blocks b WHERE b.position = 0 AND b.message > ? AND b.message < ? \
                     AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = b.message) ORDER BY b.message LIMIT ?",
                );
                let limit = i64::try_from(SWEPT_TOGETHER).unwrap_or(i64::MAX);
                query.bind(after).bind(before).bind(limit).fetch_all(connection).await
            })
        }));
        looking.await
    }
}

/// Looks whether all chunks of `message` are there and keeps them from being deleted; notes how long they are together.
pub(super) async fn attach(connection: &mut Connection, message: &NewMessage, lock: &str) -> Result<(), OutboxError> {
    let sql = format!("SELECT position FROM content_blocks WHERE message = ?{lock}");
    let chunks: Vec<i64> = query(sql).bind(message.id()).fetch_all(&mut *connection).await?;
    let count = u64::try_from(chunks.len()).unwrap_or(u64::MAX);
    let length = message.content.len();
    if count != length.div_ceil(u64::try_from(STORED_BYTES).unwrap_or(u64::MAX)) {
        return Err(OutboxError::Contended);
    }
    query("INSERT INTO large_contents (message, length) VALUES (?, ?)")
        .bind(message.id())
        .bind(i64::try_from(length).unwrap_or(i64::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes the last chunks of a message that was not taken in. Whether there was something to delete.
async fn delete_last(connection: &mut Connection, message: String, lock: &str) -> Result<bool, OutboxError> {
    // A concurrent request that accepts the message has locked it.
    let sql = format!("SELECT position FROM content_blocks WHERE message = ? ORDER BY position DESC LIMIT 1{lock}");
    let last: Option<i64> = query(sql).bind(&message).fetch_optional(&mut *connection).await?;
    let taken_in: i64 =
        query("SELECT COUNT(*) FROM messages WHERE id = ?").bind(&message).fetch_one(&mut *connection).await?;
    let Some(last) = last.filter(|_| taken_in == 0) else { return Ok(false) };
    query("DELETE FROM content_blocks WHERE message = ? AND position > ?")
        .bind(&message)
        .bind(last - DELETED_TOGETHER)
        .execute(connection)
        .await?;
    Ok(true)
}

fn read(content: &Content, first: i64) -> io::Result<Vec<Vec<u8>>> {
    let start = u64::try_from(first).unwrap_or_default();
    let chunk = u64::try_from(STORED_BYTES).unwrap_or(u64::MAX);
    (start..start + u64::try_from(TOGETHER).unwrap_or(u64::MAX))
        .map(|position| content.chunk(position * chunk, STORED_BYTES).map(std::borrow::Cow::into_owned))
        .filter(|read| read.as_ref().map_or(true, |bytes| !bytes.is_empty()))
        .collect()
}
