//! Leader election: one process of many holds a key by its lease, and leaves a note for its successor.
//!
//! The first process to write the key is the leader until it resigns or its lease ends. That one process believes it
//! still holds what another has just taken is bounded, not excluded (it was frozen, say): right for jobs where twice is
//! a nuisance, wrong where twice is damage. A holder that keeps its lease alive right before it acts makes the gap
//! small.

use discovery::{LeaseId, Revision, Ttl};
use etcd_client::{PutOptions, TxnOp};

use crate::{
    client::{error::EtcdError, etcd::Etcd},
    keys::compare_and_swap::Outcome,
};

// === impl Etcd ===

impl Etcd {
    /// Makes `holder` the leader if there is none; returns the lease that holds `key`, for [`Etcd::keep_alive`].
    ///
    /// # Errors
    ///
    /// [`EtcdError::Election`]; `key` may then be held until the lease ends.
    pub async fn campaign(&self, key: &str, holder: &str, ttl: Ttl) -> Result<Option<LeaseId>, EtcdError> {
        let failed = |source| EtcdError::Election { key: key.to_owned(), source };
        let deadline = self.deadline();
        if self.read(key, deadline).await.map_err(failed)?.is_some() {
            return Ok(None);
        }
        let guard = self.grant(ttl, deadline).await.map_err(failed)?;
        let lease = guard.lease();
        let put = TxnOp::put(key, holder, Some(PutOptions::new().with_lease(lease.0)));
        match self.swap(key, None, vec![put], deadline).await.map_err(failed)? {
            Outcome::Done(_) => Ok(Some(guard.keep())),
            // By an attempt of ours whose answer got lost.
            Outcome::Changed(Some(current), _) if current.lease == Some(lease) => Ok(Some(guard.keep())),
            Outcome::Changed(..) => Ok(None),
        }
    }

    /// Gives the leadership up at once.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Election`]; it ends with its lease then.
    pub async fn resign(&self, key: &str, lease: LeaseId) -> Result<(), EtcdError> {
        let left = self.revoke(lease, self.deadline()).await;
        left.map(drop).map_err(|source| EtcdError::Election { key: key.to_owned(), source })
    }

    /// Reads the text under `key`.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Election`].
    pub async fn election_note(&self, key: &str) -> Result<Option<String>, EtcdError> {
        let found = self.read(key, self.deadline()).await;
        let found = found.map_err(|source| EtcdError::Election { key: key.to_owned(), source })?;
        Ok(found.map(|current| String::from_utf8_lossy(&current.value).into_owned()))
    }

    /// Writes `text` under `key`, for good.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Election`]; it may be written or not.
    pub async fn put_election_note(&self, key: &str, text: &str) -> Result<Revision, EtcdError> {
        let written = self.write(key, text, None, Vec::new(), None, self.deadline()).await;
        let written = written.map_err(|source| EtcdError::Election { key: key.to_owned(), source })?;
        Ok(written.revision)
    }
}
