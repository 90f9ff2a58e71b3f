//! The database under the outbox: a SQLite file, or MySQL (MariaDB) that several instances share.
//!
//! Both are spoken to with statements that mean the same to both (`sql.rs`). What differs:
//!
//! | | SQLite | MySQL |
//! |---|---|---|
//! | a change begins with | `BEGIN IMMEDIATE`: one writer at a time | `BEGIN`, read committed |
//! | rows that another instance is looking at | cannot be: it would wait | are passed over: `SKIP LOCKED` |
//! | committed means | flushed (`synchronous = FULL`) | `innodb_flush_log_at_trx_commit = 1`, the default |
//!
//! The database need not be there when the service starts: it is opened, and its tables brought up to date, by whatever
//! uses it first. No call takes longer than five seconds; a connection on which one passed is closed, not used again.
//! A change to a SQLite file is undone when its caller has left, or the five seconds are over, unless its commit had
//! begun. A statement is stopped when its caller has left.

use std::{
    fmt,
    time::{Duration, Instant},
};

use nix::sys::statvfs::statvfs;
use service_kit::private_files::withdraw_sqlite;
use sqlx::{
    ConnectOptions as _, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
    pool::PoolConnection,
};
use tokio::{sync::OnceCell, time::timeout};
use url::Url;

use super::{
    OutboxError,
    caller::Caller,
    sql::{Connection, Work},
    sqlite::SqliteConnections,
    target::DatabaseTarget,
};

/// For one call, waiting for a connection included.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long a call waits for a connection to MySQL.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECTIONS: u32 = 8;
/// What is left on a disk for small messages, and for writing down what became of all others, in bytes.
const ROOM_BYTES: u64 = 1024 * 1024;

// Waits for a lock no longer than the call does, and stores text whole or not at all.
const MYSQL_SESSION: &str = "SET SESSION autocommit = 1, innodb_lock_wait_timeout = 2, time_zone = '+00:00', \
                             sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'); \
                             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Connections, opened when they are needed.
pub(super) struct Database {
    target: DatabaseTarget,
    readers: Connections,
    /// SQLite has one writer.
    writers: Connections,
    tables: OnceCell<()>,
}

enum Connections {
    Sqlite(SqliteConnections),
    Mysql(MySqlPool),
    /// The URL has a parameter that cannot be read.
    None,
}

