//! What a database must be able to do: the contract between [`Store`](super::Store) and each kind of database.
//!
//! What a request did is committed when its connection is settled, and may be seen by others before; between
//! [`Connection::begin`] and [`Connection::commit`] it is seen all at once. What is asked is in `sql`, once for all
//! kinds. Text is compared byte for byte.

mod error;
mod statement;

pub(crate) use error::{DriverError, of_connect, of_migration, of_statement, within};
pub(crate) use statement::{Executed, Row, Statement, Unique, Value};

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

/// What a database answers.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

/// A database that may be there or not.
pub(crate) trait Database: Send + Sync + fmt::Debug {
    /// Connects, brings the tables up to date (one of several that do so at the same time does it, the others wait),
    /// and checks that they can be read. Bounded in time.
    fn open(&self) -> Answer<'_, Arc<dyn Session>>;
}

/// A database that was there and up to date when it was opened.
pub(crate) trait Session: Send + Sync + fmt::Debug {
    /// A connection that seems to be alive. An error means that nothing was sent.
    fn connection(&self, access: Access) -> Answer<'_, Box<dyn Connection>>;

    /// The first row that a statement finds which reads one row by its key, where that can be told on this thread in
    /// microseconds.
    fn at_once(&self, _: &Statement) -> AtOnce {
        AtOnce::No
    }

    /// Whether the table can be read now, over a connection that requests do not use: a full pool is no outage.
    fn check(&self) -> Answer<'_, ()>;

    /// Closes what is idle, and refuses new connections.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What [`Session::at_once`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AtOnce {
    /// The row, if there is one.
    Read(Option<Row>),
    /// Other threads are reading at this moment: it may be asked again.
    Taken,
    /// Not this way. What is wrong, if anything is, a [`Connection`] tells.
    No,
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

    /// Ends it. After [`DriverError::Lost`] it is unknown whether it was committed.
    fn commit(&mut self) -> Answer<'_, ()>;

    /// Ends it without a trace.
    fn roll_back(&mut self) -> Answer<'_, ()>;

    /// Keeps the connection for the next request, and waits until what was done on it is on the disk. An error means
    /// what it means for [`Connection::commit`].
    fn settle(self: Box<Self>) -> Answer<'static, ()>;
}
