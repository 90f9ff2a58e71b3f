//! What is registered, from the mirror: no question of a client reaches etcd.
//!
//! Every answer carries the revision that it shows and the mirror's age, that is the time since etcd last confirmed it:
//! well below two seconds in good times, growing while etcd is away. An old answer is still the best one there is; none
//! at all (503) is given only when the mirror has never been loaded, because "I do not know" must not look like "there
//! is nobody".

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use discovery::{Instance, InstanceId, Registered, Revision, ServiceName, Status};
use serde::Serialize;
use service_kit::Problem;

use super::{Api, path::ServicePath};
use crate::{error::RegistryError, mirror::Mirror, view::View};

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
    let age_ms = age_ms(&api.mirror)?;
    let view = api.mirror.look();
    let mut services: BTreeMap<&ServiceName, Numbers> = BTreeMap::new();
    for registered in view.instances() {
        let numbers = services.entry(&registered.key.service).or_default();
        numbers.instances += 1;
        match status(&view, registered) {
            Status::Passing => numbers.passing += 1,
            Status::Draining => numbers.draining += 1,
            Status::Critical => numbers.critical += 1,
        }
    }
    let services = services.into_iter().map(|(name, numbers)| ServiceEntry { name: name.clone(), numbers }).collect();
    Ok(Json(ServiceList { as_of: AsOf::new(view.revision(), age_ms), services }))
}

/// Every instance of one service, in the order of their ids. A service that nobody has heard of has none, like one whose
/// instances are all gone: etcd remembers neither.
pub(super) async fn instances(
    State(api): State<Api>,
    ServicePath(service): ServicePath,
) -> Result<Json<InstanceList>, Problem> {
    let age_ms = age_ms(&api.mirror)?;
    let view = api.mirror.look();
    let instances = view.of_service(&service).map(|registered| InstanceEntry::new(&view, registered)).collect();
    Ok(Json(InstanceList { as_of: AsOf::new(view.revision(), age_ms), service, instances }))
}

fn age_ms(mirror: &Mirror) -> Result<u64, RegistryError> {
    let age = mirror.age().ok_or(RegistryError::NotLoaded)?;
    Ok(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn status(view: &View, registered: &Registered) -> Status {
    view.overridden(&registered.key).unwrap_or(registered.instance.status)
}

// === impl AsOf ===

impl AsOf {
    fn new(revision: Revision, age_ms: u64) -> Self {
        Self { revision: revision.0, age_ms }
    }
}

// === impl InstanceEntry ===

impl InstanceEntry {
    fn new(view: &View, registered: &Registered) -> Self {
        let Registered { key, instance, lease, created, modified } = registered;
        Self {
            id: key.instance.clone(),
            // A default status is left out here, and written below in any case.
            instance: Instance { status: Status::default(), ..instance.clone() },
            status: status(view, registered),
            reported_status: instance.status,
            overridden: view.overridden(key),
            lease: lease.map(|lease| lease.to_string()),
            created_revision: created.0,
            modified_revision: modified.0,
        }
    }
}
