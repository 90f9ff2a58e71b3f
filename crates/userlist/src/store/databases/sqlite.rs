//! SQLite: one file, no server.
//!
//! What is particular about it:
//!
//! - **Reads of one user** are made on the thread that asks (`readers`); all others go to a thread of their connection.
//! - **One writer at a time**, over all processes that have the file open. Within this one, writers queue for a single
//!   connection, in order, and share flushes (`writer`); SQLite's own waiting polls, and is left for the other
//!   processes.
//! - **Success is on the disk**: the write-ahead log with `synchronous = FULL` is flushed before a statement is
//!   answered ("PRAGMA synchronous"). A statement that returns rows is read to its end, because SQLite commits there.
//! - **Several processes may start on one new file.** sqlx takes no lock for SQLite's migrations, so they run inside
//!   one `BEGIN IMMEDIATE`, and the second process finds them done.
//! - **The file may be taken away** while it is open, and writes would go on into a file without a name. The check
//!   compares what the path leads to with what was opened.
//! - **No server ends a statement**, so one that may read the whole table checks the clock itself.

mod readers;
mod writer;

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::private_files::withdraw_sqlite;
use service_kit::time::UnixMillis;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, FromRow as _, Row as _, Sqlite as Driver, SqliteConnection,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::Mutex;

use self::{readers::Readers, writer::Writer};
use super::{
    kept::{Kept, Lease},
    migrations, upgrade,
};
use crate::store::{
    driver::{
        self, Access, Answer, AtOnce, Connection, Database, DriverError, Executed, Row, Session, Statement, Unique,
        Value, within,
    },
    options::Limits,
    sql::CHECK,
};

/// A table that is copied to gain a column takes its time.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(600);
/// How long a starting process waits for another one that starts.
const MIGRATION_LOCK_DEADLINE: Duration = Duration::from_secs(5);
/// How many steps of SQLite's virtual machine lie between two checks of the clock: less than a millisecond of work.
const CLOCK_STEPS: i32 = 10_000;

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
    /// For reads of one user.
    at_once: Readers,
    readers: Kept<Driver>,
    /// One connection.
    writers: Arc<Kept<Driver>>,
    writer: Writer,
    /// For [`Session::check`] alone.
    checks: Mutex<Option<SqliteConnection>>,
}

/// Which file a path leads to: device and inode.
type Identity = (u64, u64);

type Prepared = sqlx::query::Query<'static, Driver, SqliteArguments>;

struct Leased {
    connection: Option<Lease<Driver>>,
    is_in_transaction: bool,
    /// How long a scan may take.
    deadline: Duration,
    /// Whether a clock is set that would end the statements of others.
    is_timed: bool,
}

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

    async fn connect(&self) -> Result<SqliteConnection, DriverError> {
        create_folder(&self.file).await?;
        withdraw_sqlite(&self.file);
        let options = self.options().create_if_missing(true).busy_timeout(MIGRATION_LOCK_DEADLINE);
        within(2 * MIGRATION_LOCK_DEADLINE, async { options.connect().await.map_err(|error| not_connected(&error)) })
            .await
    }

    fn connections(&self, count: u32) -> Kept<Driver> {
        // Opening a file does not hang; who waits, waits for other writers, and may do so to the end.
        let limit = self.limits.deadline;
        let pool = SqlitePoolOptions::new()
            .max_connections(count)
            .acquire_timeout(limit)
            // Waiting is seen in the metrics; a line per request would bury the log.
            .acquire_slow_threshold(Duration::MAX)
            .test_before_acquire(false)
            .connect_lazy_with(self.options());
        Kept::new(pool, limit)
    }
}

impl Database for Sqlite {
    fn open(&self) -> Answer<'_, Arc<dyn Session>> {
        Box::pin(async move {
            let mut connection = self.connect().await?;
            let identity = identify(&self.file).await?;
            within(MIGRATION_DEADLINE, migrate(&mut connection)).await?;
            check(&mut connection).await?;
            let writers = Arc::new(self.connections(1));
            let mut leased = Leased::from(&writers, self.limits).await?;
            within(MIGRATION_DEADLINE, upgrade::fill_in(&mut leased, UnixMillis::now())).await?;
            leased.keep();
            Ok(Arc::new(SqliteSession {
                file: self.file.clone(),
                identity,
                limits: self.limits,
                at_once: Readers::open(&self.file).await,
                readers: self.connections(self.limits.connections),
                writer: Writer::start(Arc::clone(&writers), self.limits),
                writers,
                checks: Mutex::new(Some(connection)),
            }) as Arc<dyn Session>)
        })
    }
}

