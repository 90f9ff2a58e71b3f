//! What is registered, from the mirror: no question of a client reaches etcd.
//!
//! Every answer carries the revision that it shows and the mirror's age, that is the time since etcd last confirmed it:
//! well below two seconds in good times, growing while etcd is away. An old answer is still the best one there is; none
//! at all (503) is given only when the mirror has never been loaded, because "I do not know" must not look like "there
//! is nobody".
//!
//! It carries an `index`, too. Sent back as `?index=N&wait=30s`, it makes the next answer wait until something about this
//! very service has changed, or until the time is over; what is answered is always the whole state.

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use discovery::ServiceName;
use serde::Serialize;
use service_kit::{Problem, openapi::one_of};
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    SharedApi,
    listing::{AsOf, InstanceEntry, ServiceEntry, TombstoneEntry},
    long_polls::{index_header, loaded},
    openapi::Usual,
    path::ServicePath,
    pieces::{ListBody, listed, to_json},
    query::{Filter, Pairs, Poll, unknown},
};
use crate::mirror::Topic;

/// Some or all services.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceList {
    #[serde(flatten)]
    as_of: AsOf,
    services: Vec<ServiceEntry>,
}

/// `GET /v1/services/{service}/instances`, but for the field `instances`, which is written behind it piece by piece.
#[derive(Debug, Serialize, ToSchema)]
#[schema(description = "The instances of one service, but for them.")]
pub(super) struct InstanceListHead {
    #[serde(flatten)]
    as_of: AsOf,
    service: ServiceName,
    /// With `include=tombstones`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tombstones: Option<Vec<TombstoneEntry>>,
}

/// The whole of it.
#[derive(ToSchema)]
#[schema(description = "The instances of one service.")]
#[expect(dead_code, reason = "it describes what is put together from pieces")]
struct InstanceList {
    #[schema(inline)]
    #[serde(flatten)]
    head: InstanceListHead,
    /// In the order of their ids.
    instances: Vec<InstanceEntry>,
}

/// `include=tombstones`
pub(super) struct WithServicesThatAreGone;

/// `include=tombstones`
pub(super) struct WithTombstones;

impl IntoParams for WithServicesThatAreGone {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        include("Services that lost their last instance within ten minutes, too.")
    }
}

impl IntoParams for WithTombstones {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        include("The dead of the last ten minutes, too.")
    }
}

fn include(description: &str) -> Vec<Parameter> {
    vec![service_kit::openapi::parameter("include", ParameterIn::Query, description, one_of(&["tombstones"]))]
}

/// Every service that has an instance.
///
/// In the order of their names; with `include=tombstones` also those whose last one has
/// gone within the last ten minutes.
///
/// Waiting for this list is waiting for another set of names or of tags: what happens within a service does not count.
#[utoipa::path(get, path = "/v1/services", operation_id = "services", tag = "registry", params(WithServicesThatAreGone, Poll),
    responses(
        (status = 200, description = "The answer.", body = ServiceList,
            headers(("x-muster-index" = u64, description = "The revision of the last event."))),
        Usual,
    ))]
pub(super) async fn list(
    State(api): State<SharedApi>,
    Pairs(pairs): Pairs,
) -> Result<(HeaderMap, Json<ServiceList>), Problem> {
    let mut poll = Poll::default();
    let mut with_tombstones = false;
    for (name, value) in &pairs {
        match (name.as_str(), value.as_str()) {
            ("include", "tombstones") => with_tombstones = true,
            ("include", _) => return Err(only_tombstones()),
            _ if poll.take(name, value)? => {}
            _ => return Err(unknown(name, "include, index and wait")),
        }
    }
    loaded(&api.catalog)?;
    api.long_polls.wait(&api.catalog, Topic::Services, &poll).await?;
    let (index, services) = if with_tombstones { api.catalog.read_remembered() } else { api.catalog.read_all() };
    let as_of = AsOf::new(&api.catalog, index)?;
    let services = services.iter().map(|service| ServiceEntry::from(&**service)).collect();
    Ok((index_header(index), Json(ServiceList { as_of, services })))
}

/// Every instance of one service.
///
/// In the order of their ids. An unknown service has none, like one whose instances are all gone.
#[utoipa::path(get, path = "/v1/services/{service}/instances", operation_id = "instances", tag = "registry",
    params(ServicePath, Filter, WithTombstones, Poll),
    responses(
        (status = 200, description = "The answer.", body = InstanceList,
            headers(("x-muster-index" = u64, description = "The revision of the last event."))),
        Usual,
    ))]
pub(super) async fn instances(
    State(api): State<SharedApi>,
    ServicePath(service): ServicePath,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    let mut poll = Poll::default();
    let mut filter = Filter::default();
    let mut with_tombstones = false;
    for (name, value) in &pairs {
        match (name.as_str(), value.as_str()) {
            ("include", "tombstones") => with_tombstones = true,
            ("include", _) => return Err(only_tombstones()),
            _ if poll.take(name, value)? || filter.take(name, value)? => {}
            _ => return Err(unknown(name, "passing, zone, tag, version, include, index and wait")),
        }
    }
    loaded(&api.catalog)?;
    api.long_polls.wait(&api.catalog, Topic::Service(service.clone()), &poll).await?;
    let (index, view) = api.catalog.read(&service);
    let as_of = AsOf::new(&api.catalog, index)?;
    let entries = view.iter().flat_map(|view| &view.instances).filter(|entry| filter.matches(entry));
    let entries: Vec<_> = entries.cloned().collect();
    let dead = || view.iter().flat_map(|view| &view.tombstones).map(TombstoneEntry::from).collect();
    let tombstones = with_tombstones.then(dead);
    let mut head = to_json(&InstanceListHead { as_of, service, tombstones });
    // The list is the last field.
    head.pop();
    head.extend_from_slice(b",\"instances\":");
    Ok(ListBody::new(head, listed(entries), b"}").answer(index_header(index)))
}

fn only_tombstones() -> Problem {
    Problem::field("include", "can be \"tombstones\" only")
}
