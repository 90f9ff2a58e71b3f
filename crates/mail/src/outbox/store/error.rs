//! Why the outbox could not do what it was asked.

use std::io;

use sqlx::error::DatabaseError;

/// What went wrong. Nothing was changed, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The disk, or the quota, is full.
    #[error("the outbox has no space left")]
    Full,
    /// The database did not answer in time. A change may have been made all the same.
    #[error("the outbox did not answer in time")]
    Silent,
    /// The database is gone, or refuses to talk to us.
    #[error("the outbox cannot be used: {reason}")]
    Unavailable {
        /// For the log and `/readyz`: no addresses, no password.
        reason: String,
    },
    /// The folder of a SQLite file cannot be made.
    #[error("the outbox's folder cannot be created")]
    Folder {
        /// What the file system said.
        source: io::Error,
    },
    /// A concurrent transaction changed the same rows; it may be retried at once.
    #[error("a concurrent change of the same rows")]
    Contended,
    /// The same `Idempotency-Key` came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Every recipient of a message is on the suppression list.
    #[error("every recipient is on the suppression list")]
    Suppressed,
    /// Nothing has that id, or name.
    #[error("there is no such thing in the outbox")]
    NotFound,
    /// It has got too far for that.
    #[error("{reason}")]
    Conflict {
        /// For the caller.
        reason: &'static str,
    },
}

impl OutboxError {
    /// A stable word for metrics and answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full => "outbox_full",
            Self::Silent | Self::Unavailable { .. } | Self::Folder { .. } | Self::Contended => "outbox_unavailable",
            Self::KeyReused => "idempotency_key_reused",
            Self::Suppressed => "suppressed",
            Self::NotFound => "not_found",
            Self::Conflict { .. } => "conflict",
        }
    }

    /// Whether the database itself is in trouble, as opposed to this one request.
    #[must_use]
    pub fn is_an_outage(&self) -> bool {
        match self {
            Self::Full | Self::Silent | Self::Unavailable { .. } | Self::Folder { .. } => true,
            Self::Contended | Self::KeyReused | Self::Suppressed | Self::NotFound | Self::Conflict { .. } => false,
        }
    }

    pub(super) fn leaves_the_connection_in_order(&self) -> bool {
        !self.is_an_outage()
    }
}

/// Without the driver's texts, which can repeat values.
impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        let reason = match error {
            sqlx::Error::Database(error) => return of_mysql(&*error),
            sqlx::Error::Io(error) => error.kind().to_string(),
            sqlx::Error::PoolTimedOut => "no connection could be had in time".to_owned(),
            sqlx::Error::PoolClosed => "it is being closed".to_owned(),
            sqlx::Error::Tls(error) => format!("TLS: {error}"),
            sqlx::Error::ColumnDecode { index, .. } => format!("column {index} holds something else than expected"),
            sqlx::Error::Configuration(_) => "its URL cannot be used".to_owned(),
            _ => "an error of the driver".to_owned(),
        };
        Self::Unavailable { reason }
    }
}

/// Without SQLite's texts, which can repeat values.
impl From<rusqlite::Error> for OutboxError {
    fn from(error: rusqlite::Error) -> Self {
        let reason = match error {
            rusqlite::Error::SqliteFailure(error, _) => return of_sqlite(error.extended_code),
            rusqlite::Error::FromSqlConversionFailure(index, ..)
            | rusqlite::Error::InvalidColumnType(index, ..)
            | rusqlite::Error::Utf8Error(index, _) => format!("column {index} holds something else than expected"),
            _ => "an error of the driver".to_owned(),
        };
        Self::Unavailable { reason }
    }
}

/// The numbers of MySQL ("Server Error Message Reference").
fn of_mysql(error: &dyn DatabaseError) -> OutboxError {
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|error| error.number()) {
        Some(1021 | 1114) => OutboxError::Full,
        // A key that is there already, a lock that was not let go, a deadlock.
        Some(1062 | 1205 | 1213) => OutboxError::Contended,
        number => OutboxError::Unavailable { reason: format!("MySQL error {}", number.unwrap_or_default()) },
    }
}

/// The numbers of SQLite ("Result and Error Codes").
fn of_sqlite(code: i32) -> OutboxError {
    let reason = match code & 0xff {
        13 => return OutboxError::Full,
        // A write-ahead log that cannot grow on a full disk is an input/output error to SQLite.
        10 => "its disk fails".to_owned(),
        5 | 6 => "another process holds its lock".to_owned(),
        _ => format!("SQLite error {code}"),
    };
    OutboxError::Unavailable { reason }
}
