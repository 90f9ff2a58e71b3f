//! The database under the outbox: a SQLite file, or MySQL (MariaDB) that several instances share.
//!
//! Both are spoken to through sqlx's `Any` driver, with statements that mean the same to both. What differs:
//!
//! | | SQLite | MySQL |
//! |---|---|---|
//! | a change begins with | `BEGIN IMMEDIATE`: one writer at a time | `BEGIN`, read committed |
//! | rows that another instance is looking at | cannot be: it would wait | are passed over: `SKIP LOCKED` |
//! | committed means | flushed (`synchronous = FULL`) | `innodb_flush_log_at_trx_commit = 1`, the default |
//!
//! The database need not be there when the service starts: it is opened, and its tables brought up to date, by whatever
//! uses it first. No call takes longer than five seconds; a connection on which one passed is closed, not used again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use futures::future::BoxFuture;
use nix::sys::statvfs::statvfs;
use service_kit::private_files::withdraw_sqlite;
use sqlx::{
    AnyConnection, ConnectOptions as _, Connection as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    pool::PoolConnection,
};
use tokio::{sync::OnceCell, time::timeout};
use url::Url;

use super::OutboxError;

/// For one call, waiting for a connection included.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long another process may hold SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
const CONNECTIONS: u32 = 8;
/// What is left on a disk for small messages, and for writing down what became of all others, in bytes.
const ROOM_BYTES: u64 = 1024 * 1024;

// Waits for a lock no longer than the call does, and stores text whole or not at all.
const MYSQL_SESSION: &str = "SET SESSION autocommit = 1, innodb_lock_wait_timeout = 2, time_zone = '+00:00', \
                             sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'); \
                             SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
const SQLITE_SESSION: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 4000";

/// Which database, as `--outbox-url` says it.
#[derive(Clone)]
pub enum DatabaseTarget {
    /// A file, created when it is missing.
    Sqlite(PathBuf),
    /// `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    Mysql(Box<Url>),
}

/// Connections, opened when they are needed.
pub(super) struct Database {
    target: DatabaseTarget,
    readers: sqlx::AnyPool,
    /// SQLite has one writer; queueing for it here is fair, SQLite's own waiting is not.
    writers: sqlx::AnyPool,
    tables: OnceCell<()>,
}

/// What a call does with its connection. All of it is committed, or nothing.
pub(super) type Work<'a, T> =
    Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, OutboxError>> + Send + 'a>;

// === impl DatabaseTarget ===

impl DatabaseTarget {
    /// Reads the URL.
    ///
    /// # Errors
    /// Says what to write, without the URL, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("mysql" | "mariadb", _)) => {
                let url = Url::parse(text).map_err(|_| "it cannot be read; write mysql://USER@HOST:PORT/DATABASE")?;
                match url.path().trim_matches('/') {
                    "" => Err("it names no database; write mysql://USER@HOST:PORT/DATABASE"),
                    _ => Ok(Self::Mysql(Box::new(url))),
                }
            }
            _ => Err("it must begin with sqlite: or mysql://"),
        }
    }

    /// Whether rows that another instance holds are passed over.
    pub(super) fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Mysql(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Where the file is, of a database that is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(file) => {
                file.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder })
            }
            Self::Mysql(_) => None,
        }
    }

    /// Whether it is one for all instances, wherever they run.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Mysql(_))
    }

    /// Rows that are read to be relied on keep others waiting.
    pub(super) fn lock(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "",
            Self::Mysql(_) => " FOR UPDATE",
        }
    }

    fn schema(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => include_str!("sqlite.sql"),
            Self::Mysql(_) => include_str!("mysql.sql"),
        }
    }

    fn begin(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Mysql(_) => "BEGIN",
        }
    }

    fn session(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => SQLITE_SESSION,
            Self::Mysql(_) => MYSQL_SESSION,
        }
    }

    fn options(&self) -> AnyConnectOptions {
        let url = match self {
            Self::Sqlite(file) => {
                let path = file.to_string_lossy();
                let path = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC);
                Url::parse(&format!("sqlite:{path}?mode=rwc")).expect("a percent-encoded path")
            }
            Self::Mysql(url) => (**url).clone(),
        };
        // A statement in a log is a debugging aid, and would hold addresses.
        AnyConnectOptions::from_url(&url).expect("it takes every URL").disable_statement_logging()
    }
}

