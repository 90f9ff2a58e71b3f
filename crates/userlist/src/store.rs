//! The store: what the service needs of a database, in its own words.
//!
//! | module | what it settles |
//! |---|---|
//! | `options` | which database, and what is asked of it |
//! | `selection` | which users, in which order, from where |
//! | `driver` | what a kind of database must be able to do, and how it can fail |
//! | `sql` | the statements, once for all kinds of databases |
//! | `databases` | MySQL and SQLite: connections, limits, migrations |
//! | `monitor` | the task that keeps the database open |
//! | `attempts` | one query: as many attempts as are safe, within one deadline |
//! | `uncancelled` | a query that goes on when its client has gone |
//! | `writes` | what changes users: one under a condition, many of a file (or a dry run of them), all of a filter |
//!
//! A call takes no longer than the deadline, whatever the database does, and answers at once while it is known to be
//! gone. One exception: a read of one user from SQLite, on a disk that hangs (`databases`). In between it retries where
//! that is safe:
//!
//! | what happened | what is done |
//! |---|---|
//! | no connection could be had | [`StoreError::Unavailable`]: nothing was sent |
//! | another statement held a lock | retried |
//! | the connection broke, or died in the pool | retried: the same `put`, `get` or `delete` twice is one |
//! | … during a `create`, or under a condition | retried; a refusal then may be due to the first attempt: [`StoreError::OutcomeUnknown`] |
//! | the deadline passed | [`StoreError::Unavailable`], or [`StoreError::OutcomeUnknown`] for one of those that was sent |
//!
//! A search that no index helps reads the whole table. Few of them do so at the same time, and each is ended in the
//! database as well when its deadline has passed, so that it does not slow other requests down.
//!
//! A client that goes away in the middle does not cost a connection: what is left of its query becomes a task of its
//! own. What is logged about a query has the request's id but not the request's path, which can hold a name.

mod attempts;
mod databases;
mod driver;
mod error;
mod metrics;
mod monitor;
mod options;
mod selection;
mod sql;
mod uncancelled;
mod writes;

pub use error::StoreError;
pub use monitor::{DatabaseMonitor, Outage};
pub use options::{DatabaseKind, DatabaseMistake, DatabaseOptions, Limits};
pub use selection::{AttributeFilter, Filter, Key, Page, Period, Position, PositionKey, SearchText, Sort, SortKey};
pub use writes::{BATCH_MAX, BulkChange, BulkStep, Condition, Imported, Put, Scratch};

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use prometheus_client::registry::Registry;
use service_kit::request;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use self::{
    attempts::{Answered, Attempts, Work},
    databases::{Mysql, Sqlite},
    driver::{Access, AtOnce, Database, DriverError},
    metrics::{Query, StoreMetrics},
    monitor::State,
    sql::{Dialect, Emails},
    uncancelled::Uncancelled,
};
use crate::user::User;

/// One connection of so many may read the whole table at the same time; the others are for what takes microseconds.
const SCANS_SHARE: usize = 4;

/// How often one user is asked for at once while other threads read. Each time the thread does something else first, so
/// that a few are enough unless the disk hangs.
const AT_ONCE_ATTEMPTS: usize = 10;

/// The users. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    state: watch::Receiver<State>,
    suspicion: Arc<Notify>,
    metrics: StoreMetrics,
    deadline: Duration,
    emails: Emails,
    dialect: Dialect,
    scans: Arc<Semaphore>,
}

// === impl Store ===

impl Store {
    /// A store that opens as soon as the monitor runs. Connects to nothing by itself.
    pub fn new(kind: &DatabaseKind, limits: Limits, registry: &mut Registry) -> (Self, DatabaseMonitor) {
        let (database, dialect): (Box<dyn Database>, _) = match kind {
            DatabaseKind::Mysql(options) => (Box::new(Mysql::new((**options).clone(), limits)), Dialect::Mysql),
            DatabaseKind::Sqlite(file) => (Box::new(Sqlite::new(file.clone(), limits)), Dialect::Sqlite),
        };
        let emails = if limits.unique_emails { Emails::Unique } else { Emails::Shared };
        let metrics = StoreMetrics::register(registry);
        let suspicion = Arc::new(Notify::new());
        let monitor = DatabaseMonitor::new(database, Arc::clone(&suspicion), metrics.clone());
        let scans = Arc::new(Semaphore::new((limits.connections as usize / SCANS_SHARE).max(1)));
        (
            Self { state: monitor.state(), suspicion, metrics, deadline: limits.deadline, emails, dialect, scans },
            monitor,
        )
    }

