//! Status changes for userlist (unsubscribed, bounced), kept until userlist has them.
//!
//! An address goes on the suppression list and into this table in one transaction. The list works at once; userlist
//! gets the change when it can be reached, which can be days later. There is one entry for each address: the newest
//! change counts, except that a bounce does not replace an unsubscription. The table is called `farewells`.

use std::time::Duration;

use serde::Serialize;
use service_kit::time::UnixMillis;

use super::Reason;
use crate::outbox::store::{
    Outbox, OutboxError,
    entry::CLAIM,
    sql::{Connection, query},
};

/// How long an update is retried before it is dropped: 30 days. An operator without userlist has none.
const RETRIED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A user's status in userlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The user wants no mail.
    Unsubscribed,
    /// Mail to the user's address comes back.
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

    /// The status for an address on the list; `None` for what an operator decides here.
    fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::Bounce => Some(Self::Bounced),
            Reason::Complaint | Reason::Unsubscribe => Some(Self::Unsubscribed),
            Reason::Manual => None,
        }
    }

    /// Whether it may replace `present`: a person's decision is stronger than a server's reply.
    #[must_use]
    pub fn replaces(self, present: &str) -> bool {
        match self {
            Self::Unsubscribed => present != Self::Unsubscribed.as_str(),
            Self::Bounced => present == "active",
        }
    }
}

/// An update that this instance is sending.
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

/// Stores the update for this reason, if there is one.
pub(super) async fn keep(
    connection: &mut Connection,
    address: &str,
    reason: Reason,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let Some(status) = Status::of(reason) else { return Ok(()) };
    let present: Option<String> =
        query("SELECT status FROM farewells WHERE address = ?").bind(address).fetch_optional(&mut *connection).await?;
    if present.as_deref() == Some(status.as_str()) {
        return renew(connection, address, now).await;
    }
    if present.is_some_and(|present| !status.replaces(&present)) {
        return Ok(());
    }
    drop_entry(connection, address).await?;
    let insert = "INSERT INTO farewells (address, status, due_ms, created_ms) VALUES (?, ?, ?, ?)";
    query(insert).bind(address).bind(status.as_str()).bind(now.0).bind(now.0).execute(connection).await?;
    Ok(())
}

/// The same status again: an instance that is sending the earlier one has not sent this one.
async fn renew(connection: &mut Connection, address: &str, now: UnixMillis) -> Result<(), OutboxError> {
    // Later than the one before also where both come in one millisecond.
    let sql =
        "UPDATE farewells SET created_ms = CASE WHEN created_ms < ? THEN ? ELSE created_ms + 1 END WHERE address = ?";
    query(sql).bind(now.0).bind(now.0).bind(address).execute(connection).await?;
    Ok(())
}

/// Deletes the update for an address.
pub(super) async fn drop_entry(connection: &mut Connection, address: &str) -> Result<(), OutboxError> {
    query("DELETE FROM farewells WHERE address = ?").bind(address).execute(connection).await?;
    Ok(())
}

impl Outbox {
    /// The oldest update that is due; no other instance gets it for [`CLAIM`].
    pub(crate) async fn next_userlist_update(&self) -> Result<Option<UserlistUpdate>, OutboxError> {
        let now = UnixMillis::now();
        let lock = self.database.target().for_update();
        let claiming = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT address, status, attempts, created_ms FROM farewells WHERE due_ms <= ? \
                     ORDER BY due_ms LIMIT 1{lock}"
                );
                let row: Option<Row> = query(sql).bind(now.0).fetch_optional(&mut *connection).await?;
                let Some((address, status, attempts, created)) = row else { return Ok(None) };
                let query = query("UPDATE farewells SET due_ms = ? WHERE address = ?");
                query.bind((now + CLAIM).0).bind(&address).execute(connection).await?;
                let left = status == Status::Unsubscribed.as_str();
                let status = if left { Status::Unsubscribed } else { Status::Bounced };
                let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
                Ok(Some(UserlistUpdate { address, status, attempts, created }))
            })
        }));
        claiming.await
    }

    /// Userlist has the update: deletes it, unless there is a newer one. From now on a user with this address who is
    /// active became active after unsubscribing.
    pub(crate) async fn confirm(&self, update: &UserlistUpdate) -> Result<(), OutboxError> {
        let update = update.clone();
        let now = UnixMillis::now();
        let forgetting = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let is_newest = forget(connection, &update).await?;
                match is_newest && update.status == Status::Unsubscribed {
                    true => super::note_unsubscription_sent(connection, &update.address, now).await,
                    false => Ok(()),
                }
            })
        }));
        forgetting.await
    }

    async fn give_up(&self, update: &UserlistUpdate) -> Result<(), OutboxError> {
        let update = update.clone();
        let forgetting = self
            .database
            .write(Box::new(move |connection| Box::pin(async move { forget(connection, &update).await.map(|_| ()) })));
        forgetting.await
    }

    /// Userlist could not take the update: it is due again after `wait`; `false` when it was retried for too long.
    pub(crate) async fn postpone(&self, update: &UserlistUpdate, wait: Duration) -> Result<bool, OutboxError> {
        let now = UnixMillis::now();
        if now.since(UnixMillis(update.created)) > RETRIED_FOR {
            return self.give_up(update).await.map(|()| false);
        }
        let update = update.clone();
        let putting_off = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql =
                    "UPDATE farewells SET attempts = attempts + 1, due_ms = ? WHERE address = ? AND created_ms = ?";
                let query = query(sql).bind((now + wait).0).bind(update.address).bind(update.created);
                query.execute(connection).await?;
                Ok(true)
            })
        }));
        putting_off.await
    }

    /// How many updates wait.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn userlist_updates_waiting(&self) -> Result<i64, OutboxError> {
        let counting = self.database.read(Box::new(move |connection| {
            Box::pin(async move { query("SELECT COUNT(*) FROM farewells").fetch_one(connection).await })
        }));
        counting.await
    }
}

/// Whether it was still the newest update of its address.
async fn forget(connection: &mut Connection, update: &UserlistUpdate) -> Result<bool, OutboxError> {
    let delete = query("DELETE FROM farewells WHERE address = ? AND status = ? AND created_ms = ?");
    let delete = delete.bind(&update.address).bind(update.status.as_str()).bind(update.created);
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
    async fn an_unsubscription_during_an_update_is_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = DatabaseTarget::Sqlite(dir.path().join("outbox.db"));
        let outbox = Outbox::new(place, SpoolDir::new(dir.path().to_owned()), Kinds::default());
        outbox.suppress("a@b.c", Reason::Unsubscribe, "").await.unwrap();
        let first = outbox.next_userlist_update().await.unwrap().unwrap();
        outbox.suppress("A@b.c", Reason::Unsubscribe, "").await.unwrap();
        outbox.confirm(&first).await.unwrap();
        assert_eq!(
            outbox.userlist_updates_waiting().await.unwrap(),
            1,
            "userlist may have called the user active in between"
        );
    }

    #[test]
    fn a_bounce_never_replaces_an_unsubscription() {
        assert!(Status::Unsubscribed.replaces("active") && Status::Unsubscribed.replaces("bounced"));
        assert!(Status::Bounced.replaces("active") && !Status::Bounced.replaces("unsubscribed"));
        assert!(!Status::Bounced.replaces("bounced") && !Status::Unsubscribed.replaces("unsubscribed"));
    }
}
