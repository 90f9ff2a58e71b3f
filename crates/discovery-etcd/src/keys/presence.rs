//! A process that says of itself, under a key of its own, that it is present.
//!
//! The key lives by a lease of the process, so it goes within a TTL of its end; and of its standing still, which
//! distinguishes a frozen process from a working one. The value may change while the lease lives. The key is taken with
//! [`Etcd::campaign`] and given up with [`Etcd::resign`]; the others are listed with [`Etcd::list_foreign`].

use discovery::LeaseId;

use crate::client::{
    error::{CallError, EtcdError},
    etcd::Etcd,
    failure::Failure,
};

// === impl Etcd ===

impl Etcd {
    /// Writes `text` under `key` while that lives by `lease`; false when it does not any more, and nothing was written.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Election`]; it may be written or not.
    pub async fn restate(&self, key: &str, text: &str, lease: LeaseId) -> Result<bool, EtcdError> {
        match self.rewrite(key, text, lease, Vec::new(), self.deadline()).await {
            Ok(written) => Ok(written.is_some()),
            Err(source) if is_gone(&source) => Ok(false),
            Err(source) => Err(EtcdError::Election { key: key.to_owned(), source }),
        }
    }
}

/// The lease ended between the look at the key and the write.
fn is_gone(error: &CallError) -> bool {
    error.refusal() == Some(&Failure::LeaseNotFound)
}
