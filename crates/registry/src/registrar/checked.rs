//! Instances that a registry checks itself, because they cannot send heartbeats ([`crate::table`]).
//!
//! They are registered by the same means as others, under one lease for their life, but for two things. They have no
//! sender that could be authorized or compared, and an operator's table may name any network. And the id is never
//! taken from another holder: only a heartbeat does that.

use std::sync::Arc;

use discovery::{Incarnation, Life};
use tokio::time::Instant;

use super::{Heartbeat, Registrar, Round};
use crate::{error::RegistryError, metrics::Refused};

// === impl Registrar ===

impl Registrar {
    /// Registers an instance whose id is free.
    ///
    /// # Errors
    ///
    /// [`RegistryError::AnotherIncarnation`] when it is held after all; else as [`Registrar::accept`].
    pub async fn register_checked(self: &Arc<Self>, heartbeat: Heartbeat) -> Result<(), RegistryError> {
        self.admission.admit_checked(&heartbeat.key, &heartbeat.instance).await?;
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let this = this.until(deadline);
            match this.register(&heartbeat, None).await? {
                Round::Committed(committed) => {
                    this.hear(&heartbeat);
                    this.heard.keep(&heartbeat.key, committed.lease, Instant::now());
                    Ok(())
                }
                Round::Again(Some(held)) => Err(this.refuse(Refused::Heartbeat, &heartbeat.key, &held)),
                Round::Again(None) => Err(RegistryError::Contended(heartbeat.key.clone())),
            }
        };
        self.concurrency.run(work).await
    }

    /// Keeps the life `incarnation` of an instance alive, and writes what has changed about it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::AnotherIncarnation`], [`RegistryError::IncarnationEnded`]: nothing was changed. Else as
    /// [`Registrar::accept`].
    pub async fn keep_checked(
        self: &Arc<Self>,
        heartbeat: Heartbeat,
        incarnation: Incarnation,
    ) -> Result<(), RegistryError> {
        self.admission.admit_checked(&heartbeat.key, &heartbeat.instance).await?;
        let heartbeat = Heartbeat { life: Some(Life::Of(incarnation)), ..heartbeat };
        self.hear(&heartbeat);
        let this = Arc::clone(self);
        let work = move |deadline| async move { this.take(&heartbeat, deadline).await };
        self.concurrency.run(work).await.map(drop)
    }
}
