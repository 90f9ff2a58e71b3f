//! Who was left out of a broadcast, and why. Kept as long as settled messages are.

use std::collections::BTreeMap;

use serde::Serialize;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use super::{
    Outbox, OutboxError,
    sql::{Connection, placeholders, query},
};

/// The longest detail that is kept, in characters.
const DETAIL_MAX_CHARS: usize = 500;

/// A user who gets no message.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// Their name.
    pub user: String,
    /// Their address.
    pub address: String,
    /// `bounce`, `complaint`, `unsubscribe` or `manual`: what the suppression list says; `inactive`: userlist's status;
    /// `invalid_address`, `invalid_template`: no message can be made.
    #[schema(schema_with = super::openapi::skip_reasons)]
    pub reason: String,
    /// More about it; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub detail: String,
}

/// An address must not get into a log.
impl std::fmt::Debug for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Skip").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Some of a broadcast's skips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Skipped)]
#[serde(deny_unknown_fields)]
pub struct SkipPage {
    /// In the order in which they were left out.
    pub skipped: Vec<Skip>,
    /// Where the next page begins; `None` after the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Keeps one.
pub(super) async fn insert(
    connection: &mut Connection,
    broadcast: &str,
    skip: &Skip,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let detail: String = skip.detail.chars().take(DETAIL_MAX_CHARS).collect();
    query(
        "INSERT INTO broadcast_skips (broadcast, user_name, address, reason, detail, created_ms) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(broadcast)
    .bind(&skip.user)
    .bind(&skip.address)
    .bind(&skip.reason)
    .bind(detail)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many of a broadcast were left out for each reason.
pub(super) async fn counts(connection: &mut Connection, broadcast: &str) -> Result<BTreeMap<String, i64>, OutboxError> {
    let select = "SELECT reason, COUNT(*) FROM broadcast_skips WHERE broadcast = ? GROUP BY reason";
    let rows: Vec<(String, i64)> = query(select).bind(broadcast).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

/// Deletes at most `count` of those noted before `before`. Says how many.
pub(super) async fn forget_some(
    connection: &mut Connection,
    before: UnixMillis,
    count: i64,
) -> Result<u64, OutboxError> {
    let select = query("SELECT id FROM broadcast_skips WHERE created_ms < ? LIMIT ?");
    let ids: Vec<i64> = select.bind(before.0).bind(count).fetch_all(&mut *connection).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let mut query = query(format!("DELETE FROM broadcast_skips WHERE id IN ({})", placeholders(ids.len())));
    for id in ids {
        query = query.bind(id);
    }
    Ok(query.execute(connection).await?.rows_affected())
}

impl Outbox {
    /// At most `limit` of those whom a broadcast left out, after `cursor`.
    ///
    /// # Errors
    /// There is no such broadcast; or the outbox cannot be used.
    pub async fn skips(&self, broadcast: &str, cursor: i64, limit: u32) -> Result<SkipPage, OutboxError> {
        let broadcast = broadcast.to_owned();
        let mut rows = self
            .database
            .read(Box::new(move |connection| {
                Box::pin(async move {
                    let found: Option<String> = query("SELECT id FROM broadcasts WHERE id = ?")
                        .bind(&broadcast)
                        .fetch_optional(&mut *connection)
                        .await?;
                    found.ok_or(OutboxError::NotFound)?;
                    let rows: Vec<(i64, String, String, String, String)> = query(
                        "SELECT id, user_name, address, reason, detail FROM broadcast_skips \
                         WHERE broadcast = ? AND id > ? ORDER BY id LIMIT ?",
                    )
                    .bind(&broadcast)
                    .bind(cursor)
                    .bind(i64::from(limit) + 1)
                    .fetch_all(connection)
                    .await?;
                    Ok(rows)
                })
            }))
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        let next_cursor = if is_last { None } else { rows.last().map(|(id, ..)| id.to_string()) };
        let skip = |(_, user, address, reason, detail)| Skip { user, address, reason, detail };
        Ok(SkipPage { skipped: rows.into_iter().map(skip).collect(), next_cursor })
    }
}
