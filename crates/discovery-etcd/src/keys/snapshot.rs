//! Everything that is registered, at one revision.

use std::collections::BTreeMap;

use discovery::{AccessKeyId, InstanceKey, Override, Registered, Revision, ServiceName};
use etcd_client::{GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
        failure::Failure,
        member::ClientExt,
    },
    keys::decode::{Entry, Range, Unreadable},
};

/// What is in etcd at one revision. A watch from the next revision on misses nothing and repeats nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When this is true.
    pub revision: Revision,
    /// Every instance, in the order of their keys.
    pub instances: Vec<Registered>,
    /// Every operator's override, also of instances that are not there.
    pub overrides: BTreeMap<InstanceKey, Override>,
    /// The services' policies, as they were written.
    pub policies: BTreeMap<ServiceName, String>,
    /// The gateway's API keys, as they were written.
    pub access_keys: BTreeMap<AccessKeyId, String>,
    /// Keys and values that cannot be parsed.
    pub unreadable: Vec<Unreadable>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Parses what etcd listed.
    fn read(revision: i64, entries: impl IntoIterator<Item = (Range, Entry)>) -> Self {
        let mut snapshot = Self { revision: Revision(revision), ..Self::default() };
        for (range, entry) in entries {
            let read = match range {
                Range::Instances => entry.registered().map(|registered| snapshot.instances.push(registered)),
                Range::Overrides => entry.overridden().map(|(key, order)| {
                    snapshot.overrides.insert(key, order);
                }),
                Range::Policies => {
                    snapshot.policies.extend(entry.policy());
                    snapshot.access_keys.extend(entry.access_key());
                    Ok(())
                }
            };
            if let Err(unreadable) = read {
                snapshot.unreadable.push(unreadable);
            }
        }
        snapshot
    }
}

impl From<&TxnResponse> for Snapshot {
    fn from(response: &TxnResponse) -> Self {
        let lists = Range::ALL.into_iter().zip(response.op_responses());
        let entries = lists.flat_map(|(range, list)| {
            let entries: Vec<Entry> = match &list {
                TxnOpResponse::Get(list) => list.kvs().iter().map(Entry::from).collect(),
                TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Vec::new(),
            };
            entries.into_iter().map(move |entry| (range, entry))
        });
        Self::read(response.header().map_or(0, |header| header.revision()), entries)
    }
}

// === impl Etcd ===

impl Etcd {
    /// Lists everything, linearizably: what was committed before this call is in it.
    ///
    /// One read-only transaction over all prefixes, so that they are of the same revision; etcd logs nothing for it.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Snapshot`], also when there is no quorum.
    pub async fn snapshot(&self) -> Result<Snapshot, EtcdError> {
        let lists: Vec<TxnOp> = Range::ALL
            .into_iter()
            .map(|range| TxnOp::get(range.prefix(), Some(GetOptions::new().with_prefix())))
            .collect();
        let response = self.call(self.deadline(), |client| {
            let mut kv = client.kv();
            let txn = Txn::new().and_then(lists.clone());
            async move { kv.txn(txn).await }
        });
        match response.await {
            Ok(response) => Ok(Snapshot::from(&response)),
            Err(source) => Err(EtcdError::Snapshot { source: self.naming_what_is_denied(source).await }),
        }
    }

    /// A transaction that is denied does not tell which of its ranges is; asking for each does.
    async fn naming_what_is_denied(&self, error: CallError) -> CallError {
        if !matches!(error.refusal(), Some(Failure::Denied(_))) {
            return error;
        }
        let mut denied = Vec::new();
        for range in Range::ALL {
            let counted = self.call(self.deadline(), |client| {
                let mut kv = client.kv();
                async move { kv.get(range.prefix(), Some(GetOptions::new().with_prefix().with_count_only())).await }
            });
            if counted.await.is_err_and(|error| matches!(error.refusal(), Some(Failure::Denied(_)))) {
                denied.push(range.prefix());
            }
        }
        error.about(denied.join(", "))
    }
}
