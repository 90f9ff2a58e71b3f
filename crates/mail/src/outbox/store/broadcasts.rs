//! Broadcasts, as they are kept: what was asked for, how far it is.
//!
//! A page of users becomes messages in the same transaction in which the broadcast's position moves behind that page.
//! So after SIGKILL it goes on where it stopped: no user is left out, and none gets it twice.

mod page;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use super::{
    Outbox, OutboxError,
    entry::{CLAIM, IdempotencyKey},
    events::Kinds,
    keys,
    openapi::SkippedBy,
    skips,
    sql::{Connection, query},
    suppression::{self, NewEntry, Reason, Scope},
};

pub(crate) use page::{Outgoing, Step};

/// A broadcast as its sender sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Broadcast)]
#[serde(deny_unknown_fields)]
pub struct BroadcastView {
    /// Its id.
    #[schema(min_length = 1)]
    pub id: String,
    /// `running`, `done` (all messages are in the outbox), `cancelled` or `failed`.
    #[schema(schema_with = super::openapi::broadcast_states)]
    pub state: String,
    /// Users that userlist said there were, when it was last asked.
    #[schema(minimum = 0)]
    pub total: i64,
    /// Messages put into the outbox.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Users who get none: on the suppression list, or without an address or what the template needs.
    #[schema(minimum = 0)]
    pub skipped: i64,
    /// How many of them for each reason; empty in lists. Forgotten after `--keep`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = SkippedBy, required = false)]
    pub skipped_by: BTreeMap<String, i64>,
    /// What went wrong last; it is tried again while the state is `running`.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub error: String,
    /// When it was asked for.
    pub created_at: UnixMillis,
    /// When it last moved.
    pub changed_at: UnixMillis,
    /// Its messages by state; empty in lists.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(schema_with = super::openapi::deliveries, required = false)]
    pub deliveries: BTreeMap<String, i64>,
}

/// The answer to a broadcast that was accepted; kept for requests that come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Created {
    /// The broadcast's id.
    #[schema(min_length = 1)]
    pub id: String,
}

/// A broadcast that this instance works on.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) position: String,
    claim: String,
}

type Row = (String, String, i64, i64, i64, String, i64, i64);
const COLUMNS: &str = "id, state, total, queued, skipped, error, created_ms, changed_ms";

