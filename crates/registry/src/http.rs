//! The registry over HTTP: which path is whose.
//!
//! | method and path | what it does |
//! |---|---|
//! | `POST /` | a heartbeat in the plain form |
//! | `PUT /v1/services/{service}/instances/{instance}` | a heartbeat in the full form |
//! | `DELETE /v1/services/{service}/instances/{instance}` | deregisters at once |
//! | `PUT`, `DELETE` `…/instances/{instance}/override` | sets and removes an operator's override of an instance |
//! | `GET /v1/overrides` | every override, also of instances that are not registered |
//! | `GET /v1/services` | every service with its number of instances; waits for a change if asked to |
//! | `GET /v1/services/{service}/instances` | every instance of one service; the same |
//! | `GET /v1/table` | the instances of the table, and how their checks go |
//! | `GET /v1/watch` | what happens to one service, as server-sent events |
//! | `GET /v1/muster.proto` | the contract of the same over gRPC |
//! | `GET /v1/prometheus/targets` | every instance, for Prometheus |
//! | `GET /v1/config` | every setting with its revision |
//! | `GET`, `PUT`, `DELETE` `/v1/config/{key…}` | one setting; waits for a change if asked to |
//! | `GET /openapi.json` | all of this, for programs |
//! | `/v1/catalog/…`, `/v1/health/…`, `/v1/agent/…` | the same for Consul's clients: `consul` |
//!
//! Handlers read the request, call the [`Registrar`] or look into the [`Catalog`], and write the answer; no decision is
//! made here. Errors become problems in [`crate::error`].

mod condition;
mod consul;
mod contract;
mod heartbeats;
mod listing;
mod long_polls;
mod openapi;
mod overrides;
mod path;
mod pieces;
mod prometheus;
mod query;
mod services;
mod settings;
mod table;
mod watch;

use std::sync::Arc;

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::long_polls::LongPolls;
pub(crate) use self::{long_polls::PollPermit, query::Filter};
use crate::{catalog::Catalog, registrar::Registrar, settings::Settings, table::TableView};

/// What the handlers work with.
#[derive(Debug)]
pub struct Api {
    /// Decides about heartbeats and writes to etcd.
    pub registrar: Arc<Registrar>,
    /// Answers every question about what is registered, and wakes those who wait for a change.
    pub catalog: Catalog,
    /// The config centre.
    pub settings: Settings,
    /// Where they wait.
    pub long_polls: LongPolls,
    /// What is checked instead of heard, if there is a table.
    pub table: Option<TableView>,
}

/// The same as the state of routes, which is cloned with every request, several times.
type SharedApi = Arc<Api>;

/// The registry's own routes, and their description. Each handler says in `#[utoipa::path]` which is its own.
pub fn routes(api: Api) -> Router {
    let described = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(heartbeats::plain))
        .routes(routes!(services::list))
        .routes(routes!(services::instances))
        .routes(routes!(heartbeats::full, heartbeats::deregister))
        .routes(routes!(overrides::set, overrides::clear))
        .routes(routes!(overrides::list))
        .routes(routes!(table::report))
        .routes(routes!(watch::watch))
        .routes(routes!(contract::proto))
        .routes(routes!(prometheus::targets))
        .routes(routes!(settings::list))
        .routes(routes!(settings::get, settings::put, settings::delete))
        .merge(consul::routes());
    service_kit::openapi::described(described, Some("registry"), [openapi::holds_ms()])
        .merge(path::with_an_empty_name())
        .with_state(SharedApi::new(api))
}
