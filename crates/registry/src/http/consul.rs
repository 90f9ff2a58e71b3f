//! Consul's HTTP API, as far as clients that discover and programs that register need it.
//!
//! | Consul's path | here |
//! |---|---|
//! | `GET /v1/catalog/services` | names and tags |
//! | `GET /v1/catalog/service/{service}` | all instances of one service |
//! | `GET /v1/health/service/{service}` | the same with their checks; `?passing` leaves the others out |
//! | `GET /v1/agent/self` | who answers |
//! | `PUT /v1/agent/service/register` | registers; with a TTL check, because the registry does not probe |
//! | `PUT /v1/agent/service/deregister/{id}` | deregisters |
//! | `PUT /v1/agent/check/{pass,warn,fail,update}/{check}` | a heartbeat |
//!
//! `?passing` leaves out what takes no requests, and keeps what has a warning: it is in rotation here, where Consul's agents
//! drop it, too.
//!
//! Blocking queries (`?index=N&wait=2m`) and `?tag=` work on all lists. Other parameters (`dc`, `near`, `stale`, …) mean
//! nothing here and are let pass, but for those that select (`filter`, `node-meta`, `peer`, `sg`), whose absence would be noticed too
//! late: they are refused. What becomes of the fields of a registration is in [`fields`]. Wire formats:
//! <https://developer.hashicorp.com/consul/api-docs>. Errors are problems as everywhere, with Consul's status codes.
//!
//! Consul's agents are where their services are; here any registry serves as the agent of all. So ids are looked for among all
//! services, and an address that is left out is the client's.

mod agent;
mod catalog;
mod fields;
mod registration;

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use discovery::{Revision, Status};
use serde_json::Value;
use service_kit::Problem;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, SharedApi,
    long_polls::loaded,
    query::{Filter, Pairs, Poll, passing_parameter, tag_parameter},
};
use crate::{
    catalog::{Catalog, Sync},
    mirror::{Entry, Topic},
};

/// The one datacenter that there is.
const DATACENTER: &str = "dc1";

/// How long a blocking query waits that does not say for how long; Consul's own default.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

/// What is taken of [`Filter`] here.
struct ConsulFilter;

impl IntoParams for ConsulFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![passing_parameter(), tag_parameter("Only those with this tag.")]
    }
}

/// What a list is answered with.
type Answer = Result<(HeaderMap, Json<Value>), Problem>;

/// Consul's paths.
pub(super) fn routes() -> OpenApiRouter<SharedApi> {
    OpenApiRouter::new()
        .routes(routes!(catalog::services))
        .routes(routes!(catalog::service))
        .routes(routes!(catalog::health))
        .routes(routes!(agent::myself))
        .routes(routes!(agent::register))
        .routes(routes!(agent::deregister))
        .routes(routes!(agent::pass))
        .routes(routes!(agent::warn))
        .routes(routes!(agent::fail))
        .routes(routes!(agent::update))
}

/// A query as Consul understands it.
fn read(Pairs(pairs): &Pairs) -> Result<(Filter, Poll), Problem> {
    let mut filter = Filter::default();
    let mut poll = Poll::default();
    for (name, value) in pairs {
        match name.as_str() {
            "filter" | "node-meta" | "peer" | "sg" if !value.is_empty() => {
                let detail = format!("{name}: is not understood here; filter with tag and passing, or yourself");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "no_filters", detail));
            }
            "passing" | "tag" => drop(filter.take(name, value)?),
            _ => drop(poll.take(name, value)?),
        }
    }
    poll.wait.get_or_insert(WAIT_DEFAULT);
    // 0 asks without waiting, as Consul has it.
    poll.seen = poll.seen.filter(|seen| *seen > Revision::default());
    Ok((filter, poll))
}

/// Waits as asked.
async fn wait(api: &Api, topic: Topic, poll: &Poll) -> Result<(), Problem> {
    loaded(&api.catalog)?;
    api.long_polls.wait(&api.catalog, topic, poll).await?;
    Ok(())
}

/// An index, and how far etcd is away: `Knownleader: false` and a growing `Lastcontact` are how Consul says "this may be
/// old".
fn headers(catalog: &Catalog, index: Revision) -> HeaderMap {
    let sync = catalog.sync();
    let (known, age_ms) = match sync {
        Sync::Fresh(age) => ("true", age.as_millis()),
        Sync::Never | Sync::Stale(_) => ("false", sync.age().unwrap_or_default().as_millis()),
    };
    HeaderMap::from_iter([
        (INDEX, HeaderValue::from(index.0.max(1))),
        (KNOWN_LEADER, HeaderValue::from_static(known)),
        (LAST_CONTACT, HeaderValue::from(u64::try_from(age_ms).unwrap_or(u64::MAX))),
    ])
}

/// Consul knows `passing`, `warning` and `critical`. What is degraded has a warning; what is being drained is in maintenance
/// there, which is critical.
fn check_status(entry: &Entry) -> &'static str {
    match entry.status() {
        Status::Passing => "passing",
        Status::Degraded => "warning",
        Status::Draining | Status::Critical => "critical",
    }
}
