//! Looking at what is in the outbox, and changing one's mind about it.

use serde::Serialize;
use service_kit::time::UnixMillis;
use utoipa::ToSchema;

use super::{
    Outbox, OutboxError,
    chunks::GatherError,
    claim::shown,
    entry::{State, Stored},
    labels::{self, Labels},
    sql::{Connection, query},
    suppression,
};
use crate::message::content::Content;

/// A message as its sender sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MessageView {
    /// Its id.
    #[schema(min_length = 1)]
    pub id: String,
    /// Its Message-ID header.
    pub message_id: String,
    /// `queued` while any recipient is; then `delivered`, `failed`, `cancelled` or `suppressed` when all are, and else
    /// `partial`.
    #[schema(schema_with = super::openapi::message_states)]
    pub state: &'static str,
    /// The envelope's sender.
    pub from: String,
    /// Its subject.
    pub subject: String,
    /// When it was accepted.
    pub created_at: UnixMillis,
    /// The broadcast that it belongs to.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(min_length = 1, required = false)]
    pub broadcast: String,
    /// What it is found by.
    #[serde(flatten)]
    #[schema(ignore)]
    pub labels: Labels,
    /// How it stands with each.
    pub recipients: Vec<RecipientView>,
}

/// One recipient's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Recipient)]
#[serde(deny_unknown_fields)]
pub struct RecipientView {
    #[serde(skip)]
    delivery: i64,
    /// Whom.
    pub address: String,
    /// `to`, `cc` or `bcc`.
    #[schema(schema_with = super::openapi::kinds)]
    pub kind: String,
    /// How far it is.
    pub state: State,
    /// Why nothing is sent there: the suppression list's reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub reason: String,
    /// How many times it has been tried.
    #[schema(minimum = 0)]
    pub attempts: i64,
    /// When it is tried next, while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next_attempt_at: Option<UnixMillis>,
    /// When it is given up, while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expires_at: Option<UnixMillis>,
    /// When its state became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub settled_at: Option<UnixMillis>,
    /// Each attempt; empty in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub log: Vec<AttemptView>,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Attempt)]
#[serde(deny_unknown_fields)]
pub struct AttemptView {
    /// When it began.
    pub at: UnixMillis,
    /// How long it took.
    #[schema(minimum = 0)]
    pub took_ms: i64,
    /// `sent`, or how it failed.
    pub outcome: String,
    /// The SMTP server's words.
    pub reply: String,
}

/// Which messages to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those with a recipient in this state.
    pub state: Option<State>,
    /// Those to this address, however it is spelt.
    pub recipient: Option<String>,
    /// Those of this broadcast.
    pub broadcast: Option<String>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those with all of this metadata, names and values.
    pub metadata: Vec<(String, String)>,
    /// Those accepted before this one.
    pub before: Option<String>,
    /// At most so many.
    pub limit: u32,
}

type MessageRow = (String, String, String, String, i64, String);
type DeliveryRow = (i64, String, String, String, i64, i64, i64, i64, i64, String);

