//! Prometheus metrics: the process's registry and the counters that every HTTP service has.
//!
//! Labels are bounded whatever clients send: the route is the pattern that matched (`/v1/users/{name}`), never the
//! path, and a method outside the usual ones is `other`.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    response::Response,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of request durations in seconds: from a cache hit to a client that has long given up.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Measured<'a> {
    families: &'a Families,
    route: String,
    method: &'static str,
    began: Instant,
}

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

// === impl HttpMetrics ===

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

    /// Counts and times `request` until it is [answered](Measured::end); one that is dropped before is not counted.
    #[must_use]
    pub fn begin(&self, request: &Request) -> Measured<'_> {
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
        Measured { families: &self.0, route, method: bounded_method(request.method()), began: Instant::now() }
    }
}

// === impl Measured ===

impl Measured<'_> {
    /// It is answered with `response`.
    pub fn end(self, response: &Response) {
        let Self { families, route, method, began } = self;
        let labels = RouteLabels { route };
        families.durations.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
        let RouteLabels { route } = labels;
        families.requests.get_or_create(&RequestLabels { route, method, status: response.status().as_u16() }).inc();
    }
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
