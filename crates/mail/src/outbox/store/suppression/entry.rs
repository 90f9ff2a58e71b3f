//! Putting an address on the list, in the transaction of what reported it.

use service_kit::time::UnixMillis;

use super::{Reason, Scope, key, userlist_updates};
use crate::outbox::store::{
    OutboxError,
    events::{self, Kinds},
    sql::{Connection, query},
};

/// An entry to be added.
#[derive(Clone)]
pub(crate) struct NewEntry {
    pub(crate) address: String,
    pub(crate) reason: Reason,
    pub(crate) scope: Scope,
    pub(crate) detail: String,
    /// The broadcast whose link was used.
    pub(crate) broadcast: Option<String>,
}

/// An address must not get into a log.
impl std::fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewEntry").field("reason", &self.reason).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Puts an address on the list; the first reason for a stream stays, except that an operator's replaces an
/// unsubscription. What the address's owner or its server said becomes an update for userlist.
pub(in crate::outbox) async fn add(
    connection: &mut Connection,
    entry: &NewEntry,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    let key = key(&entry.address);
    userlist_updates::keep(connection, &key, entry.reason, now).await?;
    let is_new = match entry.scope {
        Scope::All => add_for_all(connection, &key, entry, now).await?,
        Scope::Broadcast | Scope::Transactional => add_for_stream(connection, &key, entry, now).await?,
    };
    match entry.reason.event() {
        Some(kind) if is_new => {
            let broadcast = entry.broadcast.as_deref();
            events::of_address(connection, kind, &entry.address, &entry.detail, broadcast, now, kinds).await
        }
        Some(_) | None => Ok(()),
    }
}

async fn add_for_all(
    connection: &mut Connection,
    key: &str,
    entry: &NewEntry,
    now: UnixMillis,
) -> Result<bool, OutboxError> {
    let present = reason_for_all(connection, key).await?;
    if present.as_deref() == Some(Reason::Unsubscribe.as_str()) {
        move_unsubscription(connection, key).await?;
    } else if present.is_some() {
        return Ok(false);
    }
    query("INSERT INTO suppressions (address, reason, detail, created_ms) VALUES (?, ?, ?, ?)")
        .bind(key)
        .bind(entry.reason.as_str())
        .bind(&entry.detail)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(true)
}

async fn add_for_stream(
    connection: &mut Connection,
    key: &str,
    entry: &NewEntry,
    now: UnixMillis,
) -> Result<bool, OutboxError> {
    if reason_for_all(connection, key).await?.as_deref() == Some(Reason::Unsubscribe.as_str()) {
        move_unsubscription(connection, key).await?;
    }
    let present: Option<(String, i64)> =
        query("SELECT reason, told_ms FROM stream_suppressions WHERE address = ? AND stream = ?")
            .bind(key)
            .bind(entry.scope.as_str())
            .fetch_optional(&mut *connection)
            .await?;
    let Some((reason, sent)) = present else {
        insert_for_stream(connection, key, entry, now).await?;
        return Ok(true);
    };
    // What an operator enters stays until an operator removes it: userlist does not lift it, as it would the
    // unsubscription.
    if entry.reason == Reason::Manual && reason == Reason::Unsubscribe.as_str() {
        replace_for_stream(connection, key, entry).await?;
        return Ok(false);
    }
    // The user may have been active in between: userlist must have this unsubscription before an active user lifts it.
    query("UPDATE stream_suppressions SET told_ms = 0 WHERE address = ? AND stream = ?")
        .bind(key)
        .bind(entry.scope.as_str())
        .execute(connection)
        .await?;
    Ok(sent > 0)
}

async fn insert_for_stream(
    connection: &mut Connection,
    key: &str,
    entry: &NewEntry,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    query("INSERT INTO stream_suppressions (address, stream, reason, detail, created_ms) VALUES (?, ?, ?, ?, ?)")
        .bind(key)
        .bind(entry.scope.as_str())
        .bind(entry.reason.as_str())
        .bind(&entry.detail)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn replace_for_stream(connection: &mut Connection, key: &str, entry: &NewEntry) -> Result<(), OutboxError> {
    query("UPDATE stream_suppressions SET reason = ?, detail = ? WHERE address = ? AND stream = ?")
        .bind(entry.reason.as_str())
        .bind(&entry.detail)
        .bind(key)
        .bind(entry.scope.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn reason_for_all(connection: &mut Connection, key: &str) -> Result<Option<String>, OutboxError> {
    let select = query("SELECT reason FROM suppressions WHERE address = ?").bind(key);
    select.fetch_optional(connection).await
}

/// An unsubscription of before there were streams goes where those of today are.
async fn move_unsubscription(connection: &mut Connection, key: &str) -> Result<(), OutboxError> {
    query(
        "INSERT INTO stream_suppressions (address, stream, reason, detail, created_ms) \
         SELECT s.address, 'broadcast', s.reason, s.detail, s.created_ms FROM suppressions s WHERE s.address = ? \
         AND NOT EXISTS (SELECT 1 FROM stream_suppressions o WHERE o.address = s.address AND o.stream = 'broadcast')",
    )
    .bind(key)
    .execute(&mut *connection)
    .await?;
    query("DELETE FROM suppressions WHERE address = ?").bind(key).execute(connection).await?;
    Ok(())
}
