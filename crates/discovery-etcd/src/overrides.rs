//! An operator's word about an instance, which outlives the instance.

use discovery::{InstanceKey, Revision, Status};

use crate::{call::Etcd, error::EtcdError};

// === impl Etcd ===

impl Etcd {
    /// Overrides the status of an instance, whether it is registered or not, until [`Etcd::delete_override`].
    ///
    /// # Errors
    ///
    /// [`EtcdError::Override`].
    pub async fn put_override(&self, key: &InstanceKey, status: Status) -> Result<Revision, EtcdError> {
        let written = self.write(&key.override_key(), status.as_str(), None, Vec::new(), None, self.deadline()).await;
        let written = written.map_err(|source| EtcdError::Override { key: key.clone(), source })?;
        Ok(written.revision)
    }

    /// Takes an override back; false when there was none.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Override`].
    pub async fn delete_override(&self, key: &InstanceKey) -> Result<bool, EtcdError> {
        let failed = |source| EtcdError::Override { key: key.clone(), source };
        let deadline = self.deadline();
        let Some(seen) = self.read(&key.override_key(), deadline).await.map_err(failed)? else { return Ok(false) };
        self.delete(&key.override_key(), &seen, Vec::new(), deadline).await.map_err(failed)?;
        Ok(true)
    }
}
