//! What a database must be able to do: the contract between [`Store`](super::Store) and each kind of database.
//!
//! What a request did is committed when its connection is settled, and may be seen by others before; between
//! [`Connection::begin`] and [`Connection::commit`] it is seen all at once. What is asked is in `sql`, once for all kinds. Text is compared byte for byte.

mod error;
mod statement;

pub(crate) use error::{of_connect, of_migration, of_statement, within};
pub(crate) use statement::{Executed, Row, Statement, Unique, Value};

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

/// What a database answers.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// A database that may be there or not.
pub(crate) trait Database: Send + Sync + fmt::Debug {
    /// Connects, brings the tables up to date (one of several that do so at the same time does it, the others wait),
    /// and checks that they can be read. Bounded in time.
    fn open(&self) -> Answer<'_, Arc<dyn Session>>;
}

/// A database that was there and up to date when it was opened.
pub(crate) trait Session: Send + Sync + fmt::Debug {
    /// A connection that seems to be alive. A fault means that nothing was sent.
    fn connection(&self, access: Access) -> Answer<'_, Box<dyn Connection>>;

    /// Whether the table can be read now, over a connection that requests do not use: a full pool is no outage.
    fn check(&self) -> Answer<'_, ()>;

    /// Closes what is idle, and refuses new connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a connection is wanted for: SQLite has one writer and many readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// A connection for the statements of one request.
///
/// Dropped, it is thrown away, because a statement may be under way on it, it may be broken, or a transaction may be
/// open; only [`Connection::settle`] keeps it for the next request.
pub(crate) trait Connection: Send {
    /// The rows that a statement gives.
    fn rows(&mut self, statement: Statement) -> Answer<'_, Vec<Row>>;

    /// The one number that a statement gives.
    fn number(&mut self, statement: Statement) -> Answer<'_, i64>;

    /// Carries out a statement that changes rows. When it changes nothing because a value is taken, a transaction stays
    /// open.
    fn execute(&mut self, statement: Statement) -> Answer<'_, Executed>;

    /// Begins a transaction that may write.
    fn begin(&mut self) -> Answer<'_, ()>;

    /// Ends it. A fault that is [`Fault::Lost`] means that nobody knows whether it was committed.
    fn commit(&mut self) -> Answer<'_, ()>;

    /// Ends it without a trace.
    fn roll_back(&mut self) -> Answer<'_, ()>;

    /// Keeps the connection for the next request, and waits until what was done on it is on the disk. A fault means what
    /// it means for [`Connection::commit`].
    fn settle(self: Box<Self>) -> Answer<'static, ()>;
}

/// Why a database did not answer, sorted by what can be done about it.
///
/// The texts are for logs and `/readyz`: they carry error numbers and kinds, and no text of the database, which quotes
/// the values of a statement (`Duplicate entry 'dong'`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no connection: nothing was sent.
    NotReached(String),
    /// It broke off, or did not answer in time: what was sent may or may not have been done.
    Lost(String),
    /// Somebody else was in the way (a deadlock, a lock): nothing was done, and the next attempt may succeed.
    Contended(String),
    /// It takes no changes at present: nothing was done.
    ReadOnly(String),
    /// The disk is full: nothing was done.
    Full(String),
    /// It answers, but the tables are missing, damaged or of another making: somebody has to look at it.
    Unusable(String),
    /// An answer that a bug of ours must be the reason for.
    Unexpected(String),
}

// === impl Fault ===

impl Fault {
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
