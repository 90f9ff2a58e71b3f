//! An operator's override of an instance's status, kept beside the instance: heartbeats do not undo it.

use discovery::{Incarnation, InstanceKey, Override, Revision};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
        member::ClientExt,
    },
    keys::compare_and_swap::Current,
};

/// How often [`Etcd::delete_override_of`] looks at the key: twice when nothing else writes it.
const ROUNDS: usize = 8;

/// What taking an override back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBack {
    /// It is deleted.
    Deleted,
    /// There was none.
    Absent,
    /// It is about another life than the caller said, and stays.
    Another(Override),
}

// === impl Etcd ===

impl Etcd {
    /// Overrides the status of an instance, whether it is registered or not, until [`Etcd::delete_override`] or, if it
    /// is about one life, [`Etcd::end_override`].
    ///
    /// # Errors
    ///
    /// [`EtcdError::Override`].
    pub async fn put_override(&self, key: &InstanceKey, order: impl Into<Override>) -> Result<Revision, EtcdError> {
        let value = order.into().to_string();
        let written = self.write(&key.override_key(), &value, None, Vec::new(), None, self.deadline()).await;
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

    /// Takes an override back unless it is about another life than `incarnation`. One about the present holder of the
    /// id is about that one, too.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Override`].
    pub async fn delete_override_of(
        &self,
        key: &InstanceKey,
        incarnation: Incarnation,
    ) -> Result<TakenBack, EtcdError> {
        let failed = |source| EtcdError::Override { key: key.clone(), source };
        let path = key.override_key();
        let deadline = self.deadline();
        for _ in 0..ROUNDS {
            let Some(seen) = self.read(&path, deadline).await.map_err(failed)? else { return Ok(TakenBack::Absent) };
            if let Some(order) = read(&seen).filter(|order| !order.applies_to(Some(incarnation.0))) {
                return Ok(TakenBack::Another(order));
            }
            if self.delete(&path, &seen, Vec::new(), deadline).await.map_err(failed)?.is_some() {
                return Ok(TakenBack::Deleted);
            }
        }
        Err(failed(CallError::Contended))
    }

    /// Deletes an override whose life has ended: if it still says `order`, and its instance does not live by the lease
    /// of that incarnation at that very moment. Whether it did.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Override`].
    pub async fn end_override(&self, key: &InstanceKey, order: &Override) -> Result<bool, EtcdError> {
        let Some(incarnation) = order.incarnation else { return Ok(false) };
        // An absent key compares as one without a lease.
        let txn = Txn::new()
            .when([
                Compare::value(key.override_key(), CompareOp::Equal, order.to_string()),
                Compare::lease(key.key(), CompareOp::NotEqual, incarnation.0.0),
            ])
            .and_then([TxnOp::delete(key.override_key(), None)]);
        let ended = self.call(self.deadline(), |client| {
            let mut kv = client.kv();
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        });
        let ended = ended.await.map_err(|source| EtcdError::Override { key: key.clone(), source })?;
        Ok(ended.succeeded())
    }
}

/// What a key below `override/` says; `None` when that cannot be parsed.
pub(crate) fn read(current: &Current) -> Option<Override> {
    std::str::from_utf8(&current.value).ok()?.parse().ok()
}