impl Outbox {
    /// The message with this id.
    ///
    /// # Errors
    /// There is none; or the outbox cannot be used.
    pub async fn get(&self, id: &str) -> Result<MessageView, OutboxError> {
        let id = id.to_owned();
        let now = UnixMillis::now();
        let getting = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let row: Option<MessageRow> =
                    query("SELECT id, message_id, sender, subject, created_ms, broadcast FROM messages WHERE id = ?")
                        .bind(id)
                        .fetch_optional(&mut *connection)
                        .await?;
                let mut message = with_recipients(connection, row.ok_or(OutboxError::NotFound)?, now).await?;
                for recipient in &mut message.recipients {
                    recipient.log = log(connection, recipient.delivery).await?;
                }
                Ok(message)
            })
        }));
        getting.await
    }

    /// Messages, the newest first.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn list(&self, filter: Filter) -> Result<Vec<MessageView>, OutboxError> {
        let now = UnixMillis::now();
        let listing = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let (sql, values) = select(&filter, now);
                let mut query = query(sql);
                for value in values {
                    query = match value {
                        Value::Text(text) => query.bind(text),
                        Value::Number(number) => query.bind(number),
                    };
                }
                let rows = query.bind(i64::from(filter.limit)).fetch_all(&mut *connection).await?;
                let mut messages = Vec::with_capacity(rows.len());
                for row in rows {
                    messages.push(with_recipients(connection, row, now).await?);
                }
                Ok(messages)
            })
        }));
        listing.await
    }

    /// Takes back whatever of a message is not being sent at this moment.
    ///
    /// # Errors
    /// There is no such message, or nothing of it is left to take back; or the outbox cannot be used.
    pub async fn cancel(&self, id: &str) -> Result<(), OutboxError> {
        const SQL: &str = "UPDATE deliveries SET state = 'cancelled', settled_ms = ? \
                           WHERE message = ? AND state = 'queued' AND claimed_until_ms <= ?";
        let id = id.to_owned();
        let now = UnixMillis::now();
        let cancelling = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let done = query(SQL).bind(now.0).bind(&id).bind(now.0).execute(&mut *connection).await?;
                if done.rows_affected() > 0 {
                    return Ok(());
                }
                exists(connection, &id).await?;
                Err(OutboxError::Conflict { reason: "no recipient of this message is waiting any more" })
            })
        }));
        cancelling.await
    }

    /// Tries whatever failed, was cancelled or waits, at once and for as long as a new message; workers do, also for
    /// one that was to be sent while its client waited.
    ///
    /// # Errors
    /// There is no such message, or all of it was delivered; or the outbox cannot be used.
    pub async fn requeue(&self, id: &str, expires: UnixMillis) -> Result<(), OutboxError> {
        const SQL: &str = "UPDATE deliveries SET state = 'queued', due_ms = ?, expires_ms = ?, settled_ms = 0, \
                           claim = '', claimed_until_ms = 0, bulk = CASE bulk WHEN 2 THEN 0 ELSE bulk END \
                           WHERE message = ? AND state IN ('queued', 'failed', 'cancelled') AND claimed_until_ms <= ?";
        let id = id.to_owned();
        let now = UnixMillis::now();
        let requeueing = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let update = query(SQL).bind(now.0).bind(expires.0).bind(&id).bind(now.0);
                if update.execute(&mut *connection).await?.rows_affected() > 0 {
                    return Ok(());
                }
                exists(connection, &id).await?;
                Err(OutboxError::Conflict { reason: "no recipient of this message failed, was cancelled or waits" })
            })
        }));
        requeueing.await?;
        self.wake();
        Ok(())
    }
}

impl Outbox {
    /// The whole message: headers and body, as bytes.
    ///
    /// # Errors
    /// There is none; part of it is missing; or the outbox, or the folder for large messages, cannot be used.
    pub async fn content(&self, id: &str) -> Result<Content, OutboxError> {
        let id = id.to_owned();
        let reading = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let select = query("SELECT id, content FROM messages WHERE id = ?").bind(id);
                let row: Option<(String, Vec<u8>)> = select.fetch_optional(connection).await?;
                row.map(|(id, content)| Stored::new(&id, content)).ok_or(OutboxError::NotFound)
            })
        }));
        let stored = reading.await?;
        self.gather(&stored).await.cloned().map_err(|error| match error {
            GatherError::Outbox(error) => error,
            other => OutboxError::Unavailable { reason: service_kit::chain(&other).to_string() },
        })
    }
}

async fn exists(connection: &mut Connection, id: &str) -> Result<(), OutboxError> {
    let found: Option<String> =
        query("SELECT id FROM messages WHERE id = ?").bind(id).fetch_optional(connection).await?;
    found.map(|_| ()).ok_or(OutboxError::NotFound)
}

/// A value for a `?`.
enum Value {
    Text(String),
    Number(i64),
}

