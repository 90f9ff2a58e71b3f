//! The store: what the service needs of a database, in its own words.
//!
//! | module | what it settles |
//! |---|---|
//! | `session` | what a kind of database must be able to do, and how it can fail |
//! | `mysql`, `sqlite` | the two kinds: SQL, limits, migrations |
//! | `fault` | from the driver's errors to ours |
//! | `keeper` | the task that keeps the database open |
//!
//! A call takes no longer than the deadline, whatever the database does, and answers at once while it is known to be
//! gone. In between it tries again where that is safe:
//!
//! | what happened | what is done |
//! |---|---|
//! | no connection could be had | [`StoreError::Unavailable`]: nothing was sent |
//! | another statement held a lock | tried again |
//! | the connection broke, or died in the pool | tried again: the same `put`, `get` or `delete` twice is one |
//! | … during a `create` | tried again; when the name is taken then, nobody knows by whom: [`StoreError::OutcomeUnknown`] |
//! | the deadline passed | [`StoreError::Unavailable`], or [`StoreError::OutcomeUnknown`] for a `create` that was sent |
//!
//! Queries run as tasks of their own. A client that goes away in the middle does not cost a connection, and what is
//! logged about a query has the request's id but not the request's path, which can hold a name.

mod attempts;
mod fault;
mod keeper;
mod metrics;
mod mysql;
mod session;
mod sqlite;

pub use keeper::{Keeper, Outage};

use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use service_kit::request;
use tokio::sync::{Notify, watch};
use tracing::Instrument as _;

use self::{
    attempts::{Answered, Attempts, Work},
    keeper::State,
    metrics::{Query, StoreMetrics},
    mysql::Mysql,
    session::{Access, Connection, Database, Fault},
    sqlite::Sqlite,
};
use crate::{
    config::{DatabaseKind, Limits},
    user::{NewUser, User, UserId, UserName},
};

/// The users. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    state: watch::Receiver<State>,
    suspicion: Arc<Notify>,
    metrics: StoreMetrics,
    deadline: Duration,
}

/// What a [`Store::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There was nobody of that name.
    Created,
    /// The user has another address now, or the same again.
    Changed,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody has that name.
    #[error("no user has that name")]
    NoSuchUser,
    /// Somebody has that name; nothing was changed.
    #[error("a user has that name")]
    UserExists,
    /// The database is gone, silent or too busy.
    #[error("the database cannot be used: {reason}")]
    Unavailable {
        /// For the log.
        reason: String,
        /// The change may have been made all the same. It is one of those that may be made again.
        is_in_doubt: bool,
    },
    /// Whether the user was created is not known. Look before trying again.
    #[error("the database broke off before it answered")]
    OutcomeUnknown,
    /// Reads work, changes do not; nothing was changed.
    #[error("the database takes no changes: {reason}")]
    ReadOnly {
        /// For the log.
        reason: String,
    },
    /// Nothing was changed.
    #[error("the database has no space left: {reason}")]
    Full {
        /// For the log.
        reason: String,
    },
    /// A bug.
    #[error("a query failed in an unexpected way: {reason}")]
    Failed {
        /// For the log.
        reason: String,
    },
}

// === impl Store ===

impl Store {
    /// A store that opens as soon as the keeper runs. Connects to nothing by itself.
    pub fn new(kind: &DatabaseKind, limits: Limits, registry: &mut Registry) -> (Self, Keeper) {
        let database: Box<dyn Database> = match kind {
            DatabaseKind::Mysql(options) => Box::new(Mysql::new((**options).clone(), limits)),
            DatabaseKind::Sqlite(file) => Box::new(Sqlite::new(file.clone(), limits)),
        };
        let metrics = StoreMetrics::register(registry);
        let suspicion = Arc::new(Notify::new());
        let keeper = Keeper::new(database, Arc::clone(&suspicion), metrics.clone());
        (Self { state: keeper.state(), suspicion, metrics, deadline: limits.deadline }, keeper)
    }

