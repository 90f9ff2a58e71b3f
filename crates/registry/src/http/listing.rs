//! Services, instances and tombstones, as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use discovery::{
    Address, Incarnation, Instance, InstanceId, InstanceKey, Origin, OtherHolder, Override, Reason, Registered,
    Revision, ServiceName, Status,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    catalog::Catalog,
    error::RegistryError,
    mirror::{Cause, Entry, ServiceView, Since, Tombstone},
};

/// At which moment a list is true.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AsOf {
    /// The etcd revision that is shown.
    #[schema(minimum = 0)]
    pub(super) revision: i64,
    /// Milliseconds since etcd last confirmed it.
    pub(super) age_ms: u64,
    /// The etcd revision of the last event of what is listed: what to send back to wait for the next.
    #[schema(minimum = 0)]
    index: i64,
}

/// One service: its instances in all, and by what they are to others.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceEntry {
    name: ServiceName,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Numbers {
    instances: usize,
    passing: usize,
    degraded: usize,
    draining: usize,
    critical: usize,
}

/// One instance: what it is to others, what it says itself, and how it lives in etcd.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceEntry {
    /// `null` for the nameless instance that other registries write.
    #[schema(required)]
    id: Option<InstanceId>,
    /// As in the full heartbeat; what is default is left out. The status is below.
    #[serde(flatten)]
    instance: Instance,
    /// What an operator has ordered, if one has, else the instance's own.
    status: Status,
    /// Why, if a reason was given with the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Reason>,
    /// The instance's own.
    reported_status: Status,
    /// Why the instance itself says so, while an operator's order counts more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reported_reason: Option<Reason>,
    /// The operator's.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    overridden: Option<Status>,
    /// Who ordered it, when and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    override_details: Option<OverrideDetails>,
    /// What keeps it registered.
    origin: Origin,
    /// Who else claims this id, if that is known here: two programs were given one id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    other_holder: Option<OtherHolder>,
    /// The life that this is; the same as the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    incarnation: Option<Incarnation>,
    /// In 16 hexadecimal digits, as `etcdctl lease list` writes it; `null` for a key that was written for good.
    #[schema(required)]
    lease: Option<String>,
    /// The etcd revision at which it was registered.
    #[schema(minimum = 0)]
    created_revision: i64,
    /// The etcd revision at which it last changed.
    #[schema(minimum = 0)]
    modified_revision: i64,
    /// When this registry first saw this registration, in milliseconds since 1970.
    seen_since_ms: u64,
    /// True when it was there already as this registry began to look: it has been registered for at least so long.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    seen_from_start: bool,
}

/// What is known of an operator's order, beside the status.
#[derive(Debug, Serialize, ToSchema)]
struct OverrideDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    at_ms: Option<u64>,
    /// It goes on when the life that it was given for has ended.
    outlives: bool,
}

/// What an operator has ordered for one instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OverrideEntry {
    service: ServiceName,
    /// `null` for the nameless instance of the service.
    #[schema(required)]
    instance: Option<InstanceId>,
    status: Status,
    #[serde(flatten)]
    details: OverrideDetails,
    /// The life that it is for; absent: the present holder of the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    incarnation: Option<Incarnation>,
    /// Whether an instance is registered that it is for.
    in_force: bool,
}

/// One dead instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TombstoneEntry {
    #[schema(required)]
    id: Option<InstanceId>,
    address: Address,
    cause: Cause,
    /// Milliseconds since 1970.
    at_ms: u64,
    #[schema(minimum = 0)]
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
        let Since { at, from_start } = entry.since;
        Self {
            id: key.instance.clone(),
            // A default status is left out here, and written below in any case.
            instance: Instance { status: Status::default(), reason: None, ..instance.clone() },
            status: entry.status(),
            reason: entry.reason().cloned(),
            reported_status: instance.status,
            reported_reason: instance.reason.clone().filter(|_| entry.overridden.is_some()),
            overridden: entry.overridden.as_ref().map(|order| order.status),
            override_details: entry.overridden.as_ref().map(OverrideDetails::from),
            origin: Origin::of(instance, *lease),
            other_holder: entry.other_holder.clone(),
            incarnation: lease.map(Incarnation),
            lease: lease.map(|lease| lease.to_string()),
            created_revision: created.0,
            modified_revision: modified.0,
            seen_since_ms: unix_ms(at),
            seen_from_start: from_start,
        }
    }
}

// === impl OverrideEntry ===

impl OverrideEntry {
    pub(super) fn new(key: &InstanceKey, order: &Override, in_force: bool) -> Self {
        Self {
            service: key.service.clone(),
            instance: key.instance.clone(),
            status: order.status,
            details: order.into(),
            incarnation: order.incarnation,
            in_force,
        }
    }
}

impl From<&Override> for OverrideDetails {
    fn from(order: &Override) -> Self {
        let Override { status: _, incarnation, author, reason, at_ms } = order.clone();
        Self { author, reason, at_ms, outlives: incarnation.is_none() }
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

pub(super) fn unix_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default()
}
