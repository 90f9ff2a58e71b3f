//! Idempotency keys: the answer that a request got, for requests that come again.
//!
//! A key is looked up before anything else is done about a request ([`Outbox::recall`]), so that a retry of what was
//! accepted is answered even when it could not be accepted any more: the user has left, the template is gone, userlist
//! is down. It is looked up once more, and kept, in the transaction that takes the request in: of two at the same time
//! one is first.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use service_kit::time::UnixMillis;

use super::{
    Outbox, OutboxError,
    entry::IdempotencyKey,
    sql::{Connection, query},
};

/// How long an `Idempotency-Key` is remembered.
pub const KEY_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// What is known of a key.
enum Known {
    Nothing,
    /// It is older than [`KEY_KEPT_FOR`].
    Expired,
    Answer(String),
}

impl Outbox {
    /// The answer to the request that had the same key and body, when there was one in the last day.
    ///
    /// # Errors
    /// [`OutboxError::KeyReused`]: the body was another one; or the outbox cannot be used.
    pub async fn recall<T: DeserializeOwned + Send + 'static>(
        &self,
        key: &IdempotencyKey,
        now: UnixMillis,
    ) -> Result<Option<T>, OutboxError> {
        let key = key.clone();
        let known = self
            .database
            .read(Box::new(move |connection| Box::pin(async move { look_up(connection, &key, now).await })));
        read(known.await?)
    }
}

/// The same within a transaction that is to [`remember`] the key if it is not known yet.
pub(super) async fn known<T: DeserializeOwned>(
    connection: &mut Connection,
    key: &IdempotencyKey,
    now: UnixMillis,
) -> Result<Option<T>, OutboxError> {
    let known = look_up(connection, key, now).await?;
    if matches!(known, Known::Expired) {
        query("DELETE FROM idempotency_keys WHERE name = ?").bind(&key.name).execute(connection).await?;
    }
    read(known)
}

/// Keeps the answer.
pub(super) async fn remember<T: Serialize + Sync>(
    connection: &mut Connection,
    key: &IdempotencyKey,
    answer: &T,
    now: UnixMillis,
) -> Result<(), OutboxError> {
    let answer = serde_json::to_string(answer).expect("a struct of strings and numbers becomes JSON");
    query("INSERT INTO idempotency_keys (name, fingerprint, answer, created_ms) VALUES (?, ?, ?, ?)")
        .bind(&key.name)
        .bind(&key.fingerprint)
        .bind(answer)
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn look_up(connection: &mut Connection, key: &IdempotencyKey, now: UnixMillis) -> Result<Known, OutboxError> {
    let found: Option<(String, String, i64)> =
        query("SELECT fingerprint, answer, created_ms FROM idempotency_keys WHERE name = ?")
            .bind(&key.name)
            .fetch_optional(connection)
            .await?;
    match found {
        None => Ok(Known::Nothing),
        Some((.., created)) if UnixMillis(created) < now - KEY_KEPT_FOR => Ok(Known::Expired),
        Some((fingerprint, ..)) if fingerprint != key.fingerprint => Err(OutboxError::KeyReused),
        Some((_, answer, _)) => Ok(Known::Answer(answer)),
    }
}

fn read<T: DeserializeOwned>(known: Known) -> Result<Option<T>, OutboxError> {
    match known {
        Known::Nothing | Known::Expired => Ok(None),
        // An answer of another kind is the answer to another request.
        Known::Answer(answer) => serde_json::from_str(&answer).map(Some).map_err(|_| OutboxError::KeyReused),
    }
}