    /// Why the database cannot be used now; none when it can.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        match &*self.state.borrow() {
            State::Closed(outage) => Some(outage.clone()),
            State::Open(_) => None,
        }
    }

    /// Waits until [`Store::outage`] may have changed since the last call on this clone. False when the monitor is gone
    /// and nothing will change any more.
    pub async fn outage_changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// The user of that name or id.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`]; or the database does not answer.
    pub async fn get(&self, key: &Key) -> Result<User, StoreError> {
        let getting = async {
            match self.found_at_once(key).await {
                Some(found) => Ok(found),
                None => self.found_over_a_connection(key).await,
            }
        };
        self.observed(Query::get, async { getting.await?.ok_or(StoreError::NoSuchUser) }).await
    }

    /// None when it has to be asked over a connection.
    async fn found_at_once(&self, key: &Key) -> Option<Option<User>> {
        let session = match &*self.state.borrow() {
            State::Open(opened) => Arc::clone(&opened.session),
            State::Closed(_) => return None,
        };
        let statement = sql::find(key);
        for _ in 0..AT_ONCE_ATTEMPTS {
            match session.at_once(&statement) {
                AtOnce::Read(row) => return row.map(sql::user).transpose().ok(),
                AtOnce::Taken => tokio::task::yield_now().await,
                AtOnce::No => return None,
            }
        }
        None
    }

    async fn found_over_a_connection(&self, key: &Key) -> Result<Option<User>, StoreError> {
        let key = key.clone();
        let getting = self.perform(Access::Read, move |connection| {
            let key = key.clone();
            Box::pin(async move { writes::find(connection, &key).await })
        });
        Ok(getting.await?.value)
    }

    /// A part of a list. One that has to search waits until few others do, and is given up at the deadline.
    ///
    /// # Errors
    /// The database does not answer, or not soon enough.
    pub async fn list(&self, page: &Page) -> Result<Vec<User>, StoreError> {
        let statement = sql::page(page, self.dialect);
        let listing = self.scan(statement.is_scan, move |connection| {
            let statement = statement.clone();
            Box::pin(async move { connection.rows(statement).await?.into_iter().map(sql::user).collect() })
        });
        self.observed(Query::list, listing).await
    }

    /// How many users there are, by reading all rows or an index of them.
    ///
    /// # Errors
    /// The database does not answer, or not soon enough.
    pub async fn count(&self, filter: &Filter) -> Result<i64, StoreError> {
        let statement = sql::count(filter, self.dialect);
        let counting = self.scan(true, move |connection| connection.number(statement.clone()));
        self.observed(Query::count, counting).await
    }

    /// Searches can keep every core and every connection busy; so only some of them do at the same time. Waiting for a
    /// permit and reading have one deadline.
    async fn scan<T: Send + 'static>(&self, is_scan: bool, work: impl Work<T>) -> Result<T, StoreError> {
        let asked = Instant::now();
        let permit = if is_scan { Some(self.search_permit().await?) } else { None };
        let left = self.deadline.saturating_sub(asked.elapsed());
        let scanning = self.perform_within(left, Access::Read, move |connection| {
            // Kept by the query itself, which goes on when its client has gone.
            let _kept = &permit;
            work(connection)
        });
        Ok(scanning.await?.value)
    }

    /// Waits for half of the deadline at most, as for a connection: a search that begins later could not end in time,
    /// and would only delay the next one.
    async fn search_permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        match timeout(self.deadline / 2, Arc::clone(&self.scans).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(DriverError::Contended("too many searches at the same time".to_owned()).into()),
        }
    }

    async fn perform<T: Send + 'static>(&self, access: Access, work: impl Work<T>) -> Result<Answered<T>, StoreError> {
        self.perform_within(self.deadline, access, work).await
    }

    async fn perform_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        access: Access,
        work: impl Work<T>,
    ) -> Result<Answered<T>, StoreError> {
        let opened = match &*self.state.borrow() {
            State::Open(opened) => opened.clone(),
            State::Closed(outage) => return Err(DriverError::NotReached(outage.reason.clone()).into()),
        };
        let suspicion = Arc::clone(&self.suspicion);
        let attempts = Attempts { opened, access, suspicion, deadline, request_id: request::current_id() };
        let attempting = AssertUnwindSafe(attempts.run(work)).catch_unwind();
        Uncancelled::new(attempting).await.unwrap_or_else(|_| {
            let reason = "it panicked".to_owned();
            Err(StoreError::Failed { reason })
        })
    }

    async fn observed<T>(
        &self,
        query: Query,
        outcome: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let outcome = outcome.await;
        self.metrics.observe(query, outcome.as_ref().map(|_| ()), started.elapsed());
        outcome
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("outage", &self.outage()).finish_non_exhaustive()
    }
}
