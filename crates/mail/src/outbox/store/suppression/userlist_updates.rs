//! What userlist is still to be told: who left, and whose address is gone. Kept here until it knows.
//!
//! An address goes on the suppression list and into this table in one transaction. The list works at once; userlist learns of
//! it when it can be reached, be that days later. One entry an address: the last word counts, except that a bounce does not
//! undo that somebody left.

use std::time::Duration;

use serde::Serialize;
use service_kit::time::UnixMillis;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::Reason;
use crate::outbox::store::{Outbox, OutboxError, entry::CLAIM};

/// How long userlist is told again before it is given up: 30 days. Whoever has no userlist by then has none.
const TOLD_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A user's status, as userlist knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// They want no mail.
    Unsubscribed,
    /// Mail to them comes back.
    Bounced,
}

impl Status {
    /// The word in both databases.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsubscribed => "unsubscribed",
            Self::Bounced => "bounced",
        }
    }

    /// What userlist is told for an address on the list; nothing of what an operator decides here.
    fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::Bounce => Some(Self::Bounced),
            Reason::Complaint | Reason::Unsubscribe => Some(Self::Unsubscribed),
            Reason::Manual => None,
        }
    }

    /// Whether it may take the place of `present`: a person's word is stronger than a server's.
    #[must_use]
    pub fn replaces(self, present: &str) -> bool {
        match self {
            Self::Unsubscribed => present != Self::Unsubscribed.as_str(),
            Self::Bounced => present == "active",
        }
    }
}

/// An entry that this instance is telling.
#[derive(Clone)]
pub(crate) struct UserlistUpdate {
    pub(crate) address: String,
    pub(crate) status: Status,
    pub(crate) attempts: u32,
    created: i64,
}

/// An address must not get into a log.
impl std::fmt::Debug for UserlistUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserlistUpdate")
            .field("status", &self.status)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

type Row = (String, String, i64, i64);

/// Keeps what userlist is to be told for this reason.
pub(super) async fn keep(
    connection: &mut AnyConnection,
    address: &str,
    reason: Reason,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let Some(status) = Status::of(reason) else { return Ok(()) };
    let present: Option<String> = sqlx::query_scalar("SELECT status FROM farewells WHERE address = ?")
        .bind(address)
        .fetch_optional(&mut *connection)
        .await?;
    if present.as_deref() == Some(status.as_str()) {
        return renew(connection, address, now).await;
    }
    if present.is_some_and(|present| !status.replaces(&present)) {
        return Ok(());
    }
    drop_entry(connection, address).await?;
    let insert = "INSERT INTO farewells (address, status, due_ms, created_ms) VALUES (?, ?, ?, ?)";
    sqlx::query(insert).bind(address).bind(status.as_str()).bind(now.0).bind(now.0).execute(connection).await?;
    Ok(())
}

/// The same word again: the instance that is telling userlist the one before has not told this one.
async fn renew(connection: &mut AnyConnection, address: &str, now: UnixMillis) -> Result<(), OutboxError> {
    // Later than the one before also where both come in one millisecond.
    let sql =
        "UPDATE farewells SET created_ms = CASE WHEN created_ms < ? THEN ? ELSE created_ms + 1 END WHERE address = ?";
    sqlx::query(sql).bind(now.0).bind(now.0).bind(address).execute(connection).await?;
    Ok(())
}

/// Forgets what userlist was to be told.
pub(super) async fn drop_entry(connection: &mut AnyConnection, address: &str) -> Result<(), OutboxError> {
    sqlx::query("DELETE FROM farewells WHERE address = ?").bind(address).execute(connection).await?;
    Ok(())
}

