//! A SQLite file: connections, and the threads on which their statements are carried out.
//!
//! A call (a transaction, or some reads that belong together) is handed to a thread beside the runtime's as a whole,
//! because a commit waits for the disk. All of its statements are carried out there, prepared once for each connection.
//!
//! There is one writer: SQLite has no more. Queueing for it here is fair, SQLite's own waiting is not, and is left for
//! other processes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{OpenFlags, config::DbConfig};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    OutboxError,
    caller::Caller,
    sql::{Connection, Work},
};

/// How long another process may hold SQLite's lock, and how long a call waits for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// Prepared statements that a connection keeps. One with a list of values is another statement for each length.
const STATEMENTS_MAX: usize = 128;
/// Steps of SQLite's machine, of some tens of nanoseconds each, after which it looks whether the caller has left.
const STEPS: i32 = 10_000;

const SESSION: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";

/// So many connections to one file, opened when they are needed.
#[derive(Debug)]
pub(super) struct SqliteConnections {
    shelf: Arc<Shelf>,
    count: u32,
    places: Arc<Semaphore>,
}

/// Those that are not in use.
#[derive(Debug)]
struct Shelf {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

// === impl SqliteConnections ===

impl SqliteConnections {
    /// Opens nothing yet.
    pub(super) fn new(file: &Path, count: u32) -> Self {
        let shelf = Shelf { file: file.to_owned(), idle: Mutex::default() };
        Self { shelf: Arc::new(shelf), count, places: Arc::new(Semaphore::new(count as usize)) }
    }

    /// Hands a connection to `call`, on a thread. When `caller` leaves, the call is not begun, or its statement is
    /// stopped; without one it comes to its end.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        call: Work<T>,
        caller: Option<Caller>,
    ) -> Result<T, OutboxError> {
        let place = self.place().await?;
        let shelf = Arc::clone(&self.shelf);
        let calling = spawn_blocking(move || {
            let _until_its_end = place;
            if caller.as_ref().is_some_and(Caller::has_left) {
                return Err(OutboxError::Silent);
            }
            let mut connection = shelf.take()?;
            bound(&connection, caller)?;
            // Its statements are carried out when they are asked for, so nothing is waited for but the disk.
            let result = Handle::current().block_on(call(&mut connection));
            let is_in_order = result.as_ref().err().is_none_or(OutboxError::leaves_the_connection_in_order);
            if is_in_order && !connection.is_in_transaction() && bound(&connection, None).is_ok() {
                shelf.idle().push(connection);
            }
            result
        });
        match calling.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(closing()),
        }
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, OutboxError> {
        match timeout(BUSY_TIMEOUT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(place) => place.map_err(|_| closing()),
            Err(_) => Err(OutboxError::Unavailable { reason: "no connection could be had in time".to_owned() }),
        }
    }

    /// Closes the connections when the calls under way have come to their end.
    pub(super) async fn close(&self) {
        let _all = self.places.acquire_many(self.count).await;
        self.places.close();
        let shelf = Arc::clone(&self.shelf);
        // The last one may write the log back into the file.
        let _joined = spawn_blocking(move || shelf.idle().clear()).await;
    }
}

// === impl Shelf ===

impl Shelf {
    fn take(&self) -> Result<Connection, OutboxError> {
        let idle = self.idle().pop();
        idle.map_or_else(|| connect(&self.file), Ok)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(file: &Path) -> Result<Connection, OutboxError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Else a statement whose values have changed is prepared once more, to see whether another plan suits them.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(SESSION)?;
    Ok(Connection::Sqlite(connection))
}

/// Lets nothing take longer than `caller` waits: neither another process's lock nor a statement.
fn bound(connection: &Connection, caller: Option<Caller>) -> Result<(), OutboxError> {
    let Connection::Sqlite(connection) = connection else { return Ok(()) };
    connection.busy_timeout(caller.as_ref().map_or(BUSY_TIMEOUT, |caller| caller.left().min(BUSY_TIMEOUT)))?;
    connection.progress_handler(STEPS, caller.map(|caller| move || caller.has_left()))?;
    Ok(())
}

fn closing() -> OutboxError {
    OutboxError::Unavailable { reason: "it is being closed".to_owned() }
}
