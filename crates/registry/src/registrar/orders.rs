//! What an operator says about an instance.

use std::sync::Arc;

use discovery::{Incarnation, InstanceKey, Override, Revision, Status};
use discovery_etcd::TakenBack;
use service_kit::tokens::Action;

use super::{Registrar, failed};
use crate::{error::RegistryError, metrics::Refused};

/// What an override is charged with beside its key and value, in bytes: the dialects that follow it.
const DIALECTS_BYTES: usize = 256;

/// An operator's word, as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What the instance is to others.
    pub status: Status,
    /// Who says so.
    pub author: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The life that must hold the id; none: whichever does.
    pub incarnation: Option<Incarnation>,
    /// It goes on when that life has ended, until it is taken back.
    pub outlives: bool,
}

// === impl Registrar ===

impl Registrar {
    /// Writes an operator's word about a registered instance: for the life that holds its id now, unless the word outlives
    /// it. A key that was written for good has no life that could end.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NoSuchInstance`], so that a slip of the pen is noticed; [`RegistryError::AnotherIncarnation`];
    /// [`RegistryError::Invalid`] for author or reason; else as [`Registrar::accept`].
    pub async fn set_override(self: &Arc<Self>, key: InstanceKey, order: Order) -> Result<Revision, RegistryError> {
        self.admission.authorize(&key, Action::Operate)?;
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let this = this.until(deadline);
            let Some(held) = this.find(&key).await? else { return Err(RegistryError::NoSuchInstance(key)) };
            if order.incarnation.is_some_and(|wanted| held.lease != Some(wanted.0)) {
                return Err(this.refuse(Refused::Override, &key, &held));
            }
            let Order { status, author, reason, at_ms, outlives, incarnation: _ } = order;
            let incarnation = held.lease.filter(|_| !outlives).map(Incarnation);
            let order = Override { status, incarnation, author, reason, at_ms: Some(at_ms) };
            order.check().map_err(RegistryError::Invalid)?;
            let reserved = this.admission.reserve_override(&key, order.to_string().len() + DIALECTS_BYTES)?;
            let revision = this.etcd.put_override(&key, order.clone()).await.map_err(failed("write the override"))?;
            reserved.done();
            let author = order.author.as_deref();
            let reason = order.reason.as_deref();
            tracing::info!(parent: None, %key, %status, author, reason, outlives, %revision, "override set by an operator");
            if let Some(lease) = held.lease {
                this.dialects.align(&key, lease).await;
            }
            Ok(revision)
        };
        self.concurrency.run(work).await
    }

    /// Takes an operator's word back, also that about an instance which is gone; whether there was one. With `only`, one
    /// about another life stays.
    ///
    /// # Errors
    ///
    /// [`RegistryError::AnotherIncarnation`]; else as [`Registrar::accept`].
    pub async fn clear_override(
        self: &Arc<Self>,
        key: InstanceKey,
        only: Option<Incarnation>,
    ) -> Result<bool, RegistryError> {
        self.admission.authorize(&key, Action::Operate)?;
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let this = this.until(deadline);
            let taken = match only {
                Some(incarnation) => this.etcd.delete_override_of(&key, incarnation).await,
                None => this.etcd.delete_override(&key).await.map(|existed| match existed {
                    true => TakenBack::Deleted,
                    false => TakenBack::Absent,
                }),
            };
            match taken.map_err(failed("delete the override"))? {
                TakenBack::Deleted => {}
                TakenBack::Absent => return Ok(false),
                TakenBack::Another(order) => return Err(this.not_this(&key, &order)),
            }
            tracing::info!(parent: None, %key, "override removed by an operator");
            let lease = this.mirror.read().seen(&key).and_then(|held| held.lease);
            if let Some(lease) = lease {
                this.dialects.align(&key, lease).await;
            }
            Ok(true)
        };
        self.concurrency.run(work).await
    }

    fn not_this(&self, key: &InstanceKey, order: &Override) -> RegistryError {
        self.metrics.refused(Refused::Override);
        let error = RegistryError::AnotherOverride { key: key.clone(), incarnation: order.incarnation };
        tracing::warn!(parent: None, %key, override_of = %error, "refused: the override is for another incarnation");
        error
    }
}