// === impl Database ===

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(target: DatabaseTarget) -> Self {
        let (readers, writers) = match &target {
            DatabaseTarget::Sqlite(file) => {
                let connections = |count| Connections::Sqlite(SqliteConnections::new(file, count));
                (connections(CONNECTIONS), connections(1))
            }
            DatabaseTarget::Mysql(url) => (pool(url), pool(url)),
        };
        Self { readers, writers, tables: OnceCell::new(), target }
    }

    pub(super) fn target(&self) -> &DatabaseTarget {
        &self.target
    }

    /// Whether there is room for something large. SQLite writes everything twice, into its log and then into its table,
    /// and on a disk that is full it cannot even delete.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let Some(folder) = self.target.folder() else { return true };
        // Where the question has no answer, the database will say it.
        statvfs(folder).map_or(true, |disk| {
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            free >= len.saturating_mul(2).saturating_add(ROOM_BYTES)
        })
    }

    /// Reads; sees what was committed before.
    pub(super) async fn read<T: Send + 'static>(&self, work: Work<T>) -> Result<T, OutboxError> {
        let (caller, _waiting) = Caller::new(Instant::now() + DEADLINE);
        let reading = async {
            self.open().await?;
            self.call(&self.readers, work, Some(caller)).await
        };
        timeout(DEADLINE, reading).await.unwrap_or(Err(OutboxError::Silent))
    }

    /// Changes, in one transaction. `Ok` when it is committed.
    pub(super) async fn write<T: Send + 'static>(&self, work: Work<T>) -> Result<T, OutboxError> {
        let (caller, _waiting) = Caller::new(Instant::now() + DEADLINE);
        let writing = async {
            self.open().await?;
            let waiting = caller.clone();
            let transaction: Work<T> = Box::new(move |connection| Box::pin(transact(connection, work, waiting)));
            self.call(&self.writers, transaction, Some(caller)).await
        };
        timeout(DEADLINE, writing).await.unwrap_or(Err(OutboxError::Silent))
    }

    async fn call<T: Send + 'static>(
        &self,
        connections: &Connections,
        call: Work<T>,
        caller: Option<Caller>,
    ) -> Result<T, OutboxError> {
        match connections {
            Connections::Sqlite(connections) => connections.call(call, caller).await,
            Connections::Mysql(pool) => {
                let connection = pool.acquire().await.map_err(|error| self.not_connected(error))?;
                let mut leased = Leased(Some(Connection::Mysql(connection)));
                let result = call(leased.get()).await;
                leased.settle(&result);
                result
            }
            Connections::None => Err(OutboxError::Unavailable { reason: "its URL cannot be used".to_owned() }),
        }
    }

    fn not_connected(&self, error: sqlx::Error) -> OutboxError {
        let unknown = match &error {
            sqlx::Error::Io(error) => service_kit::unknown_name(error),
            _ => None,
        };
        match (unknown, &self.target) {
            (Some(why), DatabaseTarget::Mysql(url)) => OutboxError::Unavailable {
                reason: format!(
                    "the host {:?} is not known ({why}); check it in --outbox-url (MAIL_OUTBOX_URL), or the DNS of this \
                     machine",
                    url.host_str().unwrap_or_default()
                ),
            },
            _ => error.into(),
        }
    }

    /// Brings the tables up to date, once.
    async fn open(&self) -> Result<(), OutboxError> {
        self.tables.get_or_try_init(|| self.create_tables()).await.map(|_| ())
    }

    async fn create_tables(&self) -> Result<(), OutboxError> {
        if let Some(folder) = self.target.folder() {
            tokio::fs::create_dir_all(folder).await.map_err(|source| OutboxError::Folder { source })?;
        }
        if let DatabaseTarget::Sqlite(file) = &self.target {
            withdraw_sqlite(file);
        }
        let schema = self.target.schema();
        let creating: Work<()> = Box::new(move |connection| Box::pin(connection.batch(schema)));
        // It comes to its end when its caller leaves, too: one that takes long must not be begun again and again.
        self.call(&self.writers, creating, None).await?;
        tracing::info!(outbox = %self.target, "the outbox is open");
        Ok(())
    }

    pub(super) async fn close(&self) {
        let closing = async {
            self.readers.close().await;
            self.writers.close().await;
        };
        let _bounded = timeout(DEADLINE, closing).await;
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Nothing is changed for a caller that does not wait any more when the commit could begin: it may have been told that
/// its change failed. A commit that has begun may come to its end after that.
async fn transact<T: Send>(connection: &mut Connection, work: Work<T>, caller: Caller) -> Result<T, OutboxError> {
    connection.begin().await?;
    let result = changed(connection, work, &caller).await;
    if result.is_err() {
        // A connection that cannot do that has an error already, or has it next time.
        let _first_error_counts = connection.roll_back().await;
    }
    result
}

async fn changed<T: Send>(connection: &mut Connection, work: Work<T>, caller: &Caller) -> Result<T, OutboxError> {
    // Another process may have had SQLite's lock meanwhile.
    drop(caller.waits()?);
    let value = work(connection).await?;
    let _until_it_is_committed = caller.waits()?;
    connection.commit().await?;
    Ok(value)
}

fn pool(url: &Url) -> Connections {
    let Ok(options) = MySqlConnectOptions::from_url(url) else { return Connections::None };
    let pool = MySqlPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .acquire_slow_threshold(Duration::MAX)
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(MYSQL_SESSION).execute(connection).await.map(|_| ()) })
        })
        // A statement in a log is a debugging aid, and would hold addresses.
        .connect_lazy_with(options.disable_statement_logging());
    Connections::Mysql(pool)
}

// === impl Connections ===

impl Connections {
    async fn close(&self) {
        match self {
            Self::Sqlite(connections) => connections.close().await,
            Self::Mysql(pool) => pool.close().await,
            Self::None => {}
        }
    }
}

/// A connection that is closed when it is dropped, unless its call came to an end that both sides know.
struct Leased(Option<Connection>);

impl Leased {
    fn get(&mut self) -> &mut Connection {
        self.0.as_mut().expect("it is taken out only at the end")
    }

    fn settle<T>(&mut self, result: &Result<T, OutboxError>) {
        if result.as_ref().err().is_none_or(OutboxError::leaves_the_connection_in_order) {
            drop(self.0.take());
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(Connection::Mysql(connection)) = self.0.take() {
            drop(PoolConnection::detach(connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, select};
    use tokio::sync::oneshot;

    use super::*;
    use crate::outbox::store::sql::query;

    fn note(connection: &mut Connection) -> BoxFuture<'_, Result<(), OutboxError>> {
        let insert = "INSERT INTO templates (name, body, changed_ms) VALUES ('a', '{}', 0)";
        Box::pin(async move { query(insert).execute(connection).await.map(|_| ()) })
    }

    fn forget(connection: &mut Connection) -> BoxFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move { query("DELETE FROM templates").execute(connection).await.map(|_| ()) })
    }

    fn count(connection: &mut Connection) -> BoxFuture<'_, Result<i64, OutboxError>> {
        Box::pin(query("SELECT COUNT(*) FROM templates").fetch_one(connection))
    }

