//! Grant and revoke, and no lease left behind.

use std::time::Duration;

use discovery::{LeaseId, Revision, Ttl};
use etcd_client::LeaseGrantOptions;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tracing::debug;

use crate::client::{
    error::CallError,
    etcd::Etcd,
    failure::{Failure, FailureClass},
    member::ClientExt,
};

/// A grant whose answer we do not have may be applied after we have asked to revoke it. So we ask again after these
/// waits; what comes later than that ends with its TTL.
const ASK_AGAIN: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1500)];

/// Revokes a lease in the background unless it is [kept](LeaseGuard::keep): also when the caller is cancelled halfway.
pub(crate) struct LeaseGuard {
    etcd: Etcd,
    lease: Option<LeaseId>,
    /// False until etcd has said so.
    granted: bool,
}

// === impl Etcd ===

impl Etcd {
    /// Grants a lease of an id of our own choice, so that an attempt whose answer got lost is recognised as ours.
    pub(crate) async fn grant(&self, ttl: Ttl, deadline: Instant) -> Result<LeaseGuard, CallError> {
        // 63 random bits: two callers do not choose the same one.
        let lease = LeaseId(rand::random_range(1..=i64::MAX));
        let mut guard = LeaseGuard { etcd: self.clone(), lease: Some(lease), granted: false };
        if let Err(error) = self.grant_as(lease, ttl, deadline).await {
            // A refusal that lasts is one by all: there is nothing to take back.
            if error.class() == FailureClass::Lasts {
                guard.lease = None;
            }
            return Err(error);
        }
        guard.granted = true;
        Ok(guard)
    }

    /// Grants `lease`; whether it was not there before. Nothing revokes it when the caller fails: others may have
    /// granted the same one for the same purpose, and the one that is not used ends with its TTL.
    pub(crate) async fn grant_as(&self, lease: LeaseId, ttl: Ttl, deadline: Instant) -> Result<bool, CallError> {
        let granted = self.call(deadline, |client| {
            let mut leases = client.lease();
            let options = LeaseGrantOptions::new().with_id(lease.0);
            async move { leases.grant(ttl.as_secs_ceil().into(), Some(options)).await }
        });
        match granted.await {
            Ok(_) => {
                self.writes.granted(None);
                Ok(true)
            }
            Err(error) if error.refusal() == Some(&Failure::LeaseExists) => {
                self.writes.granted(None);
                Ok(false)
            }
            Err(error) => {
                self.writes.granted(Some(&error));
                Err(error)
            }
        }
    }

    /// The keys that live by `lease`; none when it is gone.
    pub(crate) async fn keys_of(&self, lease: LeaseId, deadline: Instant) -> Result<Vec<Vec<u8>>, CallError> {
        let options = || etcd_client::LeaseTimeToLiveOptions::new().with_keys();
        let keys = self.call(deadline, |client| {
            let mut leases = client.lease();
            async move { leases.time_to_live(lease.0, Some(options())).await }
        });
        Ok(keys.await?.keys().to_vec())
    }

    /// Ends a lease and deletes its keys; `None` when it was gone already.
    pub(crate) async fn revoke(&self, lease: LeaseId, deadline: Instant) -> Result<Option<Revision>, CallError> {
        let revoked = self.call(deadline, |client| {
            let mut leases = client.lease();
            async move { leases.revoke(lease.0).await }
        });
        match revoked.await {
            Ok(response) => Ok(Some(Revision(response.header().map_or(0, |header| header.revision())))),
            Err(error) if error.refusal() == Some(&Failure::LeaseNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Revokes a lease that has lost its last key, in the background. One that still has keys is in use.
    pub(crate) fn revoke_if_unused(&self, lease: LeaseId) {
        let etcd = self.unhurried();
        in_background(async move {
            let deadline = etcd.deadline();
            let keys = etcd.call(deadline, |client| {
                let mut leases = client.lease();
                let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
                async move { leases.time_to_live(lease.0, Some(options)).await }
            });
            match keys.await {
                Ok(response) if response.ttl() > 0 && response.keys().is_empty() => {
                    etcd.revoke_quietly(lease, &[]).await;
                }
                Ok(_) => {}
                Err(error) => debug!(%lease, %error, "an unused lease is left to expire"),
            }
        });
    }

    /// Revokes a lease; asks again after each of `waits` while there is none. Not when etcd cannot be reached: it has
    /// other worries then, and the lease ends with its TTL.
    async fn revoke_quietly(&self, lease: LeaseId, waits: &[Duration]) {
        let mut waits = waits.iter();
        loop {
            match self.revoke(lease, self.deadline()).await {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(error) => return debug!(%lease, %error, "an unused lease is left to expire"),
            }
            let Some(wait) = waits.next() else { return };
            sleep(*wait).await;
        }
    }
}

// === impl LeaseGuard ===

impl LeaseGuard {
    /// The lease, still guarded.
    pub(crate) fn lease(&self) -> LeaseId {
        self.lease.expect("only keep() takes it, and that ends the guard")
    }

    /// The lease is in use: it stays.
    pub(crate) fn keep(mut self) -> LeaseId {
        self.lease.take().expect("only keep() takes it, and that ends the guard")
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let etcd = self.etcd.unhurried();
            let waits: &[Duration] = if self.granted { &[] } else { &ASK_AGAIN };
            in_background(async move { etcd.revoke_quietly(lease, waits).await });
        }
    }
}

/// Outside a runtime (a process that ends) there is nothing to run it on; the lease then ends with its TTL.
fn in_background(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}
