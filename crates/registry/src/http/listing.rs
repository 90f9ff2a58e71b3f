//! Services, instances and the dead, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use discovery::{Address, Instance, InstanceId, Reason, Registered, Revision, ServiceName, Status};
use serde::Serialize;

use crate::{
    catalog::{Catalog, Cause, Entry, ServiceView, Tombstone},
    error::RegistryError,
};

/// What every list starts with.
#[derive(Debug, Serialize)]
pub(super) struct AsOf {
    /// The etcd revision that is shown.
    revision: i64,
    /// Milliseconds since etcd last confirmed it.
    age_ms: u64,
    /// The etcd revision of the last event of what is listed: what to send back to wait for the next.
    index: i64,
}

/// One service: its instances in all, and by what they are to others.
#[derive(Debug, Serialize)]
pub(super) struct ServiceEntry {
    name: ServiceName,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Debug, Default, Serialize)]
struct Numbers {
    instances: usize,
    passing: usize,
    degraded: usize,
    draining: usize,
    critical: usize,
}

/// One instance: what it is to others, what it says itself, and how it lives in etcd.
#[derive(Debug, Serialize)]
pub(super) struct InstanceEntry {
    /// `None` for the nameless instance that other registries write.
    id: Option<InstanceId>,
    /// As in the full heartbeat; what is default is left out. The status is below.
    #[serde(flatten)]
    instance: Instance,
    /// The operator's word if there is one, else the instance's own.
    status: Status,
    /// Why, if anybody said so: whoever the status is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// The instance's own.
    reported_status: Status,
    /// Why the instance itself says so, while an operator's word counts more.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_reason: Option<Reason>,
    /// The operator's.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overridden: Option<Status>,
    /// In 16 hexadecimal digits, as `etcdctl lease list` writes it; `None` for a key that was written for good.
    lease: Option<String>,
    /// The etcd revision at which it was registered.
    created_revision: i64,
    /// The etcd revision at which it last changed.
    modified_revision: i64,
}

/// One dead instance.
#[derive(Debug, Serialize)]
pub(super) struct TombstoneEntry {
    id: Option<InstanceId>,
    address: Address,
    cause: Cause,
    /// Milliseconds since 1970.
    at_ms: u64,
    revision: i64,
}

// === impl AsOf ===

impl AsOf {
    pub(super) fn new(catalog: &Catalog, index: Revision) -> Result<Self, RegistryError> {
        let age_ms = u64::try_from(catalog.age()?.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { revision: catalog.revision().max(index).0, age_ms, index: index.0 })
    }
}

// === impl ServiceEntry ===

impl From<&ServiceView> for ServiceEntry {
    fn from(service: &ServiceView) -> Self {
        let mut numbers = Numbers { instances: service.instances.len(), ..Numbers::default() };
        for entry in &service.instances {
            match entry.status() {
                Status::Passing => numbers.passing += 1,
                Status::Degraded => numbers.degraded += 1,
                Status::Draining => numbers.draining += 1,
                Status::Critical => numbers.critical += 1,
            }
        }
        Self { name: service.name.clone(), numbers }
    }
}

// === impl InstanceEntry ===

impl From<&Entry> for InstanceEntry {
    fn from(entry: &Entry) -> Self {
        let Registered { key, instance, lease, created, modified } = &entry.registered;
        Self {
            id: key.instance.clone(),
            // A default status is left out here, and written below in any case.
            instance: Instance { status: Status::default(), reason: None, ..instance.clone() },
            status: entry.status(),
            reason: entry.reason().cloned(),
            reported_status: instance.status,
            reported_reason: instance.reason.clone().filter(|_| entry.overridden.is_some()),
            overridden: entry.overridden,
            lease: lease.map(|lease| lease.to_string()),
            created_revision: created.0,
            modified_revision: modified.0,
        }
    }
}

// === impl TombstoneEntry ===

impl From<&Tombstone> for TombstoneEntry {
    fn from(tombstone: &Tombstone) -> Self {
        Self {
            id: tombstone.id.clone(),
            address: tombstone.address.clone(),
            cause: tombstone.cause,
            at_ms: unix_ms(tombstone.at),
            revision: tombstone.revision.0,
        }
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