fn sqlite(rest: &str) -> Result<DatabaseTarget, &'static str> {
    let file = rest.strip_prefix("//").unwrap_or(rest);
    if file.contains('?') {
        return Err("sqlite takes no parameters; write sqlite:FILE, with a '?' in its name as %3F");
    }
    let file = percent_encoding::percent_decode_str(file).decode_utf8().map_err(|_| "the file's name is not UTF-8")?;
    match &*file {
        "" => Err("it names no file; write sqlite:FILE"),
        ":memory:" => Err("messages in memory would be lost at the end; write sqlite:FILE"),
        file => Ok(DatabaseTarget::Sqlite(file.into())),
    }
}

/// For a log: without user and password.
impl fmt::Display for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Mysql(url) => {
                write!(f, "mysql://{}:{}{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(3306), url.path())
            }
        }
    }
}

impl fmt::Debug for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

// === impl Database ===

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(target: DatabaseTarget) -> Self {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let writers = match target {
            DatabaseTarget::Sqlite(_) => 1,
            DatabaseTarget::Mysql(_) => CONNECTIONS,
        };
        let pool = |connections| {
            let session = target.session();
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(BUSY_TIMEOUT)
                .acquire_slow_threshold(Duration::MAX)
                .after_connect(move |connection, _| {
                    Box::pin(async move { sqlx::raw_sql(session).execute(connection).await.map(|_| ()) })
                })
                .connect_lazy_with(target.options())
        };
        Self { readers: pool(CONNECTIONS), writers: pool(writers), tables: OnceCell::new(), target }
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
    pub(super) async fn read<T>(&self, work: Work<'_, T>) -> Result<T, OutboxError> {
        let reading = async {
            self.open().await?;
            let mut leased = Leased(Some(self.readers.acquire().await.map_err(|error| self.not_connected(error))?));
            let result = work(leased.get()).await;
            leased.settle(&result);
            result
        };
        timeout(DEADLINE, reading).await.unwrap_or(Err(OutboxError::Silent))
    }

    /// Changes, in one transaction. `Ok` when it is committed.
    pub(super) async fn write<T>(&self, work: Work<'_, T>) -> Result<T, OutboxError> {
        let writing = async {
            self.open().await?;
            let mut leased = Leased(Some(self.writers.acquire().await.map_err(|error| self.not_connected(error))?));
            let result = self.transact(leased.get(), work).await;
            leased.settle(&result);
            result
        };
        timeout(DEADLINE, writing).await.unwrap_or(Err(OutboxError::Silent))
    }

    async fn transact<T>(&self, connection: &mut AnyConnection, work: Work<'_, T>) -> Result<T, OutboxError> {
        let mut transaction = connection.begin_with(self.target.begin()).await?;
        let value = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(value)
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
        let mut connection = self.writers.acquire().await.map_err(|error| self.not_connected(error))?;
        sqlx::raw_sql(self.target.schema()).execute(&mut *connection).await?;
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

/// A connection that is closed when it is dropped, unless its call came to an end that both sides know.
struct Leased(Option<PoolConnection<sqlx::Any>>);

impl Leased {
    fn get(&mut self) -> &mut AnyConnection {
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
        drop(self.0.take().map(PoolConnection::detach));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_there_is_not_is_named_with_the_option_that_names_it() {
        // A label of more than 63 bytes: no name server needs to be asked.
        let host = format!("{}.invalid", "x".repeat(64));
        let database = Database::new(DatabaseTarget::parse(&format!("mysql://u:hunter2@{host}/mail")).unwrap());
        let error = database.read::<()>(Box::new(|_| Box::pin(async { Ok(()) }))).await.unwrap_err().to_string();
        assert!([host.as_str(), "is not known", "MAIL_OUTBOX_URL"].iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn the_url_says_which_database_and_a_log_shows_no_password() {
        for (url, shown) in [
            ("sqlite:./data/outbox.db", "sqlite:./data/outbox.db"),
            ("sqlite:///var/lib/mail.db", "sqlite:/var/lib/mail.db"),
            ("mysql://u:hunter2@db/mail", "mysql://db:3306/mail"),
            ("mariadb://u:hunter2@db:3307/mail", "mysql://db:3307/mail"),
        ] {
            let target = DatabaseTarget::parse(url).unwrap();
            assert_eq!((target.to_string().as_str(), format!("{target:?}").as_str()), (shown, shown));
        }
        for bad in ["", "outbox.db", "postgres://h/d", "sqlite:", "sqlite::memory:", "sqlite:a?mode=ro", "mysql://h/"] {
            assert!(DatabaseTarget::parse(bad).is_err(), "{bad}");
        }
    }
}
