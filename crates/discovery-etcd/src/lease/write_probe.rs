//! Whether etcd writes again, asked without a write of the caller's own: by a lease that is granted and given back, or
//! by the alarms that the members report.

use discovery::Ttl;

use crate::client::{
    error::{CallError, EtcdError},
    etcd::Etcd,
};

// === impl Etcd ===

impl Etcd {
    /// Looks whether etcd writes again: grants a lease and gives it back, two entries in its log.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Probe`]; noted in [`Etcd::writes`], too.
    pub async fn probe_writes(&self) -> Result<(), EtcdError> {
        let granted = self.grant(Ttl::MIN, self.deadline()).await;
        granted.map(drop).map_err(|source| EtcdError::Probe { source })
    }

    /// Looks whether a member has raised an alarm that forbids writes, and notes it in [`Etcd::writes`]. Costs no entry
    /// in etcd's log. With authentication, newer versions answer only root; then nothing is known.
    pub async fn look_for_alarms(&self) {
        for (endpoint, member) in self.status().await.members {
            let Some(alarm) = member.ok().and_then(|status| status.alarm()) else { continue };
            self.writes.alarm(&CallError::Refused { endpoint, source: alarm });
            return;
        }
    }
}
