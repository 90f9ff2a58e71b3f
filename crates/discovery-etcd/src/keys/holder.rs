//! How etcd holds an instance now: what its key says, and the lease that it lives by.

use discovery::{Instance, InstanceKey, LeaseId, Revision};

use crate::{
    client::{error::EtcdError, etcd::Etcd},
    keys::compare_and_swap::Current,
};

/// An instance's key as etcd holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What it says; `None` when that cannot be parsed.
    pub instance: Option<Instance>,
    /// The lease that it lives by; `None` for a key without a lease.
    pub lease: Option<LeaseId>,
    /// When it was last written: what a claim compares with.
    pub modified: Revision,
}

// === impl Etcd ===

impl Etcd {
    /// How etcd holds an instance, linearizably. etcd logs nothing for it.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Find`].
    pub async fn find(&self, key: &InstanceKey) -> Result<Option<Held>, EtcdError> {
        let found = self.read(&key.key(), self.deadline()).await;
        Ok(found.map_err(|source| EtcdError::Find { key: key.clone(), source })?.map(Held::from))
    }
}

// === impl Held ===

impl From<Current> for Held {
    fn from(Current { value, lease, modified }: Current) -> Self {
        Self { instance: Instance::parse(&value).ok(), lease, modified }
    }
}
