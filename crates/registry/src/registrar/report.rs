//! A heartbeat that says no more than how the instance is, as Consul's checks do.

use std::sync::Arc;

use discovery::{Instance, InstanceKey, Reason, Status, Ttl};
use discovery_etcd::{EtcdError, Held};
use service_kit::tokens::Action;
use tokio::time::Instant;

use super::{Committed, Heartbeat, Registrar, Round, failed};
use crate::{error::RegistryError, metrics::Outcome};

// === impl Registrar ===

impl Registrar {
    /// Takes a heartbeat that says no more than how the instance is, and keeps it as it was registered; false when it is
    /// not registered (any more).
    ///
    /// # Errors
    ///
    /// As [`Registrar::accept`].
    pub async fn report(
        self: &Arc<Self>,
        key: InstanceKey,
        status: Status,
        reason: Option<Reason>,
    ) -> Result<bool, RegistryError> {
        self.admission.authorize(&key, Action::Register)?;
        let this = Arc::clone(self);
        let work = move |deadline| async move {
            let result = this.until(deadline).commit_report(key, status, reason).await;
            if let Some(counted) = result.as_ref().map(|outcome| *outcome).transpose() {
                this.metrics.count(counted);
            }
            result
        };
        let result = self.concurrency.run(work).await;
        Ok(result.inspect_err(|error| self.metrics.count_not_begun(error))?.is_some())
    }

    async fn commit_report(
        &self,
        key: InstanceKey,
        status: Status,
        reason: Option<Reason>,
    ) -> Result<Option<Outcome>, RegistryError> {
        let held = self.known(&key).await?;
        let Some(Held { instance: Some(instance), lease: Some(lease), .. }) = held else { return Ok(None) };
        let ttl = match self.etcd.keep_alive(lease).await {
            Ok(ttl) => Ttl::try_from(ttl).unwrap_or_default(),
            Err(EtcdError::LeaseNotFound { .. }) => return Ok(None),
            Err(source) => return Err(failed("keep the lease alive")(source)),
        };
        let said = Instance { status, reason: reason.filter(|_| status != Status::Passing), ..instance.clone() };
        let heartbeat = Heartbeat { key: key.clone(), instance: said, ttl, life: None };
        self.hear(&heartbeat);
        self.heard.keep(&key, lease, Instant::now());
        let round = if self.remarks.is_news(&key, &instance, &heartbeat.instance, Instant::now()) {
            self.update(&heartbeat, lease).await?
        } else {
            self.confirm(&heartbeat, lease).await?
        };
        let Round::Committed(Committed { outcome, lease, .. }) = round else { return Ok(None) };
        let ordered = self.mirror.read().overridden(&key, Some(lease));
        self.dialects.follow(&key, lease, ordered.is_some(), !matches!(outcome, Outcome::KeptAlive)).await;
        Ok(Some(outcome))
    }
}