/// The statement, and the values for all of its marks but the last, which is the limit.
fn select(filter: &Filter, now: UnixMillis) -> (String, Vec<Value>) {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    if let Some(before) = &filter.before {
        conditions.push("m.id < ?".to_owned());
        values.push(Value::Text(before.clone()));
    }
    if let Some(broadcast) = &filter.broadcast {
        conditions.push("m.broadcast = ?".to_owned());
        values.push(Value::Text(broadcast.clone()));
    }
    let metadata = filter.metadata.iter().map(|(name, value)| (labels::metadata_name(name), value.clone()));
    for (name, value) in filter.tag.iter().map(|tag| labels::of_tag(tag)).chain(metadata) {
        conditions.push(labels::CONDITION.to_owned());
        values.extend([Value::Text(name), Value::Text(value)]);
    }
    let mut of_delivery = Vec::new();
    if let Some(state) = filter.state {
        let stored = if state == State::Sending { State::Queued } else { state };
        of_delivery.push("d.state = ?");
        values.push(Value::Text(stored.as_str().to_owned()));
        if state == State::Sending {
            of_delivery.push("d.claimed_until_ms > ?");
            values.push(Value::Number(now.0));
        }
    }
    if let Some(recipient) = &filter.recipient {
        // All of them are ASCII, of which LOWER makes in both databases what a key is.
        of_delivery.push("LOWER(d.recipient) = ?");
        values.push(Value::Text(suppression::key(recipient)));
    }
    if !of_delivery.is_empty() {
        let such = of_delivery.join(" AND ");
        conditions.push(format!("EXISTS (SELECT 1 FROM deliveries d WHERE d.message = m.id AND {such})"));
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!(
        "SELECT m.id, m.message_id, m.sender, m.subject, m.created_ms, m.broadcast FROM messages m{conditions} \
         ORDER BY m.id DESC LIMIT ?"
    );
    (sql, values)
}

async fn with_recipients(
    connection: &mut Connection,
    (id, message_id, from, subject, created, broadcast): MessageRow,
    now: UnixMillis,
) -> Result<MessageView, OutboxError> {
    let rows: Vec<DeliveryRow> = query(
        "SELECT id, recipient, kind, state, attempts, due_ms, expires_ms, settled_ms, claimed_until_ms, reply \
         FROM deliveries WHERE message = ? ORDER BY id",
    )
    .bind(&id)
    .fetch_all(&mut *connection)
    .await?;
    let labels = labels::of(connection, &id).await?;
    let recipients: Vec<RecipientView> = rows.into_iter().map(|row| recipient(row, now)).collect();
    let state = summary(&recipients);
    Ok(MessageView {
        id,
        message_id,
        state,
        from,
        subject,
        created_at: UnixMillis(created),
        broadcast,
        labels,
        recipients,
    })
}

fn recipient(row: DeliveryRow, now: UnixMillis) -> RecipientView {
    let (delivery, address, kind, state, attempts, due, expires, settled, claimed_until, reply) = row;
    let state = State::parse(&state).unwrap_or(State::Failed);
    let is_queued = state == State::Queued;
    RecipientView {
        delivery,
        address,
        kind,
        state: shown(state, UnixMillis(claimed_until), now),
        reason: if state == State::Suppressed { reply } else { String::new() },
        attempts,
        next_attempt_at: is_queued.then_some(UnixMillis(due)),
        expires_at: is_queued.then_some(UnixMillis(expires)),
        settled_at: (!is_queued).then_some(UnixMillis(settled)),
        log: Vec::new(),
    }
}

fn summary(recipients: &[RecipientView]) -> &'static str {
    let is_open = |recipient: &RecipientView| matches!(recipient.state, State::Queued | State::Sending);
    match recipients {
        all if all.iter().any(is_open) => State::Queued.as_str(),
        [first, rest @ ..] if rest.iter().all(|other| other.state == first.state) => first.state.as_str(),
        _ => "partial",
    }
}

async fn log(connection: &mut Connection, delivery: i64) -> Result<Vec<AttemptView>, OutboxError> {
    let rows: Vec<(i64, i64, String, String)> =
        query("SELECT at_ms, took_ms, outcome, reply FROM attempts WHERE delivery = ? ORDER BY id DESC LIMIT 200")
            .bind(delivery)
            .fetch_all(connection)
            .await?;
    let attempt = |(at, took_ms, outcome, reply)| AttemptView { at: UnixMillis(at), took_ms, outcome, reply };
    Ok(rows.into_iter().rev().map(attempt).collect())
}
