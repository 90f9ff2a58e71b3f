//! Statements: their values, the rows that they find, and the connections that carry them out.
//!
//! Both kinds of database are spoken to with the same statements, whose marks are `?`. sqlx carries them out on MySQL.
//! On SQLite they are carried out at once, on the thread that asks ([`super::sqlite`]): sqlx gives each connection a
//! thread of its own, and handing over one statement and being woken takes longer than most statements do.

use std::{borrow::Cow, fmt};

use futures::future::BoxFuture;
use rusqlite::{
    params_from_iter,
    types::{Null, ToSql, ToSqlOutput, ValueRef},
};
use sqlx::{AssertSqlSafe, MySql, Row as _, mysql::MySqlArguments, mysql::MySqlRow, pool::PoolConnection};

use super::OutboxError;

/// `?, ?, ?`: for a list of `count` values.
pub(super) fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// A connection to one of the two.
pub(super) enum Connection {
    Sqlite(rusqlite::Connection),
    Mysql(PoolConnection<MySql>),
}

/// What a call does with its connection. Of a change all is committed, or nothing.
pub(super) type Work<T> = Box<dyn for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, OutboxError>> + Send>;

/// A value for a `?`.
#[derive(Debug, Clone)]
pub(super) enum Value<'q> {
    Number(i64),
    Text(Cow<'q, str>),
    Bytes(Cow<'q, [u8]>),
    Null,
}

/// A statement with its values.
pub(super) struct Query<'q> {
    sql: Cow<'static, str>,
    values: Vec<Value<'q>>,
}

/// What came of a statement that changes rows.
pub(super) struct Executed(u64);

/// A row that was found.
pub(super) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Mysql(&'r MySqlRow),
}

/// What a column can be read as.
pub(super) trait Column: Sized {
    fn of(row: &Row<'_>, index: usize) -> Result<Self, OutboxError>;
}

/// What a row can be read as: a column, or a tuple of its first ones.
pub(super) trait FromRow: Sized + Send {
    fn of_row(row: &Row<'_>) -> Result<Self, OutboxError>;
}

/// A statement that is written in this crate; what comes from outside is bound.
pub(super) fn query<'q>(sql: impl Into<Cow<'static, str>>) -> Query<'q> {
    Query { sql: sql.into(), values: Vec::new() }
}

// === impl Connection ===

impl Connection {
    /// Begins a transaction. SQLite has one writer at a time, who is first here.
    pub(super) async fn begin(&mut self) -> Result<(), OutboxError> {
        match self {
            Self::Sqlite(connection) => at_once(connection, "BEGIN IMMEDIATE"),
            Self::Mysql(_) => self.batch("BEGIN").await,
        }
    }

    /// Ends it; everything is on the disk.
    pub(super) async fn commit(&mut self) -> Result<(), OutboxError> {
        match self {
            Self::Sqlite(connection) => at_once(connection, "COMMIT"),
            Self::Mysql(_) => self.batch("COMMIT").await,
        }
    }

    /// Ends it; nothing has changed.
    pub(super) async fn roll_back(&mut self) -> Result<(), OutboxError> {
        match self {
            Self::Sqlite(connection) => at_once(connection, "ROLLBACK"),
            Self::Mysql(_) => self.batch("ROLLBACK").await,
        }
    }

    /// Carries out statements without values.
    pub(super) async fn batch(&mut self, statements: &'static str) -> Result<(), OutboxError> {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(statements)?,
            Self::Mysql(connection) => _ = sqlx::raw_sql(statements).execute(&mut **connection).await?,
        }
        Ok(())
    }

    /// Whether a transaction was begun and not ended; known for SQLite only.
    pub(super) fn is_in_transaction(&self) -> bool {
        matches!(self, Self::Sqlite(connection) if !connection.is_autocommit())
    }
}

/// A statement that is the same each time.
fn at_once(connection: &rusqlite::Connection, sql: &str) -> Result<(), OutboxError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(_) => f.write_str("Sqlite"),
            Self::Mysql(_) => f.write_str("Mysql"),
        }
    }
}

// === impl Query ===

impl<'q> Query<'q> {
    /// The value of the next `?`.
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// For a statement without rows.
    pub(super) async fn execute(self, connection: &mut Connection) -> Result<Executed, OutboxError> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&self.sql)?;
                let count = statement.execute(params_from_iter(&self.values))?;
                Ok(Executed(u64::try_from(count).unwrap_or(u64::MAX)))
            }
            Connection::Mysql(connection) => {
                let done = self.for_mysql().execute(&mut **connection).await?;
                Ok(Executed(done.rows_affected()))
            }
        }
    }

    pub(super) async fn fetch_all<T: FromRow>(self, connection: &mut Connection) -> Result<Vec<T>, OutboxError> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&self.sql)?;
                let mut rows = statement.query(params_from_iter(&self.values))?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.push(T::of_row(&Row::Sqlite(row))?);
                }
                Ok(found)
            }
            Connection::Mysql(connection) => {
                let rows = self.for_mysql().fetch_all(&mut **connection).await?;
                rows.iter().map(|row| T::of_row(&Row::Mysql(row))).collect()
            }
        }
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional<T: FromRow>(
        self,
        connection: &mut Connection,
    ) -> Result<Option<T>, OutboxError> {
        match connection {
            Connection::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&self.sql)?;
                let mut rows = statement.query(params_from_iter(&self.values))?;
                rows.next()?.map(|row| T::of_row(&Row::Sqlite(row))).transpose()
            }
            Connection::Mysql(connection) => {
                let row = self.for_mysql().fetch_optional(&mut **connection).await?;
                row.map(|row| T::of_row(&Row::Mysql(&row))).transpose()
            }
        }
    }

    /// The row of a statement that always finds one.
    pub(super) async fn fetch_one<T: FromRow>(self, connection: &mut Connection) -> Result<T, OutboxError> {
        let missing = || OutboxError::Unavailable { reason: "a row is missing".to_owned() };
        self.fetch_optional(connection).await?.ok_or_else(missing)
    }

    fn for_mysql(self) -> sqlx::query::Query<'static, MySql, MySqlArguments> {
        // See `query`.
        let query = sqlx::query(AssertSqlSafe(self.sql.into_owned()));
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(&*text),
            Value::Bytes(bytes) => query.bind(&*bytes),
            Value::Null => query.bind(None::<i64>),
        })
    }
}

impl Executed {
    /// How many rows were changed.
    pub(super) fn rows_affected(&self) -> u64 {
        self.0
    }
}

// === impl Value ===

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(text.into())
    }
}

impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))),
            Self::Bytes(bytes) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(bytes))),
            Self::Null => Null.to_sql(),
        }
    }
}

// === impl Column, FromRow ===

macro_rules! columns {
    ($($column:ty),*) => {$(
        impl Column for $column {
            fn of(row: &Row<'_>, index: usize) -> Result<Self, OutboxError> {
                match row {
                    Row::Sqlite(row) => Ok(row.get(index)?),
                    Row::Mysql(row) => Ok(row.try_get(index)?),
                }
            }
        }

        impl FromRow for $column {
            fn of_row(row: &Row<'_>) -> Result<Self, OutboxError> {
                Self::of(row, 0)
            }
        }
    )*};
}

columns!(i64, String, Vec<u8>);

macro_rules! tuples {
    ($($name:ident $index:literal),*) => {
        impl<$($name: Column + Send),*> FromRow for ($($name,)*) {
            fn of_row(row: &Row<'_>) -> Result<Self, OutboxError> {
                Ok(($($name::of(row, $index)?,)*))
            }
        }
    };
}

tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
