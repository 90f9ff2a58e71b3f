//! Reads of one row on the calling thread.
//!
//! sqlx gives each connection a thread of its own. Handing a statement over and being woken with its row takes several
//! times as long as SQLite takes to find a row by name or id, which is some 20 µs. So those reads are made where they
//! are asked for, on connections that are kept for them, with statements that are prepared once.
//!
//! - **What is committed is seen.** Each statement is a read transaction of its own, which begins at the newest commit
//!   in the write-ahead log ("Write-Ahead Logging", section 2.2).
//! - **One worker thread is always left.** A page that is not in memory is read from the disk, which blocks the thread,
//!   for as long as a disk hangs. So there is one connection less than the runtime has worker threads: the last one
//!   goes on, and finds that reads have to go over the pool, where they have a deadline. A runtime with a single worker
//!   reads everything over the pool.
//!   A read on such a disk has no deadline: it ends when the disk answers.
//! - **Nothing is waited for.** Where SQLite would wait for a lock (another process recovers the log of one that was
//!   killed), the pool does. Whatever else goes wrong is asked there again as well, so that there is one place where an
//!   error gets its meaning.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, params_from_iter,
    types::{Null, ToSql, ToSqlOutput},
};

use crate::store::driver::{AtOnce, Row, Statement, Value};

/// The connections, each for one thread at a time.
#[derive(Debug)]
pub(super) struct Readers {
    /// None when it is closed.
    connections: Arc<[Mutex<Option<Connection>>]>,
}

// === impl Readers ===

impl Readers {
    /// Opens as many as this runtime may use; none where that fails, because the pool reads as well.
    pub(super) async fn open(file: &Path) -> Self {
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        Self::open_some(file, workers.saturating_sub(1)).await
    }

    async fn open_some(file: &Path, count: usize) -> Self {
        let file = file.to_owned();
        let open = move || (0..count).map(|_| connect(&file)).collect::<Result<Vec<_>, _>>();
        let opened = tokio::task::spawn_blocking(open).await.ok().and_then(Result::ok).unwrap_or_default();
        tracing::debug!(connections = opened.len(), "opened connections for reads of one user");
        Self { connections: opened.into_iter().map(|connection| Mutex::new(Some(connection))).collect() }
    }

    /// The row that `statement` finds.
    pub(super) fn row(&self, statement: &Statement) -> AtOnce {
        match self.free() {
            None if self.connections.is_empty() => AtOnce::No,
            None => AtOnce::Taken,
            Some(guard) => match guard.as_ref().map(|connection| row(connection, statement)) {
                Some(Ok(row)) => AtOnce::Read(row),
                Some(Err(_)) | None => AtOnce::No,
            },
        }
    }

