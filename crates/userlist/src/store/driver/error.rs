//! Why a database did not answer, and how that is read from sqlx's errors: what all kinds of databases have in common.

use std::{future::Future, time::Duration};

use sqlx::migrate::MigrateError;
use tokio::time::timeout;

/// Why a database did not answer, sorted by what can be done about it.
///
/// The texts are for logs and `/readyz`: they carry error numbers and kinds, and no text of the database, which quotes
/// the values of a statement (`Duplicate entry 'dong'`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DriverError {
    /// There is no connection: nothing was sent.
    NotReached(String),
    /// It broke off, or did not answer in time: what was sent may or may not have been done.
    Lost(String),
    /// Another transaction was in the way (a deadlock, a lock): nothing was done, and the next attempt may succeed.
    Contended(String),
    /// It takes no changes at present: nothing was done.
    ReadOnly(String),
    /// The disk is full: nothing was done.
    Full(String),
    /// It answers, but the tables are missing, damaged or of another making: an operator has to act.
    Unusable(String),
    /// An answer that a bug of ours must be the reason for.
    Unexpected(String),
}

impl DriverError {
    /// For a person.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NotReached(reason)
            | Self::Lost(reason)
            | Self::Contended(reason)
            | Self::ReadOnly(reason)
            | Self::Full(reason)
            | Self::Unusable(reason)
            | Self::Unexpected(reason) => reason,
        }
    }

    /// Whether it is worth a look at the database as a whole.
    pub(crate) fn is_suspicious(&self) -> bool {
        match self {
            Self::NotReached(_) | Self::Lost(_) | Self::Unusable(_) => true,
            Self::Contended(_) | Self::ReadOnly(_) | Self::Full(_) | Self::Unexpected(_) => false,
        }
    }
}

/// What the error number of one kind of database means; `None` when it means nothing special.
pub(crate) type ByNumber = fn(&dyn sqlx::error::DatabaseError) -> Option<DriverError>;

/// The error of a statement.
pub(crate) fn of_statement(error: &sqlx::Error, by_number: ByNumber) -> DriverError {
    match error {
        sqlx::Error::Database(error) => {
            by_number(&**error).unwrap_or_else(|| DriverError::Unexpected(format!("error {}", number(&**error))))
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => DriverError::NotReached(text(error)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            DriverError::Lost(text(error))
        }
        _ => DriverError::Unexpected(text(error)),
    }
}

/// The error of an attempt to connect: nothing was sent, whatever went wrong.
pub(crate) fn of_connect(error: &sqlx::Error, by_number: ByNumber) -> DriverError {
    match of_statement(error, by_number) {
        DriverError::Lost(reason) | DriverError::Unexpected(reason) => {
            DriverError::NotReached(format!("cannot connect: {reason}"))
        }
        error => error,
    }
}

/// The error of bringing the tables up to date.
pub(crate) fn of_migration(error: &MigrateError, by_number: ByNumber) -> DriverError {
    match error {
        MigrateError::Execute(error) => of_statement(error, by_number),
        MigrateError::ExecuteMigration(error, version) => match of_statement(error, by_number) {
            DriverError::Unexpected(reason) => DriverError::Unusable(format!("migration {version} fails: {reason}")),
            error => error,
        },
        // Version numbers and fixed texts only.
        error => DriverError::Unusable(error.to_string()),
    }
}

/// Waits for `work` at most `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, DriverError>>,
) -> Result<T, DriverError> {
    let silent = || DriverError::Lost(format!("no answer within {}", service_kit::duration::format(limit)));
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent()))
}

/// An error's text without anything that a user of the service sent.
fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.kind().to_string(),
        sqlx::Error::PoolTimedOut => "no connection was free in time".to_owned(),
        sqlx::Error::PoolClosed => "it is being closed".to_owned(),
        sqlx::Error::WorkerCrashed => "its thread ended".to_owned(),
        sqlx::Error::Tls(error) => format!("TLS: {error}"),
        sqlx::Error::Protocol(_) => "it does not speak the protocol as expected".to_owned(),
        sqlx::Error::ColumnDecode { index, .. } => format!("column {index} holds something else than expected"),
        _ => "an error of the driver".to_owned(),
    }
}

/// The number by which the database's manual knows an error.
fn number(error: &dyn sqlx::error::DatabaseError) -> String {
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        Some(error) => error.number().to_string(),
        None => error.code().map_or_else(|| "unknown".to_owned(), |code| code.into_owned()),
    }
}
