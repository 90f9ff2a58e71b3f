//! What is registered, from the mirror: no question of a client reaches etcd.
//!
//! Every answer carries the revision that it shows and the mirror's age, that is the time since etcd last confirmed it:
//! well below two seconds in good times, growing while etcd is away. An old answer is still the best one there is; none
//! at all (503) is given only when the mirror has never been loaded, because "I do not know" must not look like "there
//! is nobody".

use axum::{Json, extract::State};
use discovery::{Instance, InstanceId, Registered, ServiceName, Status};
use serde::Serialize;
use service_kit::Problem;

use super::{Api, path::ServicePath};
use crate::{
    catalog::{Catalog, Entry, ServiceView},
    error::RegistryError,
};

/// What every list starts with.
#[derive(Debug, Serialize)]
struct AsOf {
    /// The etcd revision that is shown.
    revision: i64,
    /// Milliseconds since etcd last confirmed it.
    age_ms: u64,
}

/// `GET /v1/services`
#[derive(Debug, Serialize)]
pub(super) struct ServiceList {
    #[serde(flatten)]
    as_of: AsOf,
    services: Vec<ServiceEntry>,
}

/// One service: its instances in all, and by what they are to others.
#[derive(Debug, Serialize)]
struct ServiceEntry {
    name: ServiceName,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Debug, Default, Serialize)]
struct Numbers {
    instances: usize,
    passing: usize,
    draining: usize,
    critical: usize,
}

/// `GET /v1/services/{service}/instances`
#[derive(Debug, Serialize)]
pub(super) struct InstanceList {
    #[serde(flatten)]
    as_of: AsOf,
    service: ServiceName,
    instances: Vec<InstanceEntry>,
}

/// One instance: what it is to others, what it says itself, and how it lives in etcd.
#[derive(Debug, Serialize)]
struct InstanceEntry {
    /// `None` for the nameless instance that other registries write.
    id: Option<InstanceId>,
    /// As in the full heartbeat; what is default is left out. The status is below.
    #[serde(flatten)]
    instance: Instance,
    /// The operator's word if there is one, else the instance's own.
    status: Status,
    /// The instance's own.
    reported_status: Status,
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

/// Every service that has an instance, in the order of their names.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<ServiceList>, Problem> {
    let as_of = AsOf::now(&api.catalog)?;
    let services = api.catalog.services();
    Ok(Json(ServiceList { as_of, services: services.iter().map(|service| ServiceEntry::new(service)).collect() }))
}

/// Every instance of one service, in the order of their ids. A service that nobody has heard of has none, like one whose
/// instances are all gone.
pub(super) async fn instances(
    State(api): State<Api>,
    ServicePath(service): ServicePath,
) -> Result<Json<InstanceList>, Problem> {
    let as_of = AsOf::now(&api.catalog)?;
    let view = api.catalog.service(&service);
    let entries = view.iter().flat_map(|view| &view.instances);
    let instances = entries.map(|entry| InstanceEntry::new(entry)).collect();
    Ok(Json(InstanceList { as_of, service, instances }))
}

// === impl AsOf ===

impl AsOf {
    fn now(catalog: &Catalog) -> Result<Self, RegistryError> {
        let age_ms = u64::try_from(catalog.age()?.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { revision: catalog.revision().0, age_ms })
    }
}

// === impl ServiceEntry ===

impl ServiceEntry {
    fn new(service: &ServiceView) -> Self {
        let mut numbers = Numbers { instances: service.instances.len(), ..Numbers::default() };
        for entry in &service.instances {
            match entry.status() {
                Status::Passing => numbers.passing += 1,
                Status::Draining => numbers.draining += 1,
                Status::Critical => numbers.critical += 1,
            }
        }
        Self { name: service.name.clone(), numbers }
    }
}

// === impl InstanceEntry ===

impl InstanceEntry {
    fn new(entry: &Entry) -> Self {
        let Registered { key, instance, lease, created, modified } = &entry.registered;
        Self {
            id: key.instance.clone(),
            // A default status is left out here, and written below in any case.
            instance: Instance { status: Status::default(), ..instance.clone() },
            status: entry.status(),
            reported_status: instance.status,
            overridden: entry.overridden,
            lease: lease.map(|lease| lease.to_string()),
            created_revision: created.0,
            modified_revision: modified.0,
        }
    }
}
