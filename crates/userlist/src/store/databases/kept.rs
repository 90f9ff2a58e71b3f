//! Connections that stay at hand between requests.
//!
//! sqlx's pool asks every connection that it gets back whether it is alive, in a task of its own. That is a second
//! round trip for each request, and until it is over no request can have the connection. So those that were used a
//! moment ago are kept here, and go back to the pool, which closes what is old or idle for long, only now and then.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection as _, Database, Pool, pool::PoolConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// A connection that was idle for longer is asked whether it is alive before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// After so long in use a connection goes to the pool once, which closes those that are half an hour old. One that was
/// idle for so long is closed without being asked: a firewall may have forgotten it, and would not say so.
const POOLED_AFTER: Duration = Duration::from_secs(60);

/// As many connections as the pool may have.
pub(super) struct Kept<D: Database> {
    pool: Pool<D>,
    shelf: Arc<Shelf<D>>,
    /// For a connection, waiting for one included.
    limit: Duration,
}

/// What lies there, the one that was used last on top.
struct Shelf<D: Database> {
    idle: Mutex<Vec<Idle<D>>>,
    permits: Arc<Semaphore>,
}

struct Idle<D: Database> {
    connection: PoolConnection<D>,
    pooled: Instant,
    since: Instant,
}

/// A connection for one request. Dropped, it is closed.
pub(super) struct Lease<D: Database> {
    /// None at the end.
    connection: Option<PoolConnection<D>>,
    pooled: Instant,
    shelf: Arc<Shelf<D>>,
    _permit: OwnedSemaphorePermit,
}

// === impl Kept ===

impl<D: Database> Kept<D> {
    pub(super) fn new(pool: Pool<D>, limit: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(pool.options().get_max_connections() as usize));
        Self { pool, shelf: Arc::new(Shelf { idle: Mutex::default(), permits }), limit }
    }

    /// Waits until one is free. An error means that nothing was sent.
    pub(super) async fn lease(&self) -> Result<Lease<D>, sqlx::Error> {
        timeout(self.limit, self.free()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn free(&self) -> Result<Lease<D>, sqlx::Error> {
        let permit = Arc::clone(&self.shelf.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let shelf = Arc::clone(&self.shelf);
        // Whatever is asked, is asked on a lease: one that is given up on the way is closed, and its place is free.
        let mut lease = Lease { connection: None, pooled: Instant::now(), shelf, _permit: permit };
        while let Some(Idle { connection, pooled, since }) = self.shelf.top() {
            lease.connection = Some(connection);
            lease.pooled = pooled;
            let idle = since.elapsed();
            if idle <= TRUSTED_IDLE || (idle <= POOLED_AFTER && self.is_alive(lease.get()).await) {
                return Ok(lease);
            }
            drop(lease.connection.take().map(PoolConnection::detach));
        }
        lease.connection = Some(self.pool.acquire().await?);
        lease.pooled = Instant::now();
        Ok(lease)
    }

    async fn is_alive(&self, connection: &mut D::Connection) -> bool {
        matches!(timeout(self.limit / 2, connection.ping()).await, Ok(Ok(())))
    }

    /// Closes what is idle, and refuses to lease any more. Ends when the last lease has.
    pub(super) async fn close(&self) {
        self.shelf.permits.close();
        let idle = std::mem::take(&mut *self.shelf.idle());
        drop(idle);
        self.pool.close().await;
    }
}

impl<D: Database> fmt::Debug for Kept<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("idle", &self.shelf.idle().len()).finish_non_exhaustive()
    }
}

// === impl Shelf ===

impl<D: Database> Shelf<D> {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<D>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn top(&self) -> Option<Idle<D>> {
        self.idle().pop()
    }

    /// Puts one there; returns one that goes to the pool, because it is old or because it is not needed.
    fn put(&self, put: Idle<D>) -> Option<Idle<D>> {
        let mut idle = self.idle();
        if self.permits.is_closed() || put.pooled.elapsed() > POOLED_AFTER {
            return Some(put);
        }
        idle.push(put);
        let is_unused = idle.first().is_some_and(|bottom| bottom.since.elapsed() > TRUSTED_IDLE);
        is_unused.then(|| idle.remove(0))
    }
}

// === impl Lease ===

impl<D: Database> Lease<D> {
    pub(super) fn get(&mut self) -> &mut D::Connection {
        self.connection.as_mut().expect("it is taken out only at the end")
    }

    /// Keeps it for the next request. Nothing may be under way on it.
    pub(super) fn keep(mut self) {
        if let Some(connection) = self.connection.take() {
            drop(self.shelf.put(Idle { connection, pooled: self.pooled, since: Instant::now() }));
        }
    }

    /// Lets the pool find out what is under way on it.
    pub(super) fn doubt(mut self) {
        drop(self.connection.take());
    }
}

impl<D: Database> Drop for Lease<D> {
    fn drop(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}