/// A database of its own with the same tables, in memory as long as it is small, then in a temporary file without a
/// name ("Temporary Files Used By SQLite"); it is gone when the connection is dropped.
pub(crate) async fn temporary() -> Result<Box<dyn Connection>, DriverError> {
    let options = SqliteConnectOptions::new()
        .filename("")
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false).connect_lazy_with(options);
    let mut lease = Kept::new(pool, MIGRATION_DEADLINE).lease().await.map_err(|error| not_connected(&error))?;
    migrate(lease.get()).await?;
    // Ids of users who are only here are none of the database's that is tried out.
    let far = sqlx::query("INSERT INTO sqlite_sequence (name, seq) VALUES ('users', ?)").bind(1_i64 << 62);
    far.execute(lease.get()).await.map_err(|error| failed(&error))?;
    let connection = Some(lease);
    Ok(Box::new(Leased { connection, is_in_transaction: false, deadline: MIGRATION_DEADLINE, is_timed: false }))
}

async fn create_folder(file: &Path) -> Result<(), DriverError> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let created = tokio::fs::create_dir_all(folder).await;
    created.map_err(|error| DriverError::NotReached(format!("cannot create its folder: {}", error.kind())))
}

async fn identify(file: &Path) -> Result<Identity, DriverError> {
    let gone = |error: io::Error| DriverError::Unusable(format!("its file: {}", error.kind()));
    tokio::fs::metadata(file).await.map(|metadata| (metadata.dev(), metadata.ino())).map_err(gone)
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), DriverError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| failed(&error))?;
    // `run` is the same through a trait whose lifetimes the compiler cannot follow into a boxed future.
    let migrated = migrations::sqlite().run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| driver::of_migration(&error, by_number))?;
    transaction.commit().await.map_err(|error| failed(&error))
}

async fn check(connection: &mut SqliteConnection) -> Result<(), DriverError> {
    sqlx::query(CHECK).fetch_optional(connection).await.map(|_| ()).map_err(|error| failed(&error))
}

// === impl SqliteSession ===

impl Session for SqliteSession {
    fn connection(&self, access: Access) -> Answer<'_, Box<dyn Connection>> {
        Box::pin(async move {
            Ok(match access {
                Access::Read => Box::new(Leased::from(&self.readers, self.limits).await?),
                Access::Write => self.writer.slot().await?,
            })
        })
    }

    fn at_once(&self, statement: &Statement) -> AtOnce {
        self.at_once.row(statement)
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            within(2 * self.limits.attempt(), async {
                if identify(&self.file).await? != self.identity {
                    return Err(DriverError::Unusable("its file was replaced by another one".to_owned()));
                }
                let mut kept = self.checks.lock().await;
                let connection =
                    kept.as_mut().ok_or_else(|| DriverError::NotReached("it is being closed".to_owned()))?;
                check(connection).await
            })
            .await
        })
    }

    fn close(&self) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(async move {
            self.at_once.close().await;
            self.readers.close().await;
            self.writers.close().await;
            // The last connection folds the write-ahead log into the file; it fails only where nothing is lost.
            if let Some(connection) = self.checks.lock().await.take() {
                let _ = connection.close().await;
            }
        })
    }
}

// === impl Leased ===

