//! Addresses that nothing is sent to any more, or nothing of one kind: they bounced, complained, or left.
//!
//! Mail goes in two streams: *broadcast* is what a broadcast sends, *transactional* is everything else. An entry stops
//! one stream, or all mail:
//!
//! | reason | stops |
//! |---|---|
//! | `bounce`, `complaint` | all mail |
//! | `unsubscribe` | broadcasts: who leaves a newsletter still gets a password reset |
//! | `manual` | all mail, or the stream that the operator names |
//!
//! The table `suppressions` has the entries that stop all mail, and `unsubscribe` of before there were streams, which
//! stops broadcasts. `stream_suppressions` has the entries of one stream.
//!
//! The list is asked twice: when a message is accepted, and when it is about to leave, which can be days later.
//!
//! *Lifting.* An unsubscription ends when userlist says that the user is active again. It must have had the
//! unsubscription before it was asked: until then "active" may be out of date. Bounces, complaints and what an
//! operator entered stay until an operator removes them.

mod entry;
mod stream;
pub mod userlist_updates;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::Serialize;
use service_kit::{email::EmailAddress, time::UnixMillis};
use utoipa::ToSchema;

use super::{
    Outbox, OutboxError,
    entry::Candidate,
    events::{self, EventKind, Kinds},
    sql::{Connection, placeholders, query},
};

pub(crate) use entry::NewEntry;
pub(super) use entry::add;
pub use stream::{Reason, Scope, Stream};

/// How far the clocks of two instances may be apart: userlist must have had the unsubscription so long before it was
/// asked.
const CLOCKS_APART: Duration = Duration::from_secs(2);

/// An address on the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suppression {
    /// In lower case: the list does not tell `A@b.c` from `a@b.c`, though a server might.
    pub address: String,
    /// What it stops: `all`, `broadcast` or `transactional`.
    #[schema(value_type = Scope)]
    pub stream: String,
    /// Why.
    #[schema(value_type = Reason)]
    pub reason: String,
    /// In whose words.
    pub detail: String,
    /// Since when.
    pub created_at: UnixMillis,
}

/// What the list says about the addresses of a broadcast's page.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// The key of each address that gets none, with the reason.
    pub(crate) stopped: HashMap<String, String>,
    /// Keys of unsubscriptions that the user's being active again lifts.
    pub(crate) lifted: HashSet<String>,
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verdicts").field("stopped", &self.stopped.len()).finish_non_exhaustive()
    }
}

/// How an address is looked up.
pub(crate) fn key(address: &str) -> String {
    address.parse::<EmailAddress>().map_or_else(|_| address.to_lowercase(), |email| email.key())
}

/// Why nothing goes to `address`, if it is one of those that were found [`among`] others. Finding out its key costs
/// more than most look-ups, and hardly any address is on the list.
pub(super) fn reason<'s>(stopped: &'s HashMap<String, String>, address: &str) -> Option<&'s str> {
    if stopped.is_empty() { None } else { stopped.get(&key(address)).map(String::as_str) }
}

/// Which of `addresses` get nothing of this stream: their keys, with the reason.
pub(super) async fn among(
    connection: &mut Connection,
    addresses: &[&str],
    stream: Stream,
) -> Result<HashMap<String, String>, OutboxError> {
    if addresses.is_empty() {
        return Ok(HashMap::new());
    }
    let these = placeholders(addresses.len());
    let of_all = match stream {
        Stream::Broadcast => "",
        Stream::Transactional => " AND reason <> 'unsubscribe'",
    };
    let sql = format!(
        "SELECT address, reason FROM suppressions WHERE address IN ({these}){of_all} \
         UNION ALL SELECT address, reason FROM stream_suppressions WHERE address IN ({these}) AND stream = ?"
    );
    let mut query = query(sql);
    let keys: Vec<String> = addresses.iter().map(|address| key(address)).collect();
    for key in keys.iter().chain(&keys) {
        query = query.bind(key);
    }
    Ok(query.bind(stream.as_str()).fetch_all(connection).await?.into_iter().collect())
}

/// Settles those of `rows` that are about to leave and whose address gets nothing any more; the others, and how many
/// not.
pub(super) async fn withhold(
    connection: &mut Connection,
    rows: Vec<Candidate>,
    stream: Stream,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(Vec<Candidate>, usize), OutboxError> {
    let addresses: Vec<&str> = rows.iter().map(|row| row.recipient.as_str()).collect();
    let stopped = among(connection, &addresses, stream).await?;
    let (withheld, leaving): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| reason(&stopped, &row.recipient).is_some());
    for row in &withheld {
        let reason = reason(&stopped, &row.recipient).unwrap_or_default();
        mark_suppressed(connection, row.delivery, reason, now, kinds).await?;
    }
    Ok((leaving, withheld.len()))
}

/// Settles a delivery that this transaction has locked and whose address gets nothing any more.
pub(super) async fn mark_suppressed(
    connection: &mut Connection,
    delivery: i64,
    reason: &str,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    query(
        "UPDATE deliveries SET state = 'suppressed', claim = '', claimed_until_ms = 0, outcome = 'suppressed', \
         reply = ?, settled_ms = ? WHERE id = ?",
    )
    .bind(reason)
    .bind(now.0)
    .bind(delivery)
    .execute(&mut *connection)
    .await?;
    events::of_delivery(connection, delivery, EventKind::Failed, now, kinds).await
}

/// Notes that userlist has the unsubscription.
pub(super) async fn note_unsubscription_sent(
    connection: &mut Connection,
    key: &str,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let sql = "UPDATE stream_suppressions SET told_ms = ? WHERE address = ? AND reason = 'unsubscribe'";
    query(sql).bind(now.0).bind(key).execute(connection).await?;
    Ok(())
}

