//! One page of a broadcast: its messages, who gets none, and the broadcast's new position, in one transaction.

use std::collections::HashSet;

use service_kit::time::UnixMillis;

use super::Claimed;
use crate::outbox::store::{
    OutboxError, accept,
    entry::{CLAIM, NewMessage},
    skips::{self, Skip},
    sql::{Connection, query},
    suppression::{self, Stream},
};

/// The message to one user.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The user's name.
    pub(crate) user: String,
    pub(crate) message: NewMessage,
    /// For leaving.
    pub(crate) token: String,
}

impl Outgoing {
    fn address(&self) -> &str {
        self.message.recipients.first().map(|(_, address)| address.as_str()).unwrap_or_default()
    }
}

/// What one page came to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) messages: Vec<Outgoing>,
    pub(crate) skips: Vec<Skip>,
    /// When userlist was asked, and whose unsubscriptions its answer lifts.
    pub(crate) asked: Option<UnixMillis>,
    pub(crate) lifted: HashSet<String>,
    pub(crate) total: i64,
    /// Where the next page begins; `None` after the last.
    pub(crate) position: Option<String>,
}

/// Takes a page in; a conflict when the broadcast is not ours any more.
pub(super) async fn advance(
    connection: &mut Connection,
    broadcast: &Claimed,
    step: &Step,
    now: UnixMillis,
    lock: &str,
) -> Result<(), OutboxError> {
    if let Some(asked) = step.asked {
        suppression::lift(connection, &step.lifted, asked).await?;
    }
    let (queued, skipped) = take_in(connection, &broadcast.id, step, now, lock).await?;
    let (state, position) = match &step.position {
        Some(position) => ("running", position.as_str()),
        None => ("done", ""),
    };
    let done = query(
        "UPDATE broadcasts SET state = ?, position = ?, total = ?, queued = queued + ?, skipped = skipped + ?, \
         error = '', changed_ms = ?, claimed_until_ms = ? WHERE id = ? AND claim = ? AND state = 'running' AND position = ?",
    )
    .bind(state)
    .bind(position)
    .bind(step.total)
    .bind(queued)
    .bind(skipped)
    .bind(now.0)
    .bind((now + CLAIM).0)
    .bind(&broadcast.id)
    .bind(&broadcast.claim)
    .bind(&broadcast.position)
    .execute(connection)
    .await?;
    // Another instance went on, or it was cancelled: nothing of this page may stay.
    match done.rows_affected() {
        0 => Err(OutboxError::Conflict { reason: "the broadcast is not ours any more" }),
        _ => Ok(()),
    }
}

/// Takes the messages of a page in and notes who gets none; how many of each.
async fn take_in(
    connection: &mut Connection,
    broadcast: &str,
    step: &Step,
    now: UnixMillis,
    lock: &str,
) -> Result<(i64, i64), OutboxError> {
    let mut queued = 0_i64;
    let mut skipped = 0_i64;
    for skip in &step.skips {
        skips::insert(connection, broadcast, skip, now).await?;
        skipped += 1;
    }
    // Who has left since the list was asked for the page.
    let addresses: Vec<&str> = step.messages.iter().map(Outgoing::address).collect();
    let stopped = suppression::among(connection, &addresses, Stream::Broadcast).await?;
    for outgoing in &step.messages {
        let address = outgoing.address();
        if let Some(reason) = suppression::reason(&stopped, address) {
            let user = outgoing.user.clone();
            let address = address.to_owned();
            let reason = reason.to_owned();
            let skip = Skip { user, address, reason, detail: String::new() };
            skips::insert(connection, broadcast, &skip, now).await?;
            skipped += 1;
            continue;
        }
        accept::insert(connection, &outgoing.message, lock).await?;
        queued += 1;
        let insert = "INSERT INTO unsubscribe_tokens (token, address, broadcast, created_ms) VALUES (?, ?, ?, ?)";
        let insert = query(insert).bind(&outgoing.token).bind(address).bind(broadcast).bind(now.0);
        insert.execute(&mut *connection).await?;
    }
    Ok((queued, skipped))
}
