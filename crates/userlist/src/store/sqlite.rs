//! SQLite: one file, no server.
//!
//! What is particular about it:
//!
//! - **One writer at a time**, over all processes that have the file open. Within this one, writers queue for a single
//!   connection, in order; SQLite's own waiting polls, and is left for the other processes.
//! - **Success is on the disk**: the write-ahead log with `synchronous = FULL` is flushed before a statement is answered
//!   ("PRAGMA synchronous"). A statement that returns rows is read to its end, because SQLite commits there.
//! - **Several processes may start on one new file.** sqlx takes no lock for SQLite's migrations, so they run inside one
//!   `BEGIN IMMEDIATE`, and whoever comes second finds them done.
//! - **The file may be taken away** while it is open, and writes would go on into a file without a name. The check
//!   compares what the path leads to with what was opened.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite as Driver, SqliteConnection,
    migrate::Migrator,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

use super::{
    fault::{self, within},
    session::{Access, Answer, Connection, Database, Fault, Session},
};
use crate::{
    config::Limits,
    user::{EmailAddress, NewUser, User, UserId, UserName},
};

/// A table that is copied to gain a column takes its time.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(60);
/// How long a starting process waits for another one that starts.
const MIGRATION_LOCK_DEADLINE: Duration = Duration::from_secs(5);

const CHECK: &str = "SELECT id FROM users LIMIT 1";
const FIND: &str = "SELECT id, name, email FROM users WHERE name = ?";
const CHANGE: &str = "UPDATE users SET email = ? WHERE name = ? RETURNING id";
const INSERT: &str = "INSERT INTO users (name, email) VALUES (?, ?)";
const REMOVE: &str = "DELETE FROM users WHERE name = ?";
const PAGE: &str = "SELECT id, name, email FROM users WHERE id > ? ORDER BY id LIMIT ?";

/// A file that may not be there yet.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    file: PathBuf,
    limits: Limits,
}

/// An open file.
#[derive(Debug)]
struct SqliteSession {
    file: PathBuf,
    identity: Identity,
    limits: Limits,
    readers: SqlitePool,
    writer: SqlitePool,
    /// For [`Session::check`] alone.
    checks: Mutex<Option<SqliteConnection>>,
}

/// Which file a path leads to: device and inode.
type Identity = (u64, u64);

struct Leased(PoolConnection<Driver>);

// === impl Sqlite ===

impl Sqlite {
    pub(crate) fn new(file: PathBuf, limits: Limits) -> Self {
        Self { file, limits }
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(self.limits.attempt())
            // A statement in a log is a debugging aid; here it would be one line per request.
            .disable_statement_logging()
    }

    async fn connect(&self) -> Result<SqliteConnection, Fault> {
        create_folder(&self.file).await?;
        let options = self.options().create_if_missing(true).busy_timeout(MIGRATION_LOCK_DEADLINE);
        within(2 * MIGRATION_LOCK_DEADLINE, async { options.connect().await.map_err(|error| not_connected(&error)) })
            .await
    }

    fn pool(&self, connections: u32) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(connections)
            // Opening a file does not hang; who waits, waits for other writers, and may do so to the end.
            .acquire_timeout(self.limits.deadline)
            // Waiting is seen in the metrics; a line per request would bury the log.
            .acquire_slow_threshold(Duration::MAX)
            .test_before_acquire(false)
            .connect_lazy_with(self.options())
    }
}

impl Database for Sqlite {
    fn open(&self) -> Answer<'_, Arc<dyn Session>> {
        Box::pin(async move {
            let mut connection = self.connect().await?;
            let identity = identify(&self.file).await?;
            within(MIGRATION_DEADLINE, migrate(&mut connection)).await?;
            check(&mut connection).await?;
            Ok(Arc::new(SqliteSession {
                file: self.file.clone(),
                identity,
                limits: self.limits,
                readers: self.pool(self.limits.connections),
                writer: self.pool(1),
                checks: Mutex::new(Some(connection)),
            }) as Arc<dyn Session>)
        })
    }
}

async fn create_folder(file: &Path) -> Result<(), Fault> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let created = tokio::fs::create_dir_all(folder).await;
    created.map_err(|error| Fault::NotReached(format!("cannot create its folder: {}", error.kind())))
}

async fn identify(file: &Path) -> Result<Identity, Fault> {
    let gone = |error: io::Error| Fault::Unusable(format!("its file: {}", error.kind()));
    tokio::fs::metadata(file).await.map(|metadata| (metadata.dev(), metadata.ino())).map_err(gone)
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let mut migrations: Migrator = sqlx::migrate!("migrations/sqlite");
    // Missing ones are those of a newer release, whose instances may run beside this one: migrations only ever add.
    migrations.set_ignore_missing(true);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| failed(&error))?;
    // `run` is the same through a trait whose lifetimes the compiler cannot follow into a boxed future.
    let migrated = migrations.run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| fault::of_migration(&error, by_number))?;
    transaction.commit().await.map_err(|error| failed(&error))
}

