//! The keys of an instance in other systems' formats (dialects), written with its native key.
//!
//! *Consistent.* Whatever writes or deletes a native key does the same to its dialect keys, in the same transaction and
//! under the same lease; so all of them appear and die together.
//!
//! *Drained by an operator.* The readers of dialect keys know no overrides, so the dialect keys of an instance with one
//! are removed. Whether there is one, and for this life, is decided within the transaction, by etcd: however late an
//! attempt is applied, it writes what is right at that moment.
//!
//! *Repaired.* Dialect keys can become inconsistent: a registry that was started with other dialects wrote the key, one
//! of them was deleted, an override came or went. [`Etcd::repair_dialect_keys`] reads, which etcd does not log, and
//! writes only what is wrong.

use std::{collections::BTreeMap, sync::Arc};

use discovery::{
    Instance, InstanceKey, LeaseId, Override,
    dialect::{self, Dialects, ViewKey, ViewValue},
};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use tokio::time::Instant;

use crate::{
    client::{
        error::{CallError, EtcdError, prefix},
        etcd::Etcd,
        failure::Failure,
        member::ClientExt,
    },
    keys::{
        compare_and_swap::{Current, Outcome, current},
        overrides,
    },
};

/// The keys of instances in the dialects that are configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DialectKeys<'a> {
    dialects: &'a Dialects,
}

// === impl DialectKeys ===

impl DialectKeys<'_> {
    /// Writes the dialect keys of an instance that lives by `lease`, or removes them if it wants no traffic.
    pub(crate) fn put(&self, key: &InstanceKey, instance: &Instance, lease: LeaseId) -> Vec<TxnOp> {
        let view = dialect::view(self.dialects, key, instance);
        if view.is_empty() {
            return Vec::new();
        }
        let written = view.into_iter().map(|one| operation(one, lease)).collect::<Vec<_>>();
        vec![unless_overridden(&key.override_key(), lease, &written, self.delete(key))]
    }

    /// What the dialect keys of an instance take, keys and values, in bytes.
    fn bytes(&self, key: &InstanceKey, instance: &Instance) -> usize {
        let size = |one: &ViewKey| match &one.value {
            ViewValue::Leased(value) | ViewValue::Kept(value) => one.key.len() + value.len(),
            ViewValue::Absent => 0,
        };
        dialect::view(self.dialects, key, instance).iter().map(size).sum()
    }

    /// Whether everything that was `found` is as [`DialectKeys::put`] would leave it.
    fn are_consistent(
        &self,
        key: &InstanceKey,
        instance: &Instance,
        lease: LeaseId,
        found: &BTreeMap<String, Current>,
    ) -> bool {
        // One that cannot be read is left to the transaction, for which it is one for the present holder of the id.
        let order = found.get(&key.override_key()).map(overrides::read);
        let overridden = order.is_some_and(|order| order.is_none_or(|order| order.applies_to(Some(lease))));
        let absent = || dialect::absent(self.dialects, key);
        let view = if overridden { absent() } else { dialect::view(self.dialects, key, instance) };
        view.iter().all(|ViewKey { key, value }| match (value, found.get(key)) {
            (ViewValue::Leased(value), Some(found)) => found.value == value.as_bytes() && found.lease == Some(lease),
            (ViewValue::Kept(_), found) => found.is_some(),
            (ViewValue::Absent, found) => found.is_none(),
            (ViewValue::Leased(_), None) => false,
        })
    }

    /// Below which prefixes the dialect keys of an instance are written: `grpc/`, `skydns/`.
    pub(crate) fn prefixes(&self, key: &InstanceKey) -> impl Iterator<Item = String> {
        dialect::keys(self.dialects, key).into_iter().map(|path| prefix(&path).to_owned())
    }

    /// Every dialect key that the instance may have.
    pub(crate) fn keys(&self, key: &InstanceKey) -> Vec<Vec<u8>> {
        dialect::keys(self.dialects, key).into_iter().map(String::into_bytes).collect()
    }

    /// Removes the dialect keys of an instance.
    pub(crate) fn delete(&self, key: &InstanceKey) -> Vec<TxnOp> {
        dialect::absent(self.dialects, key).into_iter().map(|one| TxnOp::delete(one.key, None)).collect()
    }
}