impl Connection for Leased {
    fn rows(&mut self, statement: Statement) -> Answer<'_, Vec<Row>> {
        Box::pin(async move {
            self.set_clock(statement.is_scan).await?;
            let rows = prepared(statement).try_map(|row| Row::from_row(&row)).fetch_all(self.get()).await;
            self.stop_clock().await?;
            rows.map_err(|error| failed(&error))
        })
    }

    fn number(&mut self, statement: Statement) -> Answer<'_, i64> {
        Box::pin(async move {
            self.set_clock(statement.is_scan).await?;
            let row = prepared(statement).try_map(|row: SqliteRow| row.try_get(0)).fetch_one(self.get()).await;
            self.stop_clock().await?;
            row.map_err(|error| failed(&error))
        })
    }

    fn execute(&mut self, statement: Statement) -> Answer<'_, Executed> {
        Box::pin(async move {
            match prepared(statement).execute(self.get()).await {
                Ok(done) => Ok(Executed::Done { rows: done.rows_affected(), id: done.last_insert_rowid() }),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    Ok(Executed::Taken(Unique::of_message(error.message())))
                }
                Err(error) => Err(failed(&error)),
            }
        })
    }

    fn begin(&mut self) -> Answer<'_, ()> {
        self.is_in_transaction = true;
        // Without it the first statement that writes may find that another process did so since the first that read.
        Box::pin(self.command("BEGIN IMMEDIATE"))
    }

    fn commit(&mut self) -> Answer<'_, ()> {
        Box::pin(self.end("COMMIT"))
    }

    fn roll_back(&mut self) -> Answer<'_, ()> {
        Box::pin(self.end("ROLLBACK"))
    }

    fn settle(self: Box<Self>) -> Answer<'static, ()> {
        self.keep();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Leased {
    async fn from(kept: &Kept<Driver>, limits: Limits) -> Result<Self, DriverError> {
        let connection = kept.lease().await.map_err(|error| not_connected(&error))?;
        let deadline = limits.deadline;
        Ok(Self { connection: Some(connection), is_in_transaction: false, deadline, is_timed: false })
    }

    fn get(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("it is taken out only at the end").get()
    }

    /// Keeps it for the next request, if it is as it was.
    fn keep(mut self) {
        if !self.is_in_transaction && !self.is_timed {
            self.connection.take().into_iter().for_each(Lease::keep);
        }
    }

    async fn command(&mut self, sql: &'static str) -> Result<(), DriverError> {
        sqlx::raw_sql(sql).execute(self.get()).await.map(|_| ()).map_err(|error| failed(&error))
    }

    async fn set_clock(&mut self, is_scan: bool) -> Result<(), DriverError> {
        if is_scan {
            self.is_timed = true;
            let until = Instant::now() + self.deadline;
            let mut handle = self.get().lock_handle().await.map_err(|error| failed(&error))?;
            handle.set_progress_handler(CLOCK_STEPS, move || Instant::now() < until);
        }
        Ok(())
    }

    async fn stop_clock(&mut self) -> Result<(), DriverError> {
        if self.is_timed {
            let mut handle = self.get().lock_handle().await.map_err(|error| failed(&error))?;
            handle.remove_progress_handler();
            drop(handle);
            self.is_timed = false;
        }
        Ok(())
    }

    async fn end(&mut self, sql: &'static str) -> Result<(), DriverError> {
        self.command(sql).await?;
        self.is_in_transaction = false;
        Ok(())
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // Closing it rolls back; in the pool, the transaction would stay open, and the clock would end what comes next.
        if self.is_in_transaction || self.is_timed {
            return;
        }
        // A connection to a file cannot be lost, and one on which a statement is still running is waited for by the
        // pool, as long as `busy_timeout` at most.
        self.connection.take().into_iter().for_each(Lease::doubt);
    }
}

fn prepared(statement: Statement) -> Prepared {
    let query = sqlx::query(AssertSqlSafe(statement.sql)).persistent(statement.is_frequent);
    statement.values.into_iter().fold(query, |query, value| match value {
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Null => query.bind(None::<String>),
    })
}

fn failed(error: &sqlx::Error) -> DriverError {
    driver::of_statement(error, by_number)
}

fn not_connected(error: &sqlx::Error) -> DriverError {
    driver::of_connect(error, by_number)
}

/// "Result and Error Codes" of SQLite; the last byte of an extended code is the primary one.
fn by_number(error: &dyn sqlx::error::DatabaseError) -> Option<DriverError> {
    let number: i32 = error.code()?.parse().ok()?;
    let say = |text: &str| format!("{text} (SQLite error {number})");
    Some(match number & 0xff {
        5 | 6 => DriverError::Contended(say("another process holds its lock")),
        9 => DriverError::Contended(say("the statement took too long")),
        8 => DriverError::ReadOnly(say("its file is read-only")),
        10 => DriverError::Lost(say("its disk fails")),
        11 | 26 => DriverError::Unusable(say("its file is damaged, or no SQLite database")),
        13 => DriverError::Full(say("its disk is full")),
        3 | 14 | 23 => DriverError::NotReached(say("its file cannot be opened")),
        1 => DriverError::Unusable(say("its tables are missing or of another making")),
        _ => return None,
    })
}
