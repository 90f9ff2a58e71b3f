//! Keeps the database open: opens it whenever it is not, and notices when it is gone.
//!
//! ```text
//!            open fails: wait 50 ms … 1 s            check every 2 s, or at a suspicion
//!            ┌────────┐                              ┌────────┐
//!            ▼        │                              ▼        │
//!  start ─▶ closed ───┴──── open succeeds ─────────▶ open ────┘
//!            ▲                                        │
//!            └──────────── a check fails ─────────────┘
//! ```
//!
//! While it is closed a request is answered at once, with the reason; nothing waits in line for a database that is not
//! there. Opening brings the tables up to date again, so that a server that came back empty gets its tables, and
//! it makes new connections, so that none from before the outage is ever used.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use service_kit::backoff::Backoff;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    driver::{Database, DriverError, Session},
    metrics::StoreMetrics,
};

const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const OPEN_PAUSE_MIN: Duration = Duration::from_millis(50);
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(1);
/// For queries under way when the service ends, and for connections to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Whether there is a database, and which.
#[derive(Debug, Clone)]
pub(super) enum State {
    Closed(Outage),
    Open(Opened),
}

/// Why there is no database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// For a person; without a secret, a name or an address.
    pub reason: String,
    /// When it began.
    pub since: Instant,
}

/// A database that can be used, until `ended`.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) session: Arc<dyn Session>,
    pub(super) ended: CancellationToken,
}

/// The task behind a store; without it, the store stays closed.
#[derive(Debug)]
#[must_use = "the store opens only while this runs"]
pub struct DatabaseMonitor {
    database: Box<dyn Database>,
    state: watch::Sender<State>,
    suspicion: Arc<Notify>,
    metrics: StoreMetrics,
}

// === impl DatabaseMonitor ===

impl DatabaseMonitor {
    pub(super) fn new(database: Box<dyn Database>, suspicion: Arc<Notify>, metrics: StoreMetrics) -> Self {
        let outage = Outage { reason: "not opened yet".to_owned(), since: Instant::now() };
        Self { database, state: watch::Sender::new(State::Closed(outage)), suspicion, metrics }
    }

    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Keeps the database open until `shutdown`, then closes it.
    pub async fn run(self, shutdown: CancellationToken) {
        while let Some(session) = shutdown.run_until_cancelled(self.open()).await {
            let ended = CancellationToken::new();
            self.opened(Opened { session: Arc::clone(&session), ended: ended.clone() });
            let reason = shutdown.run_until_cancelled(self.watch_over(&*session)).await;
            let is_over = reason.is_none();
            match reason {
                Some(reason) => self.closed(reason),
                None => tracing::debug!("closing the database on shutdown"),
            }
            ended.cancel();
            let closing = async move { timeout(CLOSE_DEADLINE, session.close()).await.is_ok() };
            // A connection to a server that says nothing may take long to close, and the next one is wanted now.
            let closing = tokio::spawn(closing);
            if is_over && !closing.await.unwrap_or(false) {
                tracing::warn!("database closed while a query was under way");
            }
        }
    }

    /// Tries until it succeeds.
    async fn open(&self) -> Arc<dyn Session> {
        let mut backoff = Backoff::new(OPEN_PAUSE_MIN, OPEN_PAUSE_MAX);
        loop {
            match self.database.open().await {
                Ok(session) => return session,
                Err(error) => self.closed(error.reason().to_owned()),
            }
            sleep(backoff.next_wait()).await;
        }
    }

    /// Returns the reason when the database has gone.
    async fn watch_over(&self, session: &dyn Session) -> String {
        loop {
            // Either way it is time for a check.
            let _ = timeout(CHECK_INTERVAL, self.suspicion.notified()).await;
            match session.check().await {
                Ok(()) | Err(DriverError::Contended(_)) => {}
                Err(error) => return error.reason().to_owned(),
            }
        }
    }

    fn opened(&self, opened: Opened) {
        match self.state.send_replace(State::Open(opened)) {
            State::Closed(Outage { since, .. }) => {
                tracing::info!(after_ms = since.elapsed().as_millis(), "the database is open");
            }
            State::Open(_) => {}
        }
        self.metrics.set_up(true);
    }

    /// Logs the first reason of an outage, and each that differs from the one before.
    fn closed(&self, reason: String) {
        self.metrics.set_up(false);
        self.state.send_if_modified(|state| {
            let since = match state {
                State::Closed(outage) if outage.reason == reason => return false,
                State::Closed(outage) => outage.since,
                State::Open(_) => Instant::now(),
            };
            tracing::warn!(reason, "the database cannot be used");
            *state = State::Closed(Outage { reason, since });
            true
        });
    }
}