/// `written` unless an override is for the life with this `lease`, or for the present holder of the id; then `removed`.
///
/// An override that names its incarnation has a value from [`Override::NAMED`] on, with the digits next; so one for
/// another life sorts before or behind those for this one (`~` is behind every character that is written).
fn unless_overridden(override_key: &str, lease: LeaseId, written: &[TxnOp], removed: Vec<TxnOp>) -> TxnOp {
    let named = |rest: &str| format!("{}{rest}", Override::NAMED);
    let between = |from: String, to: String| {
        let compare = |op, value| Compare::value(override_key, op, value);
        [compare(CompareOp::Greater, from), compare(CompareOp::Less, to)]
    };
    let this = lease.to_string();
    let behind = between(named(&format!("{this}~")), named("~"));
    let before = between(named(""), named(&this));
    let is_absent = [Compare::create_revision(override_key, CompareOp::Equal, 0)];
    let if_behind = Txn::new().when(behind).and_then(written).or_else(removed);
    let if_before = Txn::new().when(before).and_then(written).or_else([TxnOp::txn(if_behind)]);
    TxnOp::txn(Txn::new().when(is_absent).and_then(written).or_else([TxnOp::txn(if_before)]))
}

fn operation(ViewKey { key, value }: ViewKey, lease: LeaseId) -> TxnOp {
    match value {
        ViewValue::Leased(value) => TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease.0))),
        ViewValue::Absent => TxnOp::delete(key, None),
        ViewValue::Kept(value) => {
            let if_absent = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
            TxnOp::txn(Txn::new().when([if_absent]).and_then([TxnOp::put(key, value, None)]))
        }
    }
}

// === impl Etcd ===

impl Etcd {
    /// What writing an instance takes in etcd: keys and values in all configured dialects, in bytes.
    pub fn bytes_of(&self, key: &InstanceKey, instance: &Instance) -> usize {
        key.key().len() + instance.to_string().len() + self.dialect_keys().bytes(key, instance)
    }

    /// The instances that this handle writes, in other systems' formats.
    pub(crate) fn dialect_keys(&self) -> DialectKeys<'_> {
        DialectKeys { dialects: &self.dialects }
    }

    /// A handle that writes whatever it registers, updates or deregisters in these dialects, too.
    #[must_use]
    pub fn with_dialects(mut self, dialects: impl Into<Dialects>) -> Self {
        self.dialects = Arc::new(dialects.into());
        self
    }

    /// Whether any dialect is configured; without one, there is nothing to [repair](Etcd::repair_dialect_keys).
    pub fn has_dialects(&self) -> bool {
        !self.dialects.is_empty()
    }

    /// Repairs the dialect keys of an instance, and returns whether that was necessary. Reading them costs no entry in
    /// etcd's log.
    ///
    /// Does nothing if the instance does not live by `lease`: then another registry has written it, with its dialect
    /// keys.
    ///
    /// # Errors
    ///
    /// [`EtcdError::RepairDialectKeys`].
    pub async fn repair_dialect_keys(&self, key: &InstanceKey, lease: LeaseId) -> Result<bool, EtcdError> {
        let failed = |source| EtcdError::RepairDialectKeys { key: key.clone(), source };
        let deadline = self.deadline();
        let found = self.read_dialect_keys(key, deadline).await.map_err(failed)?;
        let native = found.get(&key.key()).filter(|native| native.lease == Some(lease));
        let Some((native, instance)) = native.and_then(|native| Some((native, Instance::parse(&native.value).ok()?)))
        else {
            return Ok(false);
        };
        if self.dialect_keys().are_consistent(key, &instance, lease, &found) {
            return Ok(false);
        }
        let writes = self.dialect_keys().put(key, &instance, lease);
        match self.swap(&key.key(), Some(native.modified), writes, deadline).await {
            Ok(Outcome::Done(_)) => Ok(true),
            Ok(Outcome::Changed(..)) => Ok(false),
            Err(error) if error.refusal() == Some(&Failure::LeaseNotFound) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// What stands at the instance's native key, its override and every dialect key, at one revision.
    async fn read_dialect_keys(
        &self,
        key: &InstanceKey,
        deadline: Instant,
    ) -> Result<BTreeMap<String, Current>, CallError> {
        let views = dialect::keys(&self.dialects, key);
        let reads: Vec<TxnOp> =
            [key.key(), key.override_key()].into_iter().chain(views).map(|path| TxnOp::get(path, None)).collect();
        let response = self.call(deadline, |client| {
            let mut kv = client.kv();
            let txn = Txn::new().and_then(reads.clone());
            async move { kv.txn(txn).await }
        });
        let response = response.await.map_err(|error| {
            let views: Vec<String> = self.dialect_keys().prefixes(key).collect();
            error.about(format!("service/, override/, {}", views.join(", ")))
        })?;
        let mut found = BTreeMap::new();
        for response in response.op_responses() {
            if let TxnOpResponse::Get(get) = response
                && let (Some(kv), Some(current)) = (get.kvs().first(), current(&get))
            {
                found.insert(String::from_utf8_lossy(kv.key()).into_owned(), current);
            }
        }
        Ok(found)
    }
}
