use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::StoreError;

/// Upper bounds in seconds: from a row in memory to a request that has been given up.
const DURATION_BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5];

/// What the store does and how it fares. Clones share the counters.
#[derive(Debug, Clone)]
pub(crate) struct StoreMetrics {
    queries: Family<QueryLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    up: Gauge<u64, AtomicU64>,
}

/// What was asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
pub(crate) enum Query {
    get,
    put,
    create,
    patch,
    delete,
    list,
    count,
    import,
    bulk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    query: Query,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    query: Query,
}

// === impl StoreMetrics ===

impl StoreMetrics {
    /// Registers `userlist_queries_total{query,outcome}`, `userlist_query_duration_seconds{query}` and the gauge
    /// `userlist_database_up` (1 or 0).
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            queries: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            up: Gauge::default(),
        };
        registry.register("userlist_queries", "Queries, by what became of them", metrics.queries.clone());
        registry.register(
            "userlist_query_duration_seconds",
            "Time of a query with all its attempts and its waiting for a connection",
            metrics.durations.clone(),
        );
        registry.register("userlist_database_up", "Whether the database can be used", metrics.up.clone());
        metrics
    }

    /// Counts one query; no outcome but success and the errors of [`StoreError`] exists.
    pub(crate) fn observe(&self, query: Query, outcome: Result<(), &StoreError>, took: Duration) {
        let outcome = outcome.map_or_else(StoreError::code, |()| "ok");
        self.queries.get_or_create(&QueryLabels { query, outcome }).inc();
        self.durations.get_or_create(&DurationLabels { query }).observe(took.as_secs_f64());
    }

    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.set(u64::from(is_up));
    }
}
