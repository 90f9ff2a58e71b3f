//! Writes that may be repeated without harm.
//!
//! An attempt that timed out may still be applied, even much later, when a frozen member thaws. A blind repetition
//! could then put an old value over a newer one. So every write is a compare-and-swap on the revision at which the key
//! was last seen, and an attempt that comes too late compares unequal and changes nothing. An instance's dialect keys
//! are written in the same transaction.

use discovery::{InstanceKey, LeaseId, Revision, dialect};
use etcd_client::{Compare, CompareOp, GetResponse, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::Instant;

use crate::client::{
    error::{CallError, prefix},
    etcd::Etcd,
    member::ClientExt,
};

/// How often a key may change under our hands before we give up.
const ROUNDS: usize = 8;

/// A key as it stands: what we compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) value: Vec<u8>,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) modified: Revision,
}

/// A write that is done.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) revision: Revision,
    /// What was there before, if anything.
    pub(crate) replaced: Option<Current>,
}

/// What a transaction found.
pub(crate) enum Outcome {
    /// The key was as expected, and is changed.
    Done(Revision),
    /// It was like this at this revision.
    Changed(Option<Current>, Revision),
}

// === impl Etcd ===

impl Etcd {
    /// Reads one key, linearizably.
    pub(crate) async fn read(&self, key: &str, deadline: Instant) -> Result<Option<Current>, CallError> {
        let response = self.call(deadline, |client| {
            let mut kv = client.kv();
            async move { kv.get(key, None).await }
        });
        Ok(current(&response.await.map_err(|error| error.about(prefix(key)))?))
    }

    /// Writes `value` under `key` while it lives by `lease`; `None` when it does not, or is not there: then nothing is
    /// written, however late an attempt arrives.
    ///
    /// Writing what is there already succeeds without another revision.
    pub(crate) async fn rewrite(
        &self,
        key: &str,
        value: &str,
        lease: LeaseId,
        views: Vec<TxnOp>,
        deadline: Instant,
    ) -> Result<Option<Revision>, CallError> {
        let mut seen = self.read(key, deadline).await?;
        for _ in 0..ROUNDS {
            let Some(current) = seen.filter(|current| current.lease == Some(lease)) else { return Ok(None) };
            if current.value == value.as_bytes() {
                return Ok(Some(current.modified));
            }
            let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease.0)));
            match self.swap(key, Some(current.modified), with(put, &views), deadline).await? {
                Outcome::Done(revision) => return Ok(Some(revision)),
                Outcome::Changed(current, _) => seen = current,
            }
        }
        Err(CallError::Contended)
    }

    /// Writes `value` under `key`, living by `lease`, whatever is there, starting from what the caller believes is.
    ///
    /// Writing what is there already succeeds without another revision.
    pub(crate) async fn write(
        &self,
        key: &str,
        value: &str,
        lease: Option<LeaseId>,
        views: Vec<TxnOp>,
        mut seen: Option<Current>,
        deadline: Instant,
    ) -> Result<Written, CallError> {
        let mut before = seen.clone();
        for _ in 0..ROUNDS {
            if let Some(current) = &seen
                && current.value == value.as_bytes()
                && current.lease == lease
            {
                // Ours, by an attempt whose answer got lost; or the same as ever.
                return Ok(Written { revision: current.modified, replaced: before });
            }
            let options = PutOptions::new().with_lease(lease.map_or(0, |lease| lease.0));
            let put = TxnOp::put(key, value, Some(options));
            match self.swap(key, seen.as_ref().map(|current| current.modified), with(put, &views), deadline).await? {
                Outcome::Done(revision) => return Ok(Written { revision, replaced: before }),
                Outcome::Changed(current, _) => {
                    // What our own lost attempt wrote is not what was there before.
                    if current
                        .as_ref()
                        .is_none_or(|current| current.value != value.as_bytes() || current.lease != lease)
                    {
                        before.clone_from(&current);
                    }
                    seen = current;
                }
            }
        }
        Err(CallError::Contended)
    }

    /// Deletes `key` if it is still what the caller has `seen`; says from which revision on it is gone, or `None` when
    /// it has been written since.
    pub(crate) async fn delete(
        &self,
        key: &str,
        seen: &Current,
        views: Vec<TxnOp>,
        deadline: Instant,
    ) -> Result<Option<Revision>, CallError> {
        match self.swap(key, Some(seen.modified), with(TxnOp::delete(key, None), &views), deadline).await? {
            Outcome::Done(revision) => Ok(Some(revision)),
            // Gone by a lost attempt of ours, or by itself: both are what was wanted.
            Outcome::Changed(None, gone_at) => Ok(Some(gone_at)),
            Outcome::Changed(Some(_), _) => Ok(None),
        }
    }

    /// Does all of `changes` if `key` was last written when it was `seen` (`None`: is not there), else reads it.
    pub(crate) async fn swap(
        &self,
        key: &str,
        seen: Option<Revision>,
        changes: Vec<TxnOp>,
        deadline: Instant,
    ) -> Result<Outcome, CallError> {
        // An absent key compares as modified at revision 0.
        let modified = seen.unwrap_or_default().0;
        self.swap_if(key, vec![Compare::mod_revision(key, CompareOp::Equal, modified)], changes, deadline).await
    }

    /// Does all of `changes` if `comparisons` hold, else reads `key`.
    pub(crate) async fn swap_if(
        &self,
        key: &str,
        comparisons: Vec<Compare>,
        changes: Vec<TxnOp>,
        deadline: Instant,
    ) -> Result<Outcome, CallError> {
        let txn = Txn::new().when(comparisons).and_then(changes).or_else([TxnOp::get(key, None)]);
        let response = self
            .call(deadline, |client| {
                let mut kv = client.kv();
                let txn = txn.clone();
                async move { kv.txn(txn).await }
            })
            .await
            .map_err(|error| error.about(self.written_with(key)));
        self.writes.wrote(prefix(key), response.as_ref().err());
        let response = response?;
        let revision = Revision(response.header().map_or(0, |header| header.revision()));
        if response.succeeded() {
            return Ok(Outcome::Done(revision));
        }
        let found = response.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => Some(current(&get)),
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        });
        Ok(Outcome::Changed(found.flatten(), revision))
    }
}

impl Etcd {
    /// Where rights are needed to write `key` and what is written with it.
    fn written_with(&self, key: &str) -> String {
        let mut prefixes = vec![prefix(key).to_owned()];
        if let Ok(instance) = InstanceKey::parse(key.as_bytes()) {
            prefixes.extend(dialect::keys(&self.dialects, &instance).iter().map(|key| prefix(key).to_owned()));
        }
        prefixes.dedup();
        prefixes.join(", ")
    }
}

fn with(change: TxnOp, views: &[TxnOp]) -> Vec<TxnOp> {
    [change].into_iter().chain(views.iter().cloned()).collect()
}

/// The one key that was asked for.
pub(crate) fn current(response: &GetResponse) -> Option<Current> {
    response.kvs().first().map(|kv| Current {
        value: kv.value().to_vec(),
        lease: (kv.lease() != 0).then(|| LeaseId(kv.lease())),
        modified: Revision(kv.mod_revision()),
    })
}
