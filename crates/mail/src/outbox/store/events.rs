//! Events for the webhook's receiver: stored in the transaction in which they happen, kept until the receiver has them.
//!
//! So no event is lost when a process is killed, and a receiver that is away costs a row for each event and nothing
//! else: mail never waits for it. How many rows there may be is bounded; see [`Outbox::drop_events`].
//!
//! | type | when |
//! |---|---|
//! | `message.delivered` | the SMTP server has taken the message for a recipient |
//! | `message.failed` | it was refused for good, given up, or withheld because of the suppression list |
//! | `recipient.bounced` | mail to an address came back: for good (`hard`), or for now (`soft`) |
//! | `recipient.complained` | its owner called our mail spam |
//! | `recipient.unsubscribed` | its owner left |

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use service_kit::time::UnixMillis;
use uuid::Uuid;

use super::{
    Outbox, OutboxError,
    entry::Next,
    labels::{self, Labels},
    sql::{Connection, placeholders, query},
};

/// How long a claim on an event lasts: longer than sending it takes, with recording how that ended.
pub(crate) const EVENT_CLAIM: Duration = Duration::from_secs(30);
/// Events that are deleted in one transaction.
const DROPPED_TOGETHER: i64 = 500;

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// See the module.
    Delivered,
    /// See the module.
    Failed,
    /// See the module.
    Bounced,
    /// See the module.
    Complained,
    /// See the module.
    Unsubscribed,
}

/// All of them.
pub const EVENT_KINDS: [EventKind; 5] =
    [EventKind::Delivered, EventKind::Failed, EventKind::Bounced, EventKind::Complained, EventKind::Unsubscribed];

impl EventKind {
    /// The word for options.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Bounced => "bounced",
            Self::Complained => "complained",
            Self::Unsubscribed => "unsubscribed",
        }
    }

    /// The `type` of the event's body.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Delivered => "message.delivered",
            Self::Failed => "message.failed",
            Self::Bounced => "recipient.bounced",
            Self::Complained => "recipient.complained",
            Self::Unsubscribed => "recipient.unsubscribed",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The kinds that a receiver wants; none without one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Whether this one is wanted.
    #[must_use]
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }
}

impl FromIterator<EventKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()))
    }
}

/// An event that this instance is sending.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) attempts: u32,
    pub(crate) created: UnixMillis,
}

/// An address must not get into a log.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("id", &self.id).field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

/// What becomes of an event after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventOutcome {
    /// The receiver has it, or never gets it: it is forgotten.
    Done,
    /// Again, not before this moment.
    Retry(UnixMillis),
}

/// What an event says about a delivery.
#[derive(Serialize)]
struct OfDelivery {
    message: String,
    message_id: String,
    recipient: String,
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    broadcast: String,
    attempts: i64,
    outcome: String,
    reply: String,
    #[serde(flatten)]
    labels: Labels,
}

type DeliveryRow = (String, String, String, String, String, i64, String, String);

