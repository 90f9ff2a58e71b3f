//! What an operator sees in `/metrics`.
//!
//! | metric | labels |
//! |---|---|
//! | `balance_requests_total`: answered, by hundreds of the status | service, status (`2xx`) |
//! | `balance_request_duration_seconds`: to the head of the response | service |
//! | `balance_retries_total`, `balance_ejections_total` | service |
//! | `balance_attempts_failed_total` | service, reason (`connect`, `closed`, `timeout`, `malformed`) |
//! | `balance_responses_broken_total`: responses that broke after their head | service, reason (`closed`, `stalled`, `malformed`, `slow_client`) |
//! | `balance_streams`: tunnels and event streams, now | service |
//! | `balance_instances` | service, state (`in_rotation`, `kept`, `ejected`, `unresolved`, `withheld`, `last_resort`) |
//! | `balance_names`: host names of instances and of etcd, now | state (`resolved`; `stale`: look-ups fail, the last answer is used; `unresolved`) |
//! | `balance_lookups_total`: look-ups of names | result (`good`; `denied`: there is no such name; `failed`) |
//! | `balance_addresses_refused`: instances whose address must not be used, now | reason |
//! | `balance_checks_total`: health checks | result (`good`, `bad`) |
//! | `balance_refusals_total`: answers of the gateway's own | code |
//! | `balance_connections`: of clients, now; `balance_connections_max` | |
//! | `balance_connections_evicted_total`: without a request under way, closed for newer ones | bound (`total`, `client`, `files`) |
//! | `balance_connections_refused_total`: because none could be closed for them | bound |
//! | `balance_table_revision`, `balance_table_age_seconds`: since etcd last said anything | |
//! | `balance_watch_connected`, `balance_watch_comparisons_total`, `balance_watch_differences_total` | |
//! | `balance_watch_resyncs_total` | cause |
//! | `balance_policies_broken`: policies in etcd that are invalid, now | |
//! | `balance_values_unreadable`: keys in etcd that cannot be parsed, now | |
//!
//! Only services that are in the routing table become labels, never what a client asks for, so the number of series is
//! bounded by etcd's content. The data path counts into plain cells; they are read when the metrics are scraped.

mod collect;

use std::borrow::Cow;

use discovery_etcd::WatchHealth;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use service_kit::{connections::Connections, names::Names};

use crate::{config::GatewayOptions, message::gateway_error::GatewayError, table::routing_table::TableHandle};

/// What the workers count together.
#[derive(Debug, Clone)]
pub struct DataMetrics {
    pub(crate) refusals: Refusals,
    pub(crate) connections: Connections,
    checks: Checks,
}

/// Counts the health checks, by their result.
#[derive(Debug, Clone, Default)]
pub struct Checks(Family<[(&'static str, &'static str); 1], Counter>);

/// Counts the gateway's own answers, by their code.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Family<[(&'static str, Cow<'static, str>); 1], Counter>);

// === impl DataMetrics ===

impl DataMetrics {
    /// The counters, and the limit of connections, for workers with these options.
    #[must_use]
    pub fn new(options: &GatewayOptions) -> Self {
        Self {
            refusals: Refusals::default(),
            checks: Checks::default(),
            connections: Connections::new(options.limits.connections()),
        }
    }

    /// Adds everything to `registry`.
    pub fn register(&self, registry: &mut Registry, table: TableHandle, watch: WatchHealth, names: Names) {
        let help = "Answers that the gateway gave itself, by the code of their problem";
        registry.register("balance_refusals", help, self.refusals.0.clone());
        registry.register("balance_checks", "Health checks of instances", self.checks.0.clone());
        self.connections.register(registry, "balance");
        registry.register_collector(Box::new(collect::Collected { table, watch, names }));
    }
}

impl DataMetrics {
    /// Where health checks are counted.
    #[must_use]
    pub fn checks(&self) -> Checks {
        self.checks.clone()
    }
}

// === impl Checks ===

impl Checks {
    pub(crate) fn count(&self, is_good: bool) {
        self.0.get_or_create(&[("result", if is_good { "good" } else { "bad" })]).inc();
    }
}

// === impl Refusals ===

impl Refusals {
    pub(crate) fn count(&self, refusal: &GatewayError) {
        self.0.get_or_create(&[("code", refusal.problem().code)]).inc();
    }
}