    /// Closes them; a read that is under way comes to its end first, which a thread of its own waits for: a disk that
    /// hangs holds no worker thread here.
    pub(super) async fn close(&self) {
        let connections = Arc::clone(&self.connections);
        let close_all = move || {
            for connection in connections.iter() {
                // The last one may write the log back into the file.
                drop(connection.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        };
        let _joined = tokio::task::spawn_blocking(close_all).await;
    }

    /// One that no other thread uses, first of all the one that this thread has used before.
    fn free(&self) -> Option<MutexGuard<'_, Option<Connection>>> {
        let own = OWN.with(|own| *own);
        let (before, after) = self.connections.split_at(own % self.connections.len().max(1));
        after.iter().chain(before).find_map(|connection| match connection.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which connection a thread tries first.
    static OWN: usize = THREADS.fetch_add(1, Relaxed);
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    // Not created: it is there, or was taken away. Written to only by SQLite itself, which keeps its locks in a file.
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn row(connection: &Connection, statement: &Statement) -> rusqlite::Result<Option<Row>> {
    let mut prepared = connection.prepare_cached(&statement.sql)?;
    prepared.query_row(params_from_iter(&statement.values), |row| Row::try_from(row)).optional()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Number(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
            Self::Null => Null.to_sql(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{
        databases::Sqlite,
        driver::{Access, Database as _, Session},
        options::Limits,
        selection::Key,
        sql,
    };

    const LIMITS: Limits = Limits { connections: 4, deadline: Duration::from_secs(20), unique_emails: false };

    async fn open(file: &Path) -> Arc<dyn Session> {
        Sqlite::new(file.to_owned(), LIMITS).open().await.unwrap()
    }

    async fn insert(session: &Arc<dyn Session>, name: &str) {
        let mut writer = session.connection(Access::Write).await.unwrap();
        let insert = Statement::new("INSERT INTO users (name, email) VALUES (?, 'd@example.com')").bind(name);
        writer.execute(insert).await.unwrap();
        writer.settle().await.unwrap();
    }

    fn find(name: &str) -> Statement {
        sql::find(&Key::Name(name.parse().unwrap()))
    }

    fn name(read: &AtOnce) -> Option<&str> {
        match read {
            AtOnce::Read(Some((_, name, ..))) => Some(name),
            AtOnce::Read(None) | AtOnce::Taken | AtOnce::No => None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_connection_sees_what_was_committed_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        let session = open(&file).await;
        let readers = Readers::open_some(&file, 2).await;
        for round in 0..20 {
            let user = format!("user {round}");
            let held = readers.free().unwrap();
            assert_eq!(readers.row(&find(&user)), AtOnce::Read(None));
            drop(held);
            insert(&session, &user).await;
            let held = readers.free().unwrap();
            assert_eq!(name(&readers.row(&find(&user))), Some(&*user), "the other connection");
            drop(held);
            assert_eq!(name(&readers.row(&find(&user))), Some(&*user));
        }
    }

    #[tokio::test]
    async fn closing_waits_for_a_read_under_way_without_holding_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        let _session = open(&file).await;
        let readers = Arc::new(Readers::open_some(&file, 1).await);
        let (held, is_held) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let reading = Arc::clone(&readers);
        let reader = std::thread::spawn(move || {
            let guard = reading.free().unwrap();
            held.send(()).unwrap();
            let _released = released.recv_timeout(Duration::from_secs(10));
            drop(guard);
        });
        is_held.await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), readers.close()).await.is_err());
        release.send(()).unwrap();
        reader.join().unwrap();
        readers.close().await;
        assert_eq!(readers.row(&find("a")), AtOnce::No);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn one_worker_thread_is_left_when_a_disk_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        let session = open(&file).await;
        insert(&session, "dong").await;
        let readers = Readers::open(&file).await;
        let hanging = [readers.free().unwrap(), readers.free().unwrap()];
        assert_eq!(readers.row(&find("dong")), AtOnce::Taken, "the third goes on");
        drop(hanging);
        assert_eq!(name(&readers.row(&find("dong"))), Some("dong"));
    }

    #[tokio::test]
    async fn a_single_worker_reads_over_the_pool() {
        let folder = tempfile::tempdir().unwrap();
        let session = open(&folder.path().join("users.db")).await;
        assert_eq!(session.at_once(&find("dong")), AtOnce::No);
        assert!(session.connection(Access::Read).await.unwrap().rows(find("dong")).await.unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lock_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        open(&file).await.close().await;
        let holder = Connection::open(&file).unwrap();
        // Without a write-ahead log readers wait for writers.
        holder.pragma_update(None, "journal_mode", "DELETE").unwrap();
        let readers = Readers::open_some(&file, 1).await;
        assert_eq!(readers.row(&find("dong")), AtOnce::Read(None));
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert_eq!(readers.row(&find("dong")), AtOnce::No);
        holder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(readers.row(&find("dong")), AtOnce::Read(None));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_written_and_nothing_read_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.db");
        let session = open(&file).await;
        assert_eq!(session.at_once(&find("dong")), AtOnce::Read(None));
        assert_eq!(session.at_once(&Statement::new("DELETE FROM users RETURNING id")), AtOnce::No);
        session.close().await;
        assert_eq!(session.at_once(&find("dong")), AtOnce::No);
    }
}
