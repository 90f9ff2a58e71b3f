//! The heartbeat that changes nothing, which nearly all of them are, kept cheap.
//!
//! ```text
//! does the mirror show what the heartbeat says, for its life?     (by reference: nothing is copied)
//! └─ keep the lease alive
//!    └─ does the mirror still show the key, by this lease?        → kept alive
//! ```
//!
//! Whatever turns out otherwise, or if the mirror is no witness, is settled as if nothing had been done, by
//! [`Registrar::take_changed`]: a lease that was kept alive once more does no harm.

use discovery::{InstanceKey, LeaseId, Life, Revision, Status, Ttl};
use discovery_etcd::EtcdError;
use tokio::time::Instant;

use super::{Committed, Heartbeat, Registrar, failed};
use crate::{error::RegistryError, metrics::Outcome};

// === impl Registrar ===

impl Registrar {
    /// Keeps an instance alive that is registered as it says: what was committed, and the status that the instance has.
    /// `None`: there is more to do than that.
    ///
    /// # Errors
    ///
    /// etcd does not keep the lease alive.
    pub(super) async fn keep_unchanged(
        &self,
        heartbeat: &Heartbeat,
        deadline: Instant,
    ) -> Result<Option<(Committed, Status)>, RegistryError> {
        let Some(lease) = self.lease_if_unchanged(heartbeat) else { return Ok(None) };
        let ttl = match self.etcd.keep_alive_until(lease, deadline).await {
            Ok(ttl) => ttl,
            Err(EtcdError::LeaseNotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed("keep the lease alive")(source)),
        };
        if heartbeat.life.is_none() && ttl.as_secs() != self.lease_ttl.wanted_secs(heartbeat.ttl) {
            return Ok(None);
        }
        let Some((revision, ordered)) = self.lives(&heartbeat.key, lease) else { return Ok(None) };
        // etcd's shortest lease may be longer than what the instance asked for, and counts on.
        let ttl = Ttl::try_from(ttl).map_or(heartbeat.ttl, |ttl| ttl.min(heartbeat.ttl));
        let committed = Committed { outcome: Outcome::KeptAlive, lease, revision, ttl };
        Ok(Some((committed, self.settle(heartbeat, committed, ordered, deadline).await)))
    }

    /// The lease that the instance lives by, if it is registered as `heartbeat` says, and that is of the same life.
    fn lease_if_unchanged(&self, Heartbeat { key, instance, life, .. }: &Heartbeat) -> Option<LeaseId> {
        let state = self.mirror.read_fresh()?;
        let seen = state.seen(key)?;
        let lease = seen.lease?;
        let is_its_life = match life {
            None => true,
            Some(Life::Of(incarnation)) => incarnation.0 == lease,
            Some(Life::New | Life::NewAs(_)) => false,
        };
        (is_its_life && seen.instance == Some(instance)).then_some(lease)
    }

    /// Whether the key still lives by `lease`: the revision at which that is known, and what an operator has ordered.
    fn lives(&self, key: &InstanceKey, lease: LeaseId) -> Option<(Revision, Option<Status>)> {
        let state = self.mirror.read_fresh()?;
        let seen = state.seen(key).filter(|seen| seen.lease == Some(lease))?;
        Some((state.revision().max(seen.modified), state.overridden(key, Some(lease))))
    }
}
