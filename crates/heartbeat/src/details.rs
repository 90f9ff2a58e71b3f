use std::collections::{BTreeMap, BTreeSet};

use discovery::{Address, HealthPath, Instance, Scheme, Ttl, Weight, heartbeat::FullHeartbeat};

use crate::{AddressProof, Condition, HeartbeatMetrics, HeartbeatOptions};

/// What a service knows about itself when it starts, beyond its address. The default says nothing and is `passing`.
///
/// Each field is that of [`Instance`] with the same name. What is out of its bounds is refused by the registry, and the
/// heartbeat then says so in the log, slowly, for ever.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// The protocol spoken.
    pub scheme: Scheme,
    /// The share of the traffic wanted.
    pub weight: Weight,
    /// Which release this is: `env!("CARGO_PKG_VERSION")`, say.
    pub version: Option<String>,
    /// Where gateways may ask whether this instance is well.
    pub health: Option<HealthPath>,
    /// Labels to select by.
    pub tags: BTreeSet<String>,
    /// Whatever else is worth knowing.
    pub meta: BTreeMap<String, String>,
    /// The condition of the first heartbeat: `critical` when the database has not been reached yet.
    pub condition: Condition,
    /// Where heartbeats are counted; the default registers no metrics.
    pub metrics: HeartbeatMetrics,
    /// What answers registries that ask for a proof of address; the default answers none.
    pub proof: AddressProof,
}

/// Everything that a heartbeat says apart from address and status.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) details: Details,
    pub(crate) zone: Option<String>,
    pub(crate) ttl: Ttl,
}

// === impl Announcement ===

impl Announcement {
    pub(crate) fn new(options: &HeartbeatOptions, details: Details) -> Self {
        Self { details, zone: options.zone.clone(), ttl: options.ttl }
    }

    /// The heartbeat of an instance at `address` that is as `condition` says.
    pub(crate) fn heartbeat(&self, address: Address, condition: &Condition) -> FullHeartbeat {
        let Details { scheme, weight, version, health, tags, meta, condition: _, metrics: _, proof: _ } =
            self.details.clone();
        let zone = self.zone.clone();
        let status = condition.status();
        let reason = condition.reason().cloned();
        let instance = Instance { address, scheme, weight, zone, version, health, status, reason, tags, meta };
        FullHeartbeat::new(&instance, self.ttl)
    }
}
