//! The registry over HTTP: which path is whose.
//!
//! | method and path | what it does |
//! |---|---|
//! | `POST /` | a heartbeat in the plain form |
//! | `PUT /v1/services/{service}/instances/{instance}` | a heartbeat in the full form |
//! | `DELETE /v1/services/{service}/instances/{instance}` | deregisters at once |
//! | `PUT`, `DELETE` `…/instances/{instance}/override` | an operator's word about an instance, and the end of it |
//! | `GET /v1/services` | every service with its number of instances |
//! | `GET /v1/services/{service}/instances` | every instance of one service |
//!
//! Handlers read the request, call the [`Registrar`] or look into the [`Mirror`], and write the answer; no decision is
//! made here. Errors become problems in [`crate::error`].

mod heartbeats;
mod overrides;
mod path;
mod services;

use axum::{
    Router,
    routing::{get, post, put},
};

use crate::{catalog::Catalog, mirror::Mirror, registrar::Registrar};

/// What the handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    /// Decides about heartbeats and writes to etcd.
    pub registrar: Registrar,
    /// Answers every question about what is registered.
    pub mirror: Mirror,
    /// The same, service by service, and wakes those who wait for a change.
    pub catalog: Catalog,
}

/// The registry's own routes.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/", post(heartbeats::plain))
        .route("/v1/services", get(services::list))
        .route("/v1/services/{service}/instances", get(services::instances))
        .route("/v1/services/{service}/instances/{instance}", put(heartbeats::full).delete(heartbeats::deregister))
        .route("/v1/services/{service}/instances/{instance}/override", put(overrides::set).delete(overrides::clear))
        .merge(path::with_an_empty_name())
        .with_state(api)
}
