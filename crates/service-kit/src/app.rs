//! The router that every service serves: its own routes, the three of [`health`], and what surrounds all of them.

use axum::{Router, middleware};
use prometheus_client::registry::Registry;
use std::sync::Arc;

use crate::{
    browser::{self, Guard},
    health::{self, Readiness},
    metrics::{self, HttpMetrics},
    problem, request, telemetry,
};

/// Puts `api` beside `/healthz`, `/readyz` and `/metrics`.
///
/// Adds request ids, counters (also of lost log lines), and problem bodies for paths and methods that are not served;
/// `guard` keeps out what pages of other sites make browsers send.
/// `registry` holds the metrics that the service registered itself.
pub fn assemble(api: Router, guard: Guard, readiness: Readiness, mut registry: Registry) -> Router {
    telemetry::register(&mut registry);
    let http = HttpMetrics::register(&mut registry);
    api.merge(health::routes(readiness, Arc::new(registry)))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(guard, browser::judge))
        .layer(middleware::from_fn_with_state(http, metrics::measure))
        .layer(middleware::from_fn(request::identify))
}