impl Outbox {
    /// Keeps a new broadcast; with a key that is known, answers which one it was.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`]; or the outbox cannot be used.
    pub async fn create_broadcast(
        &self,
        id: &str,
        body: String,
        key: Option<IdempotencyKey>,
    ) -> Result<Created, OutboxError> {
        let created = Created { id: id.to_owned() };
        let now = UnixMillis::now();
        let asked = key.clone();
        let creating = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                if let Some(key) = &key {
                    if let Some(before) = keys::known(connection, key, now).await? {
                        return Ok(before);
                    }
                    keys::remember(connection, key, &created, now).await?;
                }
                let sql =
                    "INSERT INTO broadcasts (id, body, state, created_ms, changed_ms) VALUES (?, ?, 'running', ?, ?)";
                query(sql).bind(&created.id).bind(body).bind(now.0).bind(now.0).execute(connection).await?;
                Ok(created)
            })
        }));
        match (creating.await, asked) {
            // Another instance was first with the same key.
            (Err(OutboxError::Contended), Some(key)) => self.recall(&key, now).await?.ok_or(OutboxError::Contended),
            (result, _) => result,
        }
    }

    /// The broadcast with this id, and how its messages are doing.
    ///
    /// # Errors
    /// There is none; or the outbox cannot be used.
    pub async fn broadcast(&self, id: &str) -> Result<BroadcastView, OutboxError> {
        let id = id.to_owned();
        let getting = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {COLUMNS} FROM broadcasts WHERE id = ?");
                let row: Option<Row> = query(sql).bind(&id).fetch_optional(&mut *connection).await?;
                let mut broadcast = view(row.ok_or(OutboxError::NotFound)?);
                let counts: Vec<(String, i64)> = query(
                    "SELECT d.state, COUNT(*) FROM deliveries d JOIN messages m ON m.id = d.message \
                     WHERE m.broadcast = ? GROUP BY d.state",
                )
                .bind(&id)
                .fetch_all(&mut *connection)
                .await?;
                broadcast.deliveries = counts.into_iter().collect();
                broadcast.skipped_by = skips::counts(connection, &id).await?;
                Ok(broadcast)
            })
        }));
        getting.await
    }

    /// The last 200 broadcasts, the newest first.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn broadcasts(&self) -> Result<Vec<BroadcastView>, OutboxError> {
        let listing = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!("SELECT {COLUMNS} FROM broadcasts ORDER BY id DESC LIMIT 200");
                let rows: Vec<Row> = query(sql).fetch_all(connection).await?;
                Ok(rows.into_iter().map(view).collect())
            })
        }));
        listing.await
    }

    /// Stops a broadcast, and takes back those of its messages that wait.
    ///
    /// # Errors
    /// There is none; or the outbox cannot be used.
    pub async fn cancel_broadcast(&self, id: &str) -> Result<(), OutboxError> {
        let id = id.to_owned();
        let now = UnixMillis::now();
        let cancelling = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let found: Option<String> =
                    query("SELECT id FROM broadcasts WHERE id = ?").bind(&id).fetch_optional(&mut *connection).await?;
                found.ok_or(OutboxError::NotFound)?;
                query("UPDATE broadcasts SET state = 'cancelled', changed_ms = ? WHERE id = ? AND state <> 'failed'")
                    .bind(now.0)
                    .bind(&id)
                    .execute(&mut *connection)
                    .await?;
                query(
                    "UPDATE deliveries SET state = 'cancelled', settled_ms = ? WHERE state = 'queued' \
                     AND claimed_until_ms <= ? AND message IN (SELECT id FROM messages WHERE broadcast = ?)",
                )
                .bind(now.0)
                .bind(now.0)
                .bind(&id)
                .execute(connection)
                .await?;
                Ok(())
            })
        }));
        cancelling.await
    }

    /// A running broadcast that no instance works on.
    pub(crate) async fn claim_broadcast(&self, claim: &str) -> Result<Option<Claimed>, OutboxError> {
        let claim = claim.to_owned();
        let now = UnixMillis::now();
        let lock = self.database.target().for_update();
        let claiming = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT id, body, position FROM broadcasts WHERE state = 'running' AND claimed_until_ms <= ? \
                     ORDER BY id LIMIT 1{lock}"
                );
                let row: Option<(String, String, String)> =
                    query(sql).bind(now.0).fetch_optional(&mut *connection).await?;
                let Some((id, body, position)) = row else { return Ok(None) };
                query("UPDATE broadcasts SET claim = ?, claimed_until_ms = ? WHERE id = ?")
                    .bind(&claim)
                    .bind((now + CLAIM).0)
                    .bind(&id)
                    .execute(connection)
                    .await?;
                Ok(Some(Claimed { id, body, position, claim }))
            })
        }));
        claiming.await
    }

    /// Puts a page's messages into the outbox and moves on; a conflict when the broadcast is not ours any more.
    pub(crate) async fn advance(&self, broadcast: &Claimed, step: Step) -> Result<(), OutboxError> {
        let broadcast = broadcast.clone();
        let now = UnixMillis::now();
        let step = Arc::new(step);
        let result = self.take_page(broadcast, now, Arc::clone(&step)).await;
        match &result {
            Ok(()) => self.wake(),
            Err(_) => step.messages.iter().for_each(|outgoing| self.discard_chunks(&outgoing.message)),
        }
        result
    }

    async fn take_page(&self, broadcast: Claimed, now: UnixMillis, step: Arc<Step>) -> Result<(), OutboxError> {
        for outgoing in &step.messages {
            self.store_chunks(&outgoing.message).await?;
        }
        let lock = self.database.target().lock();
        let advancing = self.database.write(Box::new(move |connection| {
            Box::pin(async move { page::advance(connection, &broadcast, &step, now, lock).await })
        }));
        advancing.await
    }

    /// Notes what went wrong. `until`: tried again then; `None`: given up.
    pub(crate) async fn note_failure(
        &self,
        broadcast: &Claimed,
        error: String,
        until: Option<UnixMillis>,
    ) -> Result<(), OutboxError> {
        let broadcast = broadcast.clone();
        let noting = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let state = if until.is_some() { "running" } else { "failed" };
                query(
                    "UPDATE broadcasts SET state = ?, error = ?, claimed_until_ms = ? \
                     WHERE id = ? AND claim = ? AND state = 'running'",
                )
                .bind(state)
                .bind(error)
                .bind(until.map_or(0, |until| until.0))
                .bind(&broadcast.id)
                .bind(&broadcast.claim)
                .execute(connection)
                .await?;
                Ok(())
            })
        }));
        noting.await
    }

    /// Takes the reader with this token off.
    ///
    /// # Errors
    /// No reader has it; or the outbox cannot be used.
    pub async fn unsubscribe(&self, token: &str) -> Result<(), OutboxError> {
        let token = token.to_owned();
        let now = UnixMillis::now();
        let kinds = self.kinds;
        let leaving = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let select = query("SELECT address, broadcast FROM unsubscribe_tokens WHERE token = ?");
                let row: Option<(String, String)> = select.bind(token).fetch_optional(&mut *connection).await?;
                let (address, broadcast) = row.ok_or(OutboxError::NotFound)?;
                leave(connection, address, broadcast, now, kinds).await
            })
        }));
        leaving.await
    }
}

async fn leave(
    connection: &mut Connection,
    address: String,
    broadcast: String,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    let detail = format!("broadcast {broadcast}");
    let reason = Reason::Unsubscribe;
    let scope = Scope::Broadcast;
    let entry = NewEntry { address, reason, scope, detail, broadcast: Some(broadcast) };
    suppression::add(connection, &entry, now, kinds).await
}

fn view((id, state, total, queued, skipped, error, created, changed): Row) -> BroadcastView {
    let created_at = UnixMillis(created);
    let changed_at = UnixMillis(changed);
    let skipped_by = BTreeMap::new();
    let deliveries = BTreeMap::new();
    BroadcastView { id, state, total, queued, skipped, skipped_by, error, created_at, changed_at, deliveries }
}