    async fn noted(database: &Database) -> i64 {
        database.read(Box::new(count)).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_whose_caller_was_told_that_it_failed_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseTarget::Sqlite(dir.path().join("outbox.db")));
        database.write(Box::new(note)).await.unwrap();
        database.write(Box::new(forget)).await.unwrap();
        let (caller, _waiting) = Caller::new(Instant::now() + Duration::from_millis(50));
        let slow: Work<()> = Box::new(|connection| {
            Box::pin(async {
                note(connection).await?;
                std::thread::sleep(Duration::from_millis(60));
                Ok(())
            })
        });
        let late: Work<()> = Box::new(move |connection| Box::pin(transact(connection, slow, caller)));
        assert!(matches!(database.call(&database.writers, late, None).await, Err(OutboxError::Silent)));
        assert_eq!(noted(&database).await, 0);
        database.write(Box::new(note)).await.unwrap();
        assert_eq!(noted(&database).await, 1, "the next change is made");
    }

    #[tokio::test]
    async fn a_change_whose_time_is_over_when_it_has_the_lock_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseTarget::Sqlite(dir.path().join("outbox.db")));
        let (caller, _waiting) = Caller::new(Instant::now());
        let work: Work<()> = Box::new(|_| panic!("it is begun"));
        let late: Work<()> = Box::new(move |connection| Box::pin(transact(connection, work, caller)));
        assert!(matches!(database.call(&database.writers, late, None).await, Err(OutboxError::Silent)));
    }

    #[tokio::test]
    async fn a_change_whose_caller_has_left_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseTarget::Sqlite(dir.path().join("outbox.db")));
        let (begun, has_begun) = oneshot::channel();
        let (leave, left) = std::sync::mpsc::channel();
        let work: Work<()> = Box::new(|connection| {
            Box::pin(async move {
                note(connection).await?;
                begun.send(()).unwrap();
                left.recv().unwrap();
                Ok(())
            })
        });
        let changing = Box::pin(database.write(work));
        drop(select(changing, has_begun).await);
        leave.send(()).unwrap();
        assert_eq!(database.write(Box::new(count)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn reads_whose_callers_have_left_end_and_others_get_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseTarget::Sqlite(dir.path().join("outbox.db")));
        for _ in 0..CONNECTIONS {
            let (begun, has_begun) = oneshot::channel();
            let work: Work<i64> = Box::new(|connection| {
                Box::pin(async move {
                    begun.send(()).unwrap();
                    let long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000000) \
                                SELECT COUNT(*) FROM n";
                    query(long).fetch_one(connection).await
                })
            });
            let reading = Box::pin(database.read(work));
            drop(select(reading, has_begun).await);
        }
        assert_eq!(noted(&database).await, 0);
    }

    #[tokio::test]
    async fn changes_wait_for_one_that_another_process_makes_and_reads_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outbox.db");
        let database = Database::new(DatabaseTarget::Sqlite(file.clone()));
        assert_eq!(noted(&database).await, 0);
        let other = rusqlite::Connection::open(&file).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut changing = std::pin::pin!(database.write(Box::new(note)));
        assert!(timeout(Duration::from_millis(50), changing.as_mut()).await.is_err());
        assert_eq!(noted(&database).await, 0);
        other.execute_batch("ROLLBACK").unwrap();
        changing.await.unwrap();
        assert_eq!(noted(&database).await, 1);
    }

    #[tokio::test]
    async fn a_host_that_there_is_not_is_named_with_the_option_that_names_it() {
        // A label of more than 63 bytes: no name server needs to be asked.
        let host = format!("{}.invalid", "x".repeat(64));
        let database = Database::new(DatabaseTarget::parse(&format!("mysql://u:hunter2@{host}/mail")).unwrap());
        let error = database.read::<()>(Box::new(|_| Box::pin(async { Ok(()) }))).await.unwrap_err().to_string();
        assert!([host.as_str(), "is not known", "MAIL_OUTBOX_URL"].iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains("hunter2"));
    }
}
