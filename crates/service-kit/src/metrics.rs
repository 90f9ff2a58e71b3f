//! Prometheus metrics: the process's registry and the counters that every HTTP service has.
//!
//! Labels are bounded whatever clients send: the route is the pattern that matched (`/v1/users/{name}`), never the
//! path, and a method outside the usual ones is `other`.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of request durations in seconds: from a cache hit to a client that has long given up.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counters and durations of the HTTP requests that a service answered.
#[derive(Debug, Clone)]
pub struct HttpMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

impl HttpMetrics {
    /// Registers `http_requests_total{route,method,status}` and `http_request_duration_seconds{route}`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let families = Families {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
        };
        registry.register("http_requests", "HTTP requests answered", families.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from the request's head to the response's head",
            families.durations.clone(),
        );
        Self(Arc::new(families))
    }
}

/// Middleware (`axum::middleware::from_fn_with_state(metrics, metrics::measure)`): counts and times every request.
pub async fn measure(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let method = bounded_method(request.method());
    let started = Instant::now();
    let response = next.run(request).await;
    metrics.0.durations.get_or_create(&RouteLabels { route: route.clone() }).observe(started.elapsed().as_secs_f64());
    metrics.0.requests.get_or_create(&RequestLabels { route, method, status: response.status().as_u16() }).inc();
    response
}

fn bounded_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
