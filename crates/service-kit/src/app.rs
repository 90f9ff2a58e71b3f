//! The router that every service serves: its own routes, the three of [`health`], and what surrounds all of them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use prometheus_client::registry::Registry;

use crate::{
    browser::Guard,
    health::{self, Readiness},
    metrics::HttpMetrics,
    problem,
    request::{REQUEST_ID, RequestContext},
    telemetry,
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
        .layer(from_fn_with_state(Surroundings { http, guard }, surround))
}

/// What surrounds every request.
#[derive(Debug, Clone)]
struct Surroundings {
    http: HttpMetrics,
    guard: Guard,
}

/// Middleware, and one for all of it: axum copies what is within a layer for every request, once for each layer.
async fn surround(State(this): State<Surroundings>, request: Request, next: Next) -> Response {
    let context = RequestContext::of(&request);
    let id = context.id_header();
    let answering = async {
        let measured = this.http.begin(&request);
        let response = match this.guard.judge(&request) {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        };
        measured.end(&response);
        response
    };
    let mut response = context.during(answering).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