/// Lifts unsubscriptions whose users are active again, as userlist said when it was asked at `asked`.
pub(super) async fn lift(
    connection: &mut Connection,
    keys: &HashSet<String>,
    asked: UnixMillis,
) -> Result<(), OutboxError> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "DELETE FROM stream_suppressions WHERE stream = 'broadcast' AND reason = 'unsubscribe' AND told_ms > 0 \
         AND told_ms < ? AND address IN ({})",
        placeholders(keys.len())
    );
    let mut query = query(sql).bind((asked - CLOCKS_APART).0);
    for key in keys {
        query = query.bind(key);
    }
    query.execute(connection).await?;
    Ok(())
}

impl Outbox {
    /// Puts an address on the list, for what its reason stops.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn suppress(&self, address: &str, reason: Reason, detail: &str) -> Result<(), OutboxError> {
        self.suppress_for(address, reason, reason.scope(), detail).await
    }

    /// Puts an address on the list, for `scope`. An unsubscription is one from broadcasts.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn suppress_for(
        &self,
        address: &str,
        reason: Reason,
        scope: Scope,
        detail: &str,
    ) -> Result<(), OutboxError> {
        let address = address.to_owned();
        let detail = detail.to_owned();
        let now = UnixMillis::now();
        let kinds = self.kinds;
        let entry = NewEntry { address, reason, scope, detail, broadcast: None };
        let adding = self
            .database
            .write(Box::new(move |connection| Box::pin(async move { add(connection, &entry, now, kinds).await })));
        adding.await
    }

    /// Takes an address off the list, for all mail. An update for userlist that has not been sent is dropped.
    ///
    /// # Errors
    /// It is not on it; or the outbox cannot be used.
    pub async fn unsuppress(&self, address: &str) -> Result<(), OutboxError> {
        let key = key(address);
        let removing = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                userlist_updates::drop_entry(connection, &key).await?;
                let mut removed = 0;
                for table in ["suppressions", "stream_suppressions"] {
                    let delete = format!("DELETE FROM {table} WHERE address = ?");
                    let done = query(delete).bind(&key).execute(&mut *connection).await?;
                    removed += done.rows_affected();
                }
                if removed == 0 { Err(OutboxError::NotFound) } else { Ok(()) }
            })
        }));
        removing.await
    }

    /// Which of `addresses`, all of active users as userlist said at `asked`, get no broadcasts, and whose
    /// unsubscriptions that lifts.
    pub(crate) async fn broadcast_verdicts(
        &self,
        addresses: Vec<String>,
        asked: UnixMillis,
    ) -> Result<Verdicts, OutboxError> {
        let asking = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let keys: Vec<String> = addresses.iter().map(|address| key(address)).collect();
                verdicts(connection, &keys, asked).await
            })
        }));
        asking.await
    }

    /// At most `limit` entries of the list, in the order of their addresses and streams, after `after`, an address and
    /// a stream.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn suppressions(&self, after: (&str, &str), limit: u32) -> Result<Vec<Suppression>, OutboxError> {
        const FOR_ALL: &str = "SELECT address, CASE reason WHEN 'unsubscribe' THEN 'broadcast' ELSE 'all' END, reason, \
                               detail, created_ms FROM suppressions WHERE address >= ? ORDER BY address LIMIT ?";
        const FOR_STREAM: &str = "SELECT address, stream, reason, detail, created_ms FROM stream_suppressions \
                                  WHERE address >= ? ORDER BY address, stream LIMIT ?";
        let after = (after.0.to_owned(), after.1.to_owned());
        let address = after.0.clone();
        let mut rows: Vec<(String, String, String, String, i64)> = self
            .database
            .read(Box::new(move |connection| {
                Box::pin(async move {
                    let mut rows = Vec::new();
                    for select in [FOR_ALL, FOR_STREAM] {
                        // Up to two of the address itself were shown before.
                        let page = query(select).bind(&address).bind(i64::from(limit) + 2);
                        rows.extend(page.fetch_all(&mut *connection).await?);
                    }
                    Ok(rows)
                })
            }))
            .await?;
        rows.retain(|(address, stream, ..)| (address.as_str(), stream.as_str()) > (after.0.as_str(), after.1.as_str()));
        rows.sort_unstable();
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let entry = |(address, stream, reason, detail, created)| Suppression {
            address,
            stream,
            reason,
            detail,
            created_at: UnixMillis(created),
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

async fn verdicts(connection: &mut Connection, keys: &[String], asked: UnixMillis) -> Result<Verdicts, OutboxError> {
    if keys.is_empty() {
        return Ok(Verdicts::default());
    }
    let these = placeholders(keys.len());
    let sql = format!(
        "SELECT address, reason, 0 FROM suppressions WHERE address IN ({these}) UNION ALL \
         SELECT address, reason, told_ms FROM stream_suppressions WHERE address IN ({these}) AND stream = 'broadcast'"
    );
    let mut query = query(sql);
    for key in keys.iter().chain(keys) {
        query = query.bind(key);
    }
    let mut verdicts = Verdicts::default();
    for (address, reason, sent) in query.fetch_all(connection).await? {
        let is_lifted = reason == Reason::Unsubscribe.as_str() && sent > 0 && UnixMillis(sent) < asked - CLOCKS_APART;
        match is_lifted {
            true => _ = verdicts.lifted.insert(address),
            false => _ = verdicts.stopped.insert(address, reason),
        }
    }
    Ok(verdicts)
}