async fn keep(
    connection: &mut Connection,
    kind: EventKind,
    data: &impl Serialize,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let body = json!({ "type": kind.type_name(), "timestamp": now, "data": data }).to_string();
    query("INSERT INTO webhook_events (id, body, due_ms, created_ms) VALUES (?, ?, ?, ?)")
        .bind(Uuid::now_v7().simple().to_string())
        .bind(body)
        .bind(now.0)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Stores the event of an attempt that settled its delivery; none while the delivery waits.
pub(super) async fn of_attempt(
    connection: &mut Connection,
    delivery: i64,
    next: Next,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    let kind = match next {
        Next::Delivered => EventKind::Delivered,
        Next::Failed => EventKind::Failed,
        Next::Retry(_) | Next::Repeat(_) | Next::Postponed => return Ok(()),
    };
    of_delivery(connection, delivery, kind, UnixMillis::now(), kinds).await
}

/// Stores an event about a delivery as it is now.
pub(super) async fn of_delivery(
    connection: &mut Connection,
    delivery: i64,
    kind: EventKind,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    if !kinds.has(kind) {
        return Ok(());
    }
    let row: Option<DeliveryRow> = query(
        "SELECT m.id, m.message_id, d.recipient, d.kind, m.broadcast, d.attempts, d.outcome, d.reply \
         FROM deliveries d JOIN messages m ON m.id = d.message WHERE d.id = ?",
    )
    .bind(delivery)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((message, message_id, recipient, list, broadcast, attempts, outcome, reply)) = row else { return Ok(()) };
    let labels = labels::of(connection, &message).await?;
    let data = OfDelivery { message, message_id, recipient, kind: list, broadcast, attempts, outcome, reply, labels };
    keep(connection, kind, &data, now).await
}

/// Stores an event about an address.
pub(super) async fn of_address(
    connection: &mut Connection,
    kind: EventKind,
    address: &str,
    detail: &str,
    broadcast: Option<&str>,
    now: UnixMillis,
    kinds: Kinds,
) -> Result<(), OutboxError> {
    if !kinds.has(kind) {
        return Ok(());
    }
    let mut data =
        Map::from_iter([("recipient".to_owned(), Value::from(address)), ("detail".to_owned(), Value::from(detail))]);
    if kind == EventKind::Bounced {
        data.insert("bounce".to_owned(), "hard".into());
    }
    if let Some(broadcast) = broadcast {
        data.insert("broadcast".to_owned(), broadcast.into());
    }
    keep(connection, kind, &data, now).await
}

impl Outbox {
    /// Tells the webhook's receiver, if it wants to know, that mail came back and might not next time. It changes
    /// nothing here.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn note_soft_bounce(&self, address: &str, detail: &str) -> Result<(), OutboxError> {
        if !self.kinds.has(EventKind::Bounced) {
            return Ok(());
        }
        let data = json!({ "recipient": address, "detail": detail, "bounce": "soft" });
        let keeping = self.database.write(Box::new(move |connection| {
            Box::pin(async move { keep(connection, EventKind::Bounced, &data, UnixMillis::now()).await })
        }));
        keeping.await
    }

    /// At most `count` events that are due, those that have waited longest first; no other instance gets them for
    /// [`EVENT_CLAIM`].
    pub(crate) async fn next_events(&self, count: usize) -> Result<Vec<Event>, OutboxError> {
        let now = UnixMillis::now();
        let lock = self.database.target().for_update();
        // A look costs less than a change, and there is nothing most of the time.
        if !self.has_event_due(now).await? {
            return Ok(Vec::new());
        }
        let claiming = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "SELECT id, body, attempts, created_ms FROM webhook_events WHERE due_ms <= ? \
                     ORDER BY due_ms, id LIMIT ?{lock}"
                );
                let query = query(sql).bind(now.0);
                let limit = i64::try_from(count).unwrap_or(i64::MAX);
                let rows: Vec<(String, String, i64, i64)> = query.bind(limit).fetch_all(&mut *connection).await?;
                let events: Vec<Event> = rows.into_iter().map(event).collect();
                put_off(connection, &events, now + EVENT_CLAIM).await?;
                Ok(events)
            })
        }));
        claiming.await
    }

    async fn has_event_due(&self, now: UnixMillis) -> Result<bool, OutboxError> {
        let looking = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let select = query("SELECT id FROM webhook_events WHERE due_ms <= ? LIMIT 1");
                let found: Option<String> = select.bind(now.0).fetch_optional(connection).await?;
                Ok(found.is_some())
            })
        }));
        looking.await
    }

    /// Records how sending events ended.
    pub(crate) async fn settle_events(&self, outcomes: Vec<(String, EventOutcome)>) -> Result<(), OutboxError> {
        let settling = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                for (id, outcome) in &outcomes {
                    match outcome {
                        EventOutcome::Done => _ = forget(connection, std::slice::from_ref(id)).await?,
                        EventOutcome::Retry(due) => {
                            let sql = "UPDATE webhook_events SET attempts = attempts + 1, due_ms = ? WHERE id = ?";
                            query(sql).bind(due.0).bind(id).execute(&mut *connection).await?;
                        }
                    }
                }
                Ok(())
            })
        }));
        settling.await
    }

    /// How many events wait.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn events_waiting(&self) -> Result<i64, OutboxError> {
        let counting = self.database.read(Box::new(move |connection| {
            Box::pin(async move { query("SELECT COUNT(*) FROM webhook_events").fetch_one(connection).await })
        }));
        counting.await
    }

    /// Drops all events but the newest `max`. Says how many. Instances that do so at the same time drop the same ones.
    ///
    /// # Errors
    /// The outbox cannot be used.
    pub async fn drop_events(&self, max: i64) -> Result<i64, OutboxError> {
        let Some(newest) = self.newest_beyond(max).await? else { return Ok(0) };
        let mut dropped = 0;
        loop {
            match self.drop_some(newest.clone()).await? {
                0 => return Ok(dropped),
                some => dropped += some,
            }
        }
    }

    /// The newest event that there is no room for, when there are more than `max`. Ids sort by time.
    async fn newest_beyond(&self, max: i64) -> Result<Option<String>, OutboxError> {
        let looking = self.database.read(Box::new(move |connection| {
            Box::pin(async move {
                let select = "SELECT id FROM webhook_events ORDER BY id DESC LIMIT 1 OFFSET ?";
                query(select).bind(max).fetch_optional(connection).await
            })
        }));
        looking.await
    }

    /// Drops some of the events up to `newest`. Says how many.
    async fn drop_some(&self, newest: String) -> Result<i64, OutboxError> {
        let dropping = self.database.write(Box::new(move |connection| {
            Box::pin(async move {
                let select = "SELECT id FROM webhook_events WHERE id <= ? ORDER BY id LIMIT ?";
                let select = query(select).bind(newest).bind(DROPPED_TOGETHER);
                let ids: Vec<String> = select.fetch_all(&mut *connection).await?;
                let dropped = forget(connection, &ids).await?;
                // Another instance may have been faster, and drops the rest.
                Ok(i64::try_from(dropped).unwrap_or(i64::MAX))
            })
        }));
        dropping.await
    }
}