async fn check(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::query(CHECK).fetch_optional(connection).await.map(|_| ()).map_err(|error| failed(&error))
}

// === impl SqliteSession ===

impl Session for SqliteSession {
    fn connection(&self, access: Access) -> Answer<'_, Box<dyn Connection>> {
        Box::pin(async move {
            let pool = match access {
                Access::Read => &self.readers,
                Access::Write => &self.writer,
            };
            let connection = pool.acquire().await.map_err(|error| not_connected(&error))?;
            Ok(Box::new(Leased(connection)) as Box<dyn Connection>)
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            within(2 * self.limits.attempt(), async {
                if identify(&self.file).await? != self.identity {
                    return Err(Fault::Unusable("its file was replaced by another one".to_owned()));
                }
                let mut kept = self.checks.lock().await;
                let connection = kept.as_mut().ok_or_else(|| Fault::NotReached("it is being closed".to_owned()))?;
                check(connection).await
            })
            .await
        })
    }

    fn close(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            self.writer.close().await;
            // The last connection folds the write-ahead log into the file; it fails only where nothing is lost.
            if let Some(connection) = self.checks.lock().await.take() {
                let _ = connection.close().await;
            }
        })
    }
}

// === impl Leased ===

impl Connection for Leased {
    fn find<'a>(&'a mut self, name: &'a UserName) -> Answer<'a, Option<User>> {
        Box::pin(async move {
            let row = sqlx::query_as(FIND).bind(name.as_str()).fetch_optional(&mut *self.0).await;
            Ok(row.map_err(|error| failed(&error))?.map(user))
        })
    }

    fn change<'a>(&'a mut self, user: &'a NewUser) -> Answer<'a, Option<User>> {
        Box::pin(async move {
            let change = sqlx::query_scalar(CHANGE).bind(user.email.as_str()).bind(user.name.as_str());
            // All rows, though there is at most one: the commit comes after the last.
            let ids: Vec<i64> = change.fetch_all(&mut *self.0).await.map_err(|error| failed(&error))?;
            Ok(ids.first().map(|&id| user.stored_as(id)))
        })
    }

    fn insert<'a>(&'a mut self, user: &'a NewUser) -> Answer<'a, Option<User>> {
        Box::pin(async move {
            let insert = sqlx::query(INSERT).bind(user.name.as_str()).bind(user.email.as_str());
            match insert.execute(&mut *self.0).await {
                Ok(done) => Ok(Some(user.stored_as(done.last_insert_rowid()))),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
                Err(error) => Err(failed(&error)),
            }
        })
    }

    fn remove<'a>(&'a mut self, name: &'a UserName) -> Answer<'a, bool> {
        Box::pin(async move {
            let done = sqlx::query(REMOVE).bind(name.as_str()).execute(&mut *self.0).await;
            Ok(done.map_err(|error| failed(&error))?.rows_affected() > 0)
        })
    }

    fn page(&mut self, after: UserId, rows: u32) -> Answer<'_, Vec<User>> {
        Box::pin(async move {
            let page = sqlx::query_as(PAGE).bind(after.0).bind(rows).fetch_all(&mut *self.0).await;
            Ok(page.map_err(|error| failed(&error))?.into_iter().map(user).collect())
        })
    }

    /// Nothing to do: a connection to a file cannot be lost, and one on which a statement is still running is waited
    /// for by the pool, as long as `busy_timeout` at most.
    fn release(self: Box<Self>) {}
}

fn user((id, name, email): (i64, String, String)) -> User {
    User { id: UserId(id), name: UserName::stored(name), email: EmailAddress::stored(email) }
}

fn failed(error: &sqlx::Error) -> Fault {
    fault::of_statement(error, by_number)
}

fn not_connected(error: &sqlx::Error) -> Fault {
    fault::of_connect(error, by_number)
}

/// "Result and Error Codes" of SQLite; the last byte of an extended code is the primary one.
fn by_number(error: &dyn sqlx::error::DatabaseError) -> Option<Fault> {
    let number: i32 = error.code()?.parse().ok()?;
    let say = |text: &str| format!("{text} (SQLite error {number})");
    Some(match number & 0xff {
        5 | 6 => Fault::Contended(say("another process holds its lock")),
        8 => Fault::ReadOnly(say("its file is read-only")),
        10 => Fault::Lost(say("its disk fails")),
        11 | 26 => Fault::Unusable(say("its file is damaged, or no SQLite database")),
        13 => Fault::Full(say("its disk is full")),
        3 | 14 | 23 => Fault::NotReached(say("its file cannot be opened")),
        1 => Fault::Unusable(say("its tables are missing or of another making")),
        _ => return None,
    })
}
