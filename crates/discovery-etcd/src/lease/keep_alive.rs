//! Keep-alive: what a heartbeat costs etcd when nothing changed. It adds nothing to etcd's log.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use discovery::LeaseId;
use etcd_client::Client;
use tokio::time::Instant;

use crate::client::{
    error::EtcdError,
    etcd::Etcd,
    failure::Failure,
    keep_alive_stream::Opened,
    member::{ClientExt, Member},
};

// === impl Etcd ===

impl Etcd {
    /// Keeps a lease alive for another TTL, which is returned.
    ///
    /// Runs over long-lived streams that are shared by all leases. etcd's answer is no proof that the instance's key
    /// is still there: it may have been deleted.
    ///
    /// # Errors
    ///
    /// [`EtcdError::LeaseNotFound`]: register afresh. [`EtcdError::KeepAlive`]: not known; repeat it.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, EtcdError> {
        self.keep_alive_by(lease, self.deadline()).await
    }

    /// The same for a caller who waits no longer than `until`, as if by [`Etcd::until`].
    ///
    /// # Errors
    ///
    /// As [`Etcd::keep_alive`].
    pub async fn keep_alive_until(&self, lease: LeaseId, until: Instant) -> Result<Duration, EtcdError> {
        self.keep_alive_by(lease, self.deadline().min(until)).await
    }

    async fn keep_alive_by(&self, lease: LeaseId, deadline: Instant) -> Result<Duration, EtcdError> {
        // Set by an attempt that does not come back: then this lease may be the one for which etcd stalls the stream,
        // and it must not stall the next member's, too.
        let stalled = AtomicBool::new(false);
        let kept = self.on_members(deadline, |member, until| {
            let stalled = &stalled;
            async move {
                // Opening a stream is boxed: it is rare, and thirty times as large as the rest.
                if stalled.swap(true, Ordering::Relaxed) {
                    return Box::pin(keep_alive_alone(member, lease)).await;
                }
                let stream = member.keep_alive_streams.of(lease);
                let answer = stream.keep_alive(lease, until, || Box::pin(open_stream(member, lease))).await;
                stalled.store(false, Ordering::Relaxed);
                answer
            }
        });
        kept.await.map_err(|source| match source.refusal() {
            Some(Failure::LeaseNotFound) => EtcdError::LeaseNotFound { lease },
            _ => EtcdError::KeepAlive { lease, source },
        })
    }
}

/// Keeps one lease alive over a stream of its own, which ends with that.
async fn keep_alive_alone(member: &Member, lease: LeaseId) -> Result<Duration, Failure> {
    let (ttl, _keeper, _stream) = open_stream(member, lease).await?;
    Ok(ttl)
}

/// Opens a keep-alive stream on `member`; etcd-client sends the first request and takes its response.
async fn open_stream(member: &Member, lease: LeaseId) -> Result<Opened, Failure> {
    let open = |client: Client| async move { client.lease().keep_alive(lease.0).await };
    let (mut keeper, mut stream) = member.attempt(&open).await?;
    // etcd-client keeps the TTL of the first response to itself, so we ask once more.
    keeper.keep_alive().await?;
    let response = stream.message().await?;
    match response.map(|response| response.ttl()) {
        Some(ttl) if ttl > 0 => Ok((Duration::from_secs(ttl.unsigned_abs()), keeper, stream)),
        Some(_) => Err(Failure::LeaseNotFound),
        None => Err(Failure::Unreachable("the keep-alive stream was closed".into())),
    }
}
