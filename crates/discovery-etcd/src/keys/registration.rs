//! An instance's life in etcd: register, update, deregister.

use discovery::{Instance, InstanceKey, LeaseId, Revision, Status, Ttl};

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
        failure::{Failure, FailureClass},
    },
    keys::{compare_and_swap::Current, holder::Held},
};

/// How often [`Etcd::leave`] looks at the key: twice when nothing else writes it.
const LEAVE_ROUNDS: usize = 8;

/// A committed registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The lease that the instance lives by, for [`Etcd::keep_alive`].
    pub lease: LeaseId,
    /// When it was written.
    pub revision: Revision,
}

/// What the end of a registration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is gone from this revision on; 0 when nothing was there.
    At(Revision),
    /// The key lives by another lease than the caller said; nothing was touched.
    Another(Held),
}

// === impl Etcd ===

impl Etcd {
    /// Registers an instance under a lease of its own, replacing what was registered under this key.
    ///
    /// When this returns `Ok`, a majority of the members has it. A lease that the key lived by before is revoked if it
    /// holds no other key, so that there are as many leases as instances.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Invalid`] and [`EtcdError::Register`]. Nothing stays registered then, or for one TTL at most when
    /// etcd could not be reached to take it back. The same holds when the call is cancelled.
    pub async fn register(&self, key: &InstanceKey, instance: &Instance, ttl: Ttl) -> Result<Registration, EtcdError> {
        check(key, instance)?;
        let failed = |source| EtcdError::Register { key: key.clone(), source };
        let deadline = self.deadline();
        let guard = self.grant(ttl, deadline).await.map_err(failed)?;
        let lease = guard.lease();
        let path = key.key();
        let value = instance.to_string();
        let views = self.dialect_keys().put(key, instance, lease);
        let written = self.write(&path, &value, Some(lease), views, None, deadline).await.map_err(failed)?;
        if let Some(lease) = written.replaced.and_then(|replaced| replaced.lease) {
            self.revoke_if_unused(lease);
        }
        Ok(Registration { lease: guard.keep(), revision: written.revision })
    }

    /// Writes what changed about an instance that lives by `lease`. Writing what is there already changes nothing.
    ///
    /// # Errors
    ///
    /// [`EtcdError::LeaseNotFound`] and [`EtcdError::NotRegistered`]: register afresh. [`EtcdError::Invalid`],
    /// [`EtcdError::Update`].
    pub async fn update(&self, key: &InstanceKey, instance: &Instance, lease: LeaseId) -> Result<Revision, EtcdError> {
        check(key, instance)?;
        let failed = |source: CallError| match source.refusal() {
            Some(Failure::LeaseNotFound) => EtcdError::LeaseNotFound { lease },
            _ => EtcdError::Update { key: key.clone(), source },
        };
        let views = self.dialect_keys().put(key, instance, lease);
        let written = self.rewrite(&key.key(), &instance.to_string(), lease, views, self.deadline()).await;
        let written = written.map_err(failed)?;
        written.ok_or_else(|| EtcdError::NotRegistered { key: key.clone(), lease })
    }

    /// Ends a registration as [`Etcd::deregister`] does, but says `draining` in the instance's name first, if it has
    /// not: a watcher sees that before the deletion, in this order, and so can tell an instance that left from one
    /// whose lease ended. Returns when it was gone; 0 when nothing was there.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Deregister`], also when the key was written again and again meanwhile; [`EtcdError::Update`]. The
    /// instance may have been marked then, and stays until its lease ends.
    pub async fn leave(&self, key: &InstanceKey) -> Result<Revision, EtcdError> {
        match self.leave_if(key, None).await? {
            Left::At(revision) => Ok(revision),
            Left::Another(held) => Ok(held.modified),
        }
    }

    /// [`Etcd::leave`] for the life with this `lease` alone: what lives by another one is not touched.
    ///
    /// # Errors
    ///
    /// As [`Etcd::leave`].
    pub async fn leave_as(&self, key: &InstanceKey, lease: LeaseId) -> Result<Left, EtcdError> {
        self.leave_if(key, Some(lease)).await
    }

    async fn leave_if(&self, key: &InstanceKey, only: Option<LeaseId>) -> Result<Left, EtcdError> {
        let failed = |source| EtcdError::Deregister { key: key.clone(), source };
        let path = key.key();
        let deadline = self.deadline();
        for _ in 0..LEAVE_ROUNDS {
            let Some(seen) = self.read(&path, deadline).await.map_err(failed)? else {
                return Ok(Left::At(Revision::default()));
            };
            if only.is_some() && seen.lease != only {
                return Ok(Left::Another(seen.into()));
            }
            if let Some((leaving, lease)) = farewell(&seen) {
                match self.update(key, &leaving, lease).await {
                    // The next round deletes it. Or the key has gone with its lease, or lives by another one.
                    Ok(_) | Err(EtcdError::LeaseNotFound { .. } | EtcdError::NotRegistered { .. }) => continue,
                    // An etcd that is full still deletes; what hears only the deletion takes it for an expiry.
                    Err(error) if error.cause().is_some_and(|cause| cause.class() == FailureClass::Lasts) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(gone_at) =
                self.delete(&path, &seen, self.dialect_keys().delete(key), deadline).await.map_err(failed)?
            {
                if let Some(lease) = seen.lease {
                    self.revoke_if_unused(lease);
                }
                return Ok(Left::At(gone_at));
            }
        }
        Err(failed(CallError::Contended))
    }

    /// Ends a registration: revokes `lease`, and deletes the key if it is still there. Doing it again is harmless.
    ///
    /// Watchers see it within milliseconds, instead of after a TTL. Without a `lease`, the one that the key lives by is
    /// revoked unless it holds other keys. Returns when it was gone; 0 when nothing was there.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Deregister`].
    pub async fn deregister(&self, key: &InstanceKey, lease: Option<LeaseId>) -> Result<Revision, EtcdError> {
        let failed = |source| EtcdError::Deregister { key: key.clone(), source };
        let deadline = self.deadline();
        let mut gone_at = Revision::default();
        if let Some(lease) = lease {
            gone_at = self.revoke(lease, deadline).await.map_err(failed)?.unwrap_or_default();
        }
        // The caller may not know of a newer lease (another registry's); the instance must not stay listed for that.
        // But a key that was written after the revocation (which raises the revision only if it deletes a key) is a new
        // registration.
        let path = key.key();
        let seen = self.read(&path, deadline).await.map_err(failed)?;
        if let Some(seen) = seen.filter(|seen| gone_at == Revision::default() || seen.modified <= gone_at) {
            if let Some(revision) =
                self.delete(&path, &seen, self.dialect_keys().delete(key), deadline).await.map_err(failed)?
            {
                gone_at = gone_at.max(revision);
            }
            if let Some(lease) = seen.lease {
                self.revoke_if_unused(lease);
            }
        }
        Ok(gone_at)
    }
}

/// What is to be written before the key is deleted, and by which lease; `None` when it says so already. A key without a
/// lease is no registration, and one that cannot be read is deleted as it is.
fn farewell(seen: &Current) -> Option<(Instance, LeaseId)> {
    let instance = Instance::parse(&seen.value).ok().filter(|instance| instance.status != Status::Draining)?;
    Some((Instance { status: Status::Draining, reason: None, ..instance }, seen.lease?))
}

pub(crate) fn check(key: &InstanceKey, instance: &Instance) -> Result<(), EtcdError> {
    instance.check().map_err(|source| EtcdError::Invalid { key: key.clone(), source })
}