    /// Why the database cannot be used now; none when it can.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        match &*self.state.borrow() {
            State::Closed(outage) => Some(outage.clone()),
            State::Open(_) => None,
        }
    }

    /// Waits until [`Store::outage`] may have changed since the last call on this clone. False when the keeper is gone
    /// and nothing will change any more.
    pub async fn outage_changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// The user of that name.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`]; or the database does not answer.
    pub async fn get(&self, name: &UserName) -> Result<User, StoreError> {
        let name = name.clone();
        let getting = self.perform(Access::Read, move |connection| {
            let name = name.clone();
            Box::pin(async move { connection.find(&name).await })
        });
        self.observed(Query::get, async { getting.await?.value.ok_or(StoreError::NoSuchUser) }).await
    }

    /// Creates the user or changes their address. Any number of these at the same time end in one user with one id.
    ///
    /// # Errors
    /// The database does not answer, or takes no changes.
    pub async fn put(&self, user: &NewUser) -> Result<(User, Put), StoreError> {
        let user = user.clone();
        let putting = self.perform(Access::Write, move |connection| {
            let user = user.clone();
            Box::pin(async move { put(connection, &user).await })
        });
        self.observed(Query::put, async { Ok(putting.await?.value) }).await
    }

    /// Creates the user unless the name is taken.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], [`StoreError::OutcomeUnknown`]; or the database does not answer, or takes no changes.
    pub async fn create(&self, user: &NewUser) -> Result<User, StoreError> {
        let user = user.clone();
        let creating = self.perform(Access::Write, move |connection| {
            let user = user.clone();
            Box::pin(async move { connection.insert(&user).await })
        });
        let outcome = async {
            match creating.await {
                Ok(Answered { value: Some(user), .. }) => Ok(user),
                Ok(Answered { value: None, is_repetition: false }) => Err(StoreError::UserExists),
                // Taken by somebody else, or by our first attempt; or broken off.
                Ok(Answered { value: None, is_repetition: true })
                | Err(StoreError::Unavailable { is_in_doubt: true, .. }) => Err(StoreError::OutcomeUnknown),
                Err(error) => Err(error),
            }
        };
        self.observed(Query::create, outcome).await
    }

    /// Deletes the user of that name.
    ///
    /// # Errors
    /// [`StoreError::NoSuchUser`]; or the database does not answer, or takes no changes.
    pub async fn delete(&self, name: &UserName) -> Result<(), StoreError> {
        let name = name.clone();
        let deleting = self.perform(Access::Write, move |connection| {
            let name = name.clone();
            Box::pin(async move { connection.remove(&name).await })
        });
        let outcome = async {
            match deleting.await? {
                // Gone is gone, whichever attempt did it.
                Answered { value: true, .. } | Answered { is_repetition: true, .. } => Ok(()),
                Answered { value: false, is_repetition: false } => Err(StoreError::NoSuchUser),
            }
        };
        self.observed(Query::delete, outcome).await
    }

    /// At most `rows` users with ids greater than `after`, by id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn list(&self, after: UserId, rows: u32) -> Result<Vec<User>, StoreError> {
        let listing = self.perform(Access::Read, move |connection| connection.page(after, rows));
        self.observed(Query::list, async { Ok(listing.await?.value) }).await
    }

    async fn perform<T: Send + 'static>(&self, access: Access, work: impl Work<T>) -> Result<Answered<T>, StoreError> {
        let opened = match &*self.state.borrow() {
            State::Open(opened) => opened.clone(),
            State::Closed(outage) => return Err(Fault::NotReached(outage.reason.clone()).into()),
        };
        let attempts = Attempts { opened, access, suspicion: Arc::clone(&self.suspicion), deadline: self.deadline };
        let span = tracing::info_span!(parent: None, "query", request_id = request::current_id());
        tokio::spawn(attempts.run(work).instrument(span)).await.unwrap_or_else(|_| {
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

/// Changes the address, or inserts the user; each is a statement of its own, so others come in between.
async fn put(connection: &mut dyn Connection, user: &NewUser) -> Result<(User, Put), Fault> {
    if let Some(user) = connection.change(user).await? {
        return Ok((user, Put::Changed));
    }
    match connection.insert(user).await? {
        Some(user) => Ok((user, Put::Created)),
        None => Err(Fault::Contended("somebody else inserted the same name".to_owned())),
    }
}

// === impl StoreError ===

impl StoreError {
    /// The stable word for it, in error bodies and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchUser => "no_such_user",
            Self::UserExists => "user_exists",
            Self::Unavailable { .. } => "database_unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ReadOnly { .. } => "database_read_only",
            Self::Full { .. } => "database_full",
            Self::Failed { .. } => "internal",
        }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotReached(reason) | Fault::Lost(reason) | Fault::Contended(reason) | Fault::Unusable(reason) => {
                Self::Unavailable { reason, is_in_doubt: false }
            }
            Fault::ReadOnly(reason) => Self::ReadOnly { reason },
            Fault::Full(reason) => Self::Full { reason },
            Fault::Unexpected(reason) => Self::Failed { reason },
        }
    }
}
