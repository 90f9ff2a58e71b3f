//! Registering an instance only if its key is still as the caller has seen it.
//!
//! [`Etcd::register`] overwrites, which is right for the owner of an instance. Registries are not owners: each takes
//! heartbeats of any instance, by what its mirror shows, and that may be behind. Two that register the same new
//! instance at once both compare the key with "not there"; one of them gets the key, the other gets to know whose it
//! is.

use discovery::{Instance, InstanceKey, LeaseId, Ttl};
use etcd_client::{PutOptions, TxnOp};
use tokio::time::Instant;

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
    },
    keys::{
        compare_and_swap::Outcome,
        holder::Held,
        registration::{Registration, check},
    },
};

/// What a claim came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key was as seen, and is ours.
    Registered(Registration),
    /// The key is not as seen, but like this (`None`: not there); nothing was written.
    Taken(Option<Held>),
}

// === impl Etcd ===

impl Etcd {
    /// Registers an instance under a new lease if its key is still as `seen` (`None`: not there).
    ///
    /// The lease that was seen is revoked if it holds no other key. A lease that turns out not to be needed is revoked,
    /// too.
    ///
    /// # Errors
    ///
    /// As [`Etcd::register`].
    pub async fn claim(
        &self,
        key: &InstanceKey,
        instance: &Instance,
        ttl: Ttl,
        seen: Option<&Held>,
    ) -> Result<Claim, EtcdError> {
        check(key, instance)?;
        let failed = |source| EtcdError::Register { key: key.clone(), source };
        let deadline = self.deadline();
        let guard = self.grant(ttl, deadline).await.map_err(failed)?;
        let claim = self.put_under(key, instance, guard.lease(), seen, deadline).await.map_err(failed)?;
        if let Claim::Registered(_) = &claim {
            guard.keep();
        }
        Ok(claim)
    }

    /// [`Etcd::claim`] under a lease of the caller's choice, which may be there already, for the same instance: it is
    /// the same life. However often this is done, and by whom, there is one lease.
    ///
    /// # Errors
    ///
    /// As [`Etcd::register`]; [`EtcdError::LeaseInUse`] when another instance lives by it.
    pub async fn claim_as(
        &self,
        lease: LeaseId,
        key: &InstanceKey,
        instance: &Instance,
        ttl: Ttl,
        seen: Option<&Held>,
    ) -> Result<Claim, EtcdError> {
        check(key, instance)?;
        let failed = |source| EtcdError::Register { key: key.clone(), source };
        let deadline = self.deadline();
        let is_new = self.grant_as(lease, ttl, deadline).await.map_err(failed)?;
        if !is_new {
            let ours = self.dialect_keys().keys(key);
            let keys = self.keys_of(lease, deadline).await.map_err(failed)?;
            if keys.iter().any(|held| *held != key.key().into_bytes() && !ours.contains(held)) {
                return Err(EtcdError::LeaseInUse { lease });
            }
            // It may have been granted a while ago. If it has ended meanwhile, the write says so.
            let _ended = self.keep_alive(lease).await;
        }
        self.put_under(key, instance, lease, seen, deadline).await.map_err(failed)
    }

    async fn put_under(
        &self,
        key: &InstanceKey,
        instance: &Instance,
        lease: LeaseId,
        seen: Option<&Held>,
        deadline: Instant,
    ) -> Result<Claim, CallError> {
        let put = TxnOp::put(key.key(), instance.to_string(), Some(PutOptions::new().with_lease(lease.0)));
        let changes = [put].into_iter().chain(self.dialect_keys().put(key, instance, lease)).collect();
        let revision = match self.swap(&key.key(), seen.map(|seen| seen.modified), changes, deadline).await? {
            Outcome::Done(revision) => revision,
            // By an attempt whose answer got lost. One of another registry may have written something else.
            Outcome::Changed(Some(current), _)
                if current.lease == Some(lease) && current.value == instance.to_string().as_bytes() =>
            {
                current.modified
            }
            Outcome::Changed(current, _) => return Ok(Claim::Taken(current.map(Held::from))),
        };
        if let Some(replaced) = seen.and_then(|seen| seen.lease).filter(|replaced| *replaced != lease) {
            self.revoke_if_unused(replaced);
        }
        Ok(Claim::Registered(Registration { lease, revision }))
    }
}