/// Deletes at most `count` of those that happened before `before`: those that are left when the receiver is taken out
/// of the configuration. Says how many.
pub(super) async fn forget_some(
    connection: &mut Connection,
    before: UnixMillis,
    count: i64,
) -> Result<u64, OutboxError> {
    let select = query("SELECT id FROM webhook_events WHERE created_ms < ? LIMIT ?");
    let ids: Vec<String> = select.bind(before.0).bind(count).fetch_all(&mut *connection).await?;
    forget(connection, &ids).await
}

fn event((id, body, attempts, created): (String, String, i64, i64)) -> Event {
    Event { id, body, attempts: u32::try_from(attempts).unwrap_or(u32::MAX), created: UnixMillis(created) }
}

async fn put_off(connection: &mut Connection, events: &[Event], until: UnixMillis) -> Result<(), OutboxError> {
    if events.is_empty() {
        return Ok(());
    }
    let sql = format!("UPDATE webhook_events SET due_ms = ? WHERE id IN ({})", placeholders(events.len()));
    let mut query = query(sql).bind(until.0);
    for event in events {
        query = query.bind(&event.id);
    }
    query.execute(connection).await?;
    Ok(())
}

/// Says how many of them were still there.
async fn forget(connection: &mut Connection, ids: &[String]) -> Result<u64, OutboxError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut query = query(format!("DELETE FROM webhook_events WHERE id IN ({})", placeholders(ids.len())));
    for id in ids {
        query = query.bind(id);
    }
    Ok(query.execute(connection).await?.rows_affected())
}
