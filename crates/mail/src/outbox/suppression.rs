//! Addresses that nothing is sent to any more: they bounced, complained, or left.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Outbox, OutboxError, farewell};
use crate::clock::Moment;

/// Why nothing is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Mail to it came back for good.
    Bounce,
    /// Its owner called our mail spam.
    Complaint,
    /// Its owner left.
    Unsubscribe,
    /// An operator said so.
    Manual,
}

impl Reason {
    /// The word in the database and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::Unsubscribe => "unsubscribe",
            Self::Manual => "manual",
        }
    }
}

/// An address on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suppression {
    /// In lower case: the list does not tell `A@b.c` from `a@b.c`, though a server might.
    pub address: String,
    /// Why.
    pub reason: String,
    /// In whose words.
    pub detail: String,
    /// Since when.
    pub created_at: Moment,
}

/// How an address is looked up.
pub(super) fn key(address: &str) -> String {
    address.to_lowercase()
}

/// Which of `addresses` are on the list, as their keys.
pub(super) async fn among(connection: &mut AnyConnection, addresses: &[&str]) -> Result<HashSet<String>, OutboxError> {
    if addresses.is_empty() {
        return Ok(HashSet::new());
    }
    let marks = vec!["?"; addresses.len()].join(", ");
    let sql = format!("SELECT address FROM suppressions WHERE address IN ({marks})");
    let mut query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
    for address in addresses {
        query = query.bind(key(address));
    }
    Ok(query.fetch_all(connection).await?.into_iter().collect())
}

/// Puts an address on the list; the first reason stays. Userlist is told of what the address's owner, or its server, said.
pub(super) async fn add(
    connection: &mut AnyConnection,
    address: &str,
    reason: Reason,
    detail: &str,
    now: Moment,
) -> Result<(), OutboxError> {
    let key = key(address);
    farewell::keep(connection, &key, reason, now).await?;
    if !among(connection, &[address]).await?.is_empty() {
        return Ok(());
    }
    sqlx::query("INSERT INTO suppressions (address, reason, detail, created_ms) VALUES (?, ?, ?, ?)")
        .bind(key)
        .bind(reason.as_str())
        .bind(detail)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

impl Outbox {
    /// Puts an address on the list.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn suppress(&self, address: &str, reason: Reason, detail: &str) -> Result<(), OutboxError> {
        let (address, detail, now) = (address.to_owned(), detail.to_owned(), Moment::now());
        let adding = self.database.write(Box::new(move |connection| {
            Box::pin(async move { add(connection, &address, reason, &detail, now).await })
        }));
        adding.await
    }

    /// Takes an address off the list. Userlist is not told any more what it has not been told.
    ///
    /// # Errors
    /// It is not on it; or the outbox cannot be used.
    pub async fn unsuppress(&self, address: &str) -> Result<(), OutboxError> {
        let key = key(address);
        let removing = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                farewell::drop_entry(connection, &key).await?;
                let done =
                    sqlx::query("DELETE FROM suppressions WHERE address = ?").bind(key).execute(connection).await?;
                if done.rows_affected() == 0 { Err(OutboxError::NotFound) } else { Ok(()) }
            })
        }));
        removing.await
    }

    /// At most `limit` of the list, in the order of their addresses, after `after`.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn suppressions(&self, after: &str, limit: u32) -> Result<Vec<Suppression>, OutboxError> {
        let after = after.to_owned();
        let rows: Vec<(String, String, String, i64)> = self
            .database
            .read(Box::new(move |connection| {
                Box::pin(async move {
                    let page = sqlx::query_as(
                        "SELECT address, reason, detail, created_ms FROM suppressions WHERE address > ? \
                         ORDER BY address LIMIT ?",
                    );
                    Ok(page.bind(after).bind(i64::from(limit)).fetch_all(connection).await?)
                })
            }))
            .await?;
        let entry =
            |(address, reason, detail, created)| Suppression { address, reason, detail, created_at: Moment(created) };
        Ok(rows.into_iter().map(entry).collect())
    }
}
