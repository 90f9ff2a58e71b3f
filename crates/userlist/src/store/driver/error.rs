//! From sqlx's errors to [`Fault`]: what all kinds of databases have in common.

use std::{future::Future, time::Duration};

use sqlx::migrate::MigrateError;
use tokio::time::timeout;

use super::Fault;

/// What the error number of one kind of database means; `None` when it means nothing special.
pub(crate) type ByNumber = fn(&dyn sqlx::error::DatabaseError) -> Option<Fault>;

/// The fault of a statement.
pub(crate) fn of_statement(error: &sqlx::Error, by_number: ByNumber) -> Fault {
    match error {
        sqlx::Error::Database(error) => {
            by_number(&**error).unwrap_or_else(|| Fault::Unexpected(format!("error {}", number(&**error))))
        }
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Fault::NotReached(text(error)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Fault::Lost(text(error))
        }
        _ => Fault::Unexpected(text(error)),
    }
}

/// The fault of an attempt to connect: nothing was sent, whatever went wrong.
pub(crate) fn of_connect(error: &sqlx::Error, by_number: ByNumber) -> Fault {
    match of_statement(error, by_number) {
        Fault::Lost(reason) | Fault::Unexpected(reason) => Fault::NotReached(format!("cannot connect: {reason}")),
        fault => fault,
    }
}

/// The fault of bringing the tables up to date.
pub(crate) fn of_migration(error: &MigrateError, by_number: ByNumber) -> Fault {
    match error {
        MigrateError::Execute(error) => of_statement(error, by_number),
        MigrateError::ExecuteMigration(error, version) => match of_statement(error, by_number) {
            Fault::Unexpected(reason) => Fault::Unusable(format!("migration {version} fails: {reason}")),
            fault => fault,
        },
        // Version numbers and fixed texts only.
        error => Fault::Unusable(error.to_string()),
    }
}

/// Waits for `work` at most `limit`.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let silent = || Fault::Lost(format!("no answer within {}", service_kit::duration::format(limit)));
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
