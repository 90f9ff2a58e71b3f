//! Answering later: when something has changed, or when the client's patience is over.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use discovery::Revision;
use service_kit::Problem;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::query::Poll;
use crate::{
    catalog::{Catalog, Topic},
    error::RegistryError,
};

/// The index of an answer, beside the field `index` of its body.
pub(super) const INDEX: HeaderName = HeaderName::from_static("x-muster-index");

/// How long a client waits that does not say for how long.
pub(super) const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a client waits at most, whatever it says; what Consul allows.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How many clients wait at most. Each holds one of the server's 4096 connections, and heartbeats need some, too.
const WAITING_MAX: usize = 3072;

/// Where clients wait. Clones share it.
#[derive(Debug, Clone)]
pub struct WaitingRoom {
    places: Arc<Semaphore>,
    closing: CancellationToken,
}

/// A place in the waiting room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    closing: CancellationToken,
}

// === impl WaitingRoom ===

impl WaitingRoom {
    /// Everybody is sent away, with the answer as it stands, when `closing` is cancelled: an orderly end does not wait for
    /// those who wait.
    pub fn new(closing: CancellationToken) -> Self {
        Self { places: Arc::new(Semaphore::new(WAITING_MAX)), closing }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Crowded`].
    pub(super) fn enter(&self) -> Result<Place, RegistryError> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| RegistryError::Crowded)?;
        Ok(Place { _permit: permit, closing: self.closing.clone() })
    }

    /// Waits as `poll` asks.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Crowded`].
    pub(super) async fn wait(&self, catalog: &Catalog, topic: Topic, poll: &Poll) -> Result<(), RegistryError> {
        let Some(seen) = poll.seen else { return Ok(()) };
        let place = self.enter()?;
        tokio::select! {
            _ = catalog.wait(topic, seen, poll.until()) => Ok(()),
            () = place.closed() => Ok(()),
        }
    }
}

// === impl Poll ===

impl Poll {
    /// Until when to wait. A little longer than was asked for, by a sixteenth at most, so that a thousand who were woken
    /// together do not come back together for ever.
    pub(super) fn until(&self) -> Instant {
        let wait = self.wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
        Instant::now() + wait + wait.mul_f64(rand::random::<f64>() / 16.0)
    }
}

// === impl Place ===

impl Place {
    /// Returns when everybody has to leave.
    pub(super) async fn closed(&self) {
        self.closing.cancelled().await;
    }
}

/// The header with an index.
pub(super) fn index_header(index: Revision) -> HeaderMap {
    HeaderMap::from_iter([(INDEX, HeaderValue::from(index.0))])
}

/// 503 unless something has ever been read from etcd.
pub(super) fn loaded(catalog: &Catalog) -> Result<(), Problem> {
    catalog.age()?;
    Ok(())
}
