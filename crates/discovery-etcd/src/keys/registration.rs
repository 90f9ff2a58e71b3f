//! An instance's life in etcd: register, update, deregister.

use discovery::{Instance, InstanceKey, LeaseId, Revision, Ttl};

use crate::client::{
    error::{CallError, EtcdError},
    etcd::Etcd,
    failure::Failure,
};

/// A committed registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    /// The lease that the instance lives by, for [`Etcd::keep_alive`].
    pub lease: LeaseId,
    /// When it was written.
    pub revision: Revision,
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

pub(crate) fn check(key: &InstanceKey, instance: &Instance) -> Result<(), EtcdError> {
    instance.check().map_err(|source| EtcdError::Invalid { key: key.clone(), source })
}
