//! The end of a registration.

use std::sync::Arc;

use discovery::{Incarnation, InstanceKey, Revision};
use discovery_etcd::{Held, Left};
use service_kit::tokens::Action;

use super::{Registrar, failed};
use crate::{error::RegistryError, metrics::Refused};

// === impl Registrar ===

impl Registrar {
    /// Ends a registration at once; the revision from which on it is gone.
    ///
    /// Says `draining` in its name first, if it has not: a deletion looks to others like an expiry, and so they know that
    /// it left; above all the registries that have heard it, which would [restore](crate::restore) it otherwise. Deletes
    /// the key then, both at once if the mirror shows how it is. Revokes its lease last, unless that holds other keys,
    /// too: one that was granted elsewhere may. A heartbeat that comes later and does not say of which life it is registers
    /// the instance again.
    ///
    /// With `only`, what another life holds is not touched.
    ///
    /// # Errors
    ///
    /// [`RegistryError::AnotherIncarnation`]; else as [`Registrar::accept`].
    pub async fn deregister(
        self: &Arc<Self>,
        key: InstanceKey,
        only: Option<Incarnation>,
    ) -> Result<Revision, RegistryError> {
        self.admission.authorize(&key, Action::Register)?;
        self.heard.leave(&key, only);
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let left = this.until(deadline).leave(&key, only).await;
            this.metrics.count_deregistration(left.as_ref().copied());
            let gone_at = left?;
            if gone_at > Revision::default() {
                tracing::info!(parent: None, %key, revision = %gone_at, "instance deregistered");
                this.mirror.commit(key, gone_at, None);
            }
            Ok(gone_at.max(this.mirror.read().revision()))
        };
        let result = self.concurrency.run(work).await;
        result.inspect_err(|error| self.metrics.count_deregistration_not_begun(error))
    }

    /// The work of [`Registrar::deregister`]: the revision at which the key was deleted, 0 when there was none.
    async fn leave(&self, key: &InstanceKey, only: Option<Incarnation>) -> Result<Revision, RegistryError> {
        let is_meant = |held: &Held| only.is_none_or(|only| held.lease == Some(only.0));
        let seen = self.mirror.read_fresh().and_then(|state| state.held(key)).filter(is_meant);
        if let Some(seen) = seen
            && let Some(gone_at) =
                self.etcd.leave_if_seen(key, &seen).await.map_err(failed("deregister the instance"))?
        {
            return Ok(gone_at);
        }
        let left = match only {
            Some(incarnation) => self.etcd.leave_as(key, incarnation.0).await,
            None => self.etcd.leave(key).await.map(Left::At),
        };
        match left.map_err(failed("deregister the instance"))? {
            Left::At(gone_at) => Ok(gone_at),
            Left::Another(held) => Err(self.refuse(Refused::Deregistration, key, &held)),
        }
    }
}
