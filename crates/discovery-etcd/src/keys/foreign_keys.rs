//! Registrations that other programs have written, under keys of their own, and their copies under native keys.
//!
//! A copy lives by the lease of its original: both are deleted in the same transaction of etcd.

use discovery::{Instance, InstanceKey, LeaseId, Revision};
use etcd_client::{GetOptions, PutOptions, TxnOp};

use crate::{
    client::{error::EtcdError, etcd::Etcd, failure::Failure, member::ClientExt},
    keys::{compare_and_swap::Outcome, registration::check},
};

/// More keys than these below one prefix are not looked at.
const LISTED_MAX: i64 = 10_000;

/// The keys of other programs below one prefix, at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignList {
    /// When this was true.
    pub revision: Revision,
    /// The keys, in their order.
    pub keys: Vec<ForeignKey>,
}

/// A key that another program has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The whole key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The lease that it lives by.
    pub lease: Option<LeaseId>,
}

// === impl Etcd ===

impl Etcd {
    /// Lists other programs' keys, linearizably: at most the first ten thousand. etcd logs nothing for it.
    ///
    /// # Errors
    ///
    /// [`EtcdError::List`].
    pub async fn list_foreign(&self, prefix: &str) -> Result<ForeignList, EtcdError> {
        let listed = self.call(self.deadline(), |client| {
            let mut kv = client.kv();
            let options = GetOptions::new().with_prefix().with_limit(LISTED_MAX);
            async move { kv.get(prefix, Some(options)).await }
        });
        let listed = listed.await;
        let listed =
            listed.map_err(|source| EtcdError::List { prefix: prefix.to_owned(), source: source.about(prefix) })?;
        let foreign = |kv: &etcd_client::KeyValue| ForeignKey {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            lease: (kv.lease() != 0).then(|| LeaseId(kv.lease())),
        };
        let revision = Revision(listed.header().map_or(0, |header| header.revision()));
        Ok(ForeignList { revision, keys: listed.kvs().iter().map(foreign).collect() })
    }

    /// Writes a copy of another program's registration under its lease, if the native key is still as `seen` (`None`:
    /// not there); whether it was.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Invalid`], [`EtcdError::Register`].
    pub async fn adopt(
        &self,
        key: &InstanceKey,
        instance: &Instance,
        lease: Option<LeaseId>,
        seen: Option<Revision>,
    ) -> Result<bool, EtcdError> {
        check(key, instance)?;
        let options = PutOptions::new().with_lease(lease.map_or(0, |lease| lease.0));
        let put = TxnOp::put(key.key(), instance.to_string(), Some(options));
        match self.swap(&key.key(), seen, vec![put], self.deadline()).await {
            Ok(Outcome::Done(_)) => Ok(true),
            Ok(Outcome::Changed(..)) => Ok(false),
            // The original has died meanwhile.
            Err(error) if error.refusal() == Some(&Failure::LeaseNotFound) => Ok(false),
            Err(source) => Err(EtcdError::Register { key: key.clone(), source }),
        }
    }

    /// Deletes a copy whose original is gone, if it is still as `seen`; whether it was.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Deregister`].
    pub async fn release(&self, key: &InstanceKey, seen: Revision) -> Result<bool, EtcdError> {
        let gone = self.swap(&key.key(), Some(seen), vec![TxnOp::delete(key.key(), None)], self.deadline()).await;
        let gone = gone.map_err(|source| EtcdError::Deregister { key: key.clone(), source })?;
        Ok(matches!(gone, Outcome::Done(_)))
    }
}
