//! The end of a registration, told to watchers: farewell, then deletion.
//!
//! Both are events of one key, and every watch shows them in this order; a transaction may touch a key only once, so
//! there are two. They are on their way at the same time: the second one compares the key with what the first one writes.
//! One that overtakes the first finds something else, changes nothing, and is sent again. So a registration that is as the
//! caller has seen it ends without a look at etcd, and in little more than the time of one write.

use discovery::{Instance, InstanceKey, LeaseId, Revision, Status};
use etcd_client::{Compare, CompareOp, PutOptions, TxnOp};

use crate::{
    client::{
        error::{CallError, EtcdError},
        etcd::Etcd,
        failure::{Failure, FailureClass},
    },
    keys::{
        compare_and_swap::{Current, Outcome},
        holder::Held,
    },
};

/// How often [`Etcd::leave`] looks at the key: twice when nothing else writes it.
const LEAVE_ROUNDS: usize = 8;

/// What the end of a registration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is gone from this revision on; 0 when nothing was there.
    At(Revision),
    /// The key lives by another lease than the caller said; nothing was touched.
    Another(Held),
}

// === impl Etcd ===

impl Etcd {
    /// Ends a registration as [`Etcd::deregister`] does, but says `draining` in the instance's name first, if it has
    /// not: a watcher sees that before the deletion, in this order, and so can tell an instance that left from one
    /// whose lease ended. Returns when it was gone; 0 when nothing was there.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Deregister`], also when the key was written again and again meanwhile; [`EtcdError::Update`]. The
    /// instance may have been marked then, and stays until its lease ends.
    pub async fn leave(&self, key: &InstanceKey) -> Result<Revision, EtcdError> {
        match self.leave_if(key, None).await? {
            Left::At(revision) => Ok(revision),
            Left::Another(held) => Ok(held.modified),
        }
    }

    /// [`Etcd::leave`] for the life with this `lease` alone: what lives by another one is not touched.
    ///
    /// # Errors
    ///
    /// As [`Etcd::leave`].
    pub async fn leave_as(&self, key: &InstanceKey, lease: LeaseId) -> Result<Left, EtcdError> {
        self.leave_if(key, Some(lease)).await
    }

    /// [`Etcd::leave`] for a registration that is as it was `seen`, or is gone; the revision from which on it is. `None`: it is
    /// not like that, or etcd refused a part of it. Then the other two settle it, whatever was done.
    ///
    /// # Errors
    ///
    /// As [`Etcd::leave`].
    pub async fn leave_if_seen(&self, key: &InstanceKey, seen: &Held) -> Result<Option<Revision>, EtcdError> {
        let Held { instance: Some(instance), lease: Some(lease), modified } = seen else { return Ok(None) };
        let gone_at = if instance.status == Status::Draining {
            self.delete_if_written_at(key, *modified).await
        } else {
            self.say_farewell_and_delete(key, &leaving(instance.clone()), *lease, *modified).await
        };
        let gone_at = gone_at.map_err(|source| EtcdError::Deregister { key: key.clone(), source })?;
        if gone_at.is_some() {
            self.revoke_if_unused(*lease);
        }
        Ok(gone_at)
    }

    async fn say_farewell_and_delete(
        &self,
        key: &InstanceKey,
        leaving: &Instance,
        lease: LeaseId,
        modified: Revision,
    ) -> Result<Option<Revision>, CallError> {
        let path = key.key();
        let text = leaving.to_string();
        let deadline = self.deadline();
        let put = TxnOp::put(path.clone(), text.clone(), Some(PutOptions::new().with_lease(lease.0)));
        let farewell = [put].into_iter().chain(self.dialect_keys().put(key, leaving, lease)).collect();
        let is_said = vec![
            Compare::value(path.clone(), CompareOp::Equal, text),
            Compare::lease(path.clone(), CompareOp::Equal, lease.0),
        ];
        let (said, deleted) = futures::join!(
            self.swap(&path, Some(modified), farewell, deadline),
            self.swap_if(&path, is_said, self.deletion(key), deadline),
        );
        match (said, deleted) {
            // It was registered again.
            (Ok(Outcome::Changed(Some(_), found_at)), Ok(Outcome::Changed(None, gone_at))) if found_at > gone_at => {
                Ok(None)
            }
            // Gone by this attempt, by one before whose answer was lost, or by itself: each is what was wanted.
            (_, Ok(Outcome::Done(gone_at) | Outcome::Changed(None, gone_at))) => Ok(Some(gone_at)),
            // The deletion has overtaken the farewell.
            (Ok(Outcome::Done(said_at)), Ok(Outcome::Changed(..))) => self.delete_if_written_at(key, said_at).await,
            (Ok(Outcome::Changed(..)), Ok(Outcome::Changed(..))) => Ok(None),
            (Err(error), _) if is_refused(&error) => Ok(None),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// `None` when it has been written since.
    async fn delete_if_written_at(&self, key: &InstanceKey, modified: Revision) -> Result<Option<Revision>, CallError> {
        match self.swap(&key.key(), Some(modified), self.deletion(key), self.deadline()).await? {
            // As above.
            Outcome::Done(gone_at) | Outcome::Changed(None, gone_at) => Ok(Some(gone_at)),
            Outcome::Changed(Some(_), _) => Ok(None),
        }
    }

    fn deletion(&self, key: &InstanceKey) -> Vec<TxnOp> {
        [TxnOp::delete(key.key(), None)].into_iter().chain(self.dialect_keys().delete(key)).collect()
    }

    async fn leave_if(&self, key: &InstanceKey, only: Option<LeaseId>) -> Result<Left, EtcdError> {
        let failed = |source| EtcdError::Deregister { key: key.clone(), source };
        let path = key.key();
        let deadline = self.deadline();
        for _ in 0..LEAVE_ROUNDS {
            let Some(seen) = self.read(&path, deadline).await.map_err(failed)? else {
                return Ok(Left::At(Revision::default()));
            };
            if only.is_some() && seen.lease != only {
                return Ok(Left::Another(seen.into()));
            }
            if let Some((leaving, lease)) = farewell(&seen) {
                match self.update(key, &leaving, lease).await {
                    // The next round deletes it. Or the key has gone with its lease, or lives by another one.
                    Ok(_) | Err(EtcdError::LeaseNotFound { .. } | EtcdError::NotRegistered { .. }) => continue,
                    // An etcd that is full still deletes; what hears only the deletion takes it for an expiry.
                    Err(error) if error.cause().is_some_and(|cause| cause.class() == FailureClass::Lasts) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(gone_at) =
                self.delete(&path, &seen, self.dialect_keys().delete(key), deadline).await.map_err(failed)?
            {
                if let Some(lease) = seen.lease {
                    self.revoke_if_unused(lease);
                }
                return Ok(Left::At(gone_at));
            }
        }
        Err(failed(CallError::Contended))
    }
}

/// What is to be written before the key is deleted, and by which lease; `None` when it says so already. A key without a
/// lease is no registration, and one that cannot be read is deleted as it is.
fn farewell(seen: &Current) -> Option<(Instance, LeaseId)> {
    let instance = Instance::parse(&seen.value).ok().filter(|instance| instance.status != Status::Draining)?;
    Some((leaving(instance), seen.lease?))
}

fn leaving(instance: Instance) -> Instance {
    Instance { status: Status::Draining, reason: None, ..instance }
}

/// The lease has ended, or etcd is full and takes nothing but deletions.
fn is_refused(error: &CallError) -> bool {
    error.refusal() == Some(&Failure::LeaseNotFound) || error.class() == FailureClass::Lasts
}
