//! Answering later: when something has changed, or when the client's patience is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use discovery::Revision;
use service_kit::{Problem, connections::ClientNetwork};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::query::Poll;
use crate::{
    admission::{self, Admission, Denied, access::Right},
    catalog::Catalog,
    error::RegistryError,
    mirror::Topic,
};

/// The index of an answer, beside the field `index` of its body.
pub(super) const INDEX: HeaderName = HeaderName::from_static("x-muster-index");

/// How long a client waits that does not say for how long.
pub(super) const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a client waits at most, whatever it says; what Consul allows.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How many clients wait at most. Each holds one of the server's 4096 connections, and heartbeats need some, too.
const WAITING_MAX: usize = 3072;

/// How many clients of one network wait at most: half, as of connections ([`service_kit::connections`]), so that one
/// network alone cannot keep all others from waiting.
const WAITING_PER_CLIENT_MAX: usize = WAITING_MAX / 2;

/// The requests that wait for a change, bounded. Clones share it.
#[derive(Debug, Clone)]
pub struct LongPolls {
    permits: Arc<Semaphore>,
    shares: Shares,
    per_client_max: usize,
    admission: Admission,
    closing: CancellationToken,
}

/// How many permits each client network holds.
#[derive(Debug, Clone, Default)]
struct Shares(Arc<Mutex<HashMap<ClientNetwork, usize>>>);

/// One permit of a client network, until it is dropped.
#[derive(Debug)]
struct Share {
    shares: Shares,
    network: ClientNetwork,
}

/// Permission to wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct PollPermit {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
    closing: CancellationToken,
}

// === impl LongPolls ===

impl LongPolls {
    /// Every poll is answered with the current state when `closing` is cancelled: shutdown does not wait for
    /// long polls. `admission` counts refusals.
    pub fn new(admission: Admission, closing: CancellationToken) -> Self {
        Self::bounded(admission, closing, WAITING_MAX, WAITING_PER_CLIENT_MAX)
    }

    /// The same with other bounds: how many in all, and of one client network.
    pub(crate) fn bounded(admission: Admission, closing: CancellationToken, max: usize, per_client_max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(max));
        let shares = Shares::default();
        Self { permits, shares, per_client_max, admission, closing }
    }

    /// Acquires a permit for the client whose request is being served.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Crowded`]; [`Denied::Waiting`] when the client's network holds its share.
    pub(crate) fn acquire(&self) -> Result<PollPermit, RegistryError> {
        let share = admission::client().map(|client| self.shares.take(ClientNetwork::of(client), self.per_client_max));
        let share = share.transpose().inspect_err(|denied| self.admission.count(denied))?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| RegistryError::Crowded)?;
        Ok(PollPermit { _permit: permit, _share: share, closing: self.closing.clone() })
    }

    /// Waits as `poll` asks.
    ///
    /// # Errors
    ///
    /// As [`LongPolls::acquire`]; 401 and 403 when the token is withdrawn, or loses the scope, meanwhile.
    pub(super) async fn wait(&self, catalog: &Catalog, topic: Topic, poll: &Poll) -> Result<(), Problem> {
        let Some(seen) = poll.seen else { return Ok(()) };
        let permit = self.acquire()?;
        let mut right = Right::current();
        tokio::select! {
            problem = Right::lost(&mut right) => Err(problem),
            _ = catalog.wait(topic, seen, poll.until()) => Ok(()),
            () = permit.closed() => Ok(()),
        }
    }
}

// === impl Shares ===

impl Shares {
    fn take(&self, network: ClientNetwork, max: usize) -> Result<Share, Denied> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(network).or_default();
        if *count >= max {
            return Err(Denied::Waiting { max });
        }
        *count += 1;
        Ok(Share { shares: self.clone(), network })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

// === impl Poll ===

impl Poll {
    /// Until when to wait. A little longer than was asked for, by a sixteenth at most, so that a thousand who were
    /// woken together do not come back together for ever.
    pub(super) fn until(&self) -> Instant {
        let wait = self.wait.unwrap_or(WAIT_DEFAULT).min(WAIT_MAX);
        Instant::now() + wait + wait.mul_f64(rand::random::<f64>() / 16.0)
    }
}

// === impl PollPermit ===

impl PollPermit {
    /// Returns when the registry shuts down.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_holds_its_share_keeps_no_other_network_out() {
        let shares = Shares::default();
        let network = |last: u8| ClientNetwork::of([10, 0, 0, last].into());
        let held: Vec<Share> = (0..3).map(|_| shares.take(network(1), 3).unwrap()).collect();
        assert!(matches!(shares.take(network(1), 3), Err(Denied::Waiting { max: 3 })));
        let other = shares.take(network(2), 3).unwrap();
        drop(held);
        assert!(shares.take(network(1), 3).is_ok(), "who leaves makes room");
        drop(other);
        assert!(shares.0.lock().unwrap().is_empty(), "nothing is remembered of who has left");
    }
}