impl Outbox {
    /// The oldest entry that is due; nobody else gets it for [`CLAIM`].
    pub(crate) async fn next_userlist_update(&self) -> Result<Option<UserlistUpdate>, OutboxError> {
        let now = UnixMillis::now();
        let lock = self.database.target().for_update();
        let claiming = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT address, status, attempts, created_ms FROM farewells WHERE due_ms <= ? \
                     ORDER BY due_ms LIMIT 1{lock}"
                );
                let row: Option<Row> =
                    sqlx::query_as(AssertSqlSafe(sql)).bind(now.0).fetch_optional(&mut *connection).await?;
                let Some((address, status, attempts, created)) = row else { return Ok(None) };
                let update = sqlx::query("UPDATE farewells SET due_ms = ? WHERE address = ?");
                update.bind((now + CLAIM).0).bind(&address).execute(connection).await?;
                let left = status == Status::Unsubscribed.as_str();
                let status = if left { Status::Unsubscribed } else { Status::Bounced };
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                Ok(Some(UserlistUpdate { address, status, attempts, created }))
            })
        }));
        claiming.await
    }

    /// Userlist knows, unless there is something newer to tell. From now on a user with this address who is active was made so
    /// after they had left.
    pub(crate) async fn told(&self, farewell: &UserlistUpdate) -> Result<(), OutboxError> {
        let farewell = farewell.clone();
        let now = UnixMillis::now();
        let forgetting = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let is_newest = forget(connection, &farewell).await?;
                match is_newest && farewell.status == Status::Unsubscribed {
                    true => super::told(connection, &farewell.address, now).await,
                    false => Ok(()),
                }
            })
        }));
        forgetting.await
    }

    async fn give_up(&self, farewell: &UserlistUpdate) -> Result<(), OutboxError> {
        let farewell = farewell.clone();
        let forgetting = self.database.write(Box::new(move |connection| {
            Box::pin(async move { forget(connection, &farewell).await.map(|_| ()) })
        }));
        forgetting.await
    }

    /// Userlist does not know yet, and is told again after `wait`; `false` when that has lasted too long.
    pub(crate) async fn not_told(&self, farewell: &UserlistUpdate, wait: Duration) -> Result<bool, OutboxError> {
        let now = UnixMillis::now();
        if now.since(UnixMillis(farewell.created)) > TOLD_FOR {
            return self.give_up(farewell).await.map(|()| false);
        }
        let farewell = farewell.clone();
        let putting_off = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql =
                    "UPDATE farewells SET attempts = attempts + 1, due_ms = ? WHERE address = ? AND created_ms = ?";
                let update = sqlx::query(sql).bind((now + wait).0).bind(farewell.address).bind(farewell.created);
                update.execute(connection).await?;
                Ok(true)
            })
        }));
        putting_off.await
    }

    /// How many addresses userlist is still to be told about.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn farewells(&self) -> Result<i64, OutboxError> {
        let counting = self.database.read(Box::new(move |connection| {
            Box::pin(
                async move { Ok(sqlx::query_scalar("SELECT COUNT(*) FROM farewells").fetch_one(connection).await?) },
            )
        }));
        counting.await
    }
}

/// Whether it was still the newest word about its address.
async fn forget(connection: &mut AnyConnection, farewell: &UserlistUpdate) -> Result<bool, OutboxError> {
    let delete = sqlx::query("DELETE FROM farewells WHERE address = ? AND status = ? AND created_ms = ?");
    let delete = delete.bind(&farewell.address).bind(farewell.status.as_str()).bind(farewell.created);
    Ok(delete.execute(connection).await?.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::content::SpoolDir,
        outbox::store::{DatabaseTarget, events::Kinds},
    };

    #[tokio::test]
    async fn who_leaves_again_while_userlist_is_told_is_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = DatabaseTarget::Sqlite(dir.path().join("outbox.db"));
        let outbox = Outbox::new(place, SpoolDir::new(dir.path().to_owned()), Kinds::default());
        outbox.suppress("a@b.c", Reason::Unsubscribe, "").await.unwrap();
        let first = outbox.next_userlist_update().await.unwrap().unwrap();
        outbox.suppress("A@b.c", Reason::Unsubscribe, "").await.unwrap();
        outbox.told(&first).await.unwrap();
        assert_eq!(outbox.farewells().await.unwrap(), 1, "userlist may have called the user active in between");
    }

    #[test]
    fn a_bounce_never_undoes_that_somebody_left() {
        assert!(Status::Unsubscribed.replaces("active") && Status::Unsubscribed.replaces("bounced"));
        assert!(Status::Bounced.replaces("active") && !Status::Bounced.replaces("unsubscribed"));
        assert!(!Status::Bounced.replaces("bounced") && !Status::Unsubscribed.replaces("unsubscribed"));
    }
}
