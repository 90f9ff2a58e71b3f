//! What is counted of a table.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use tokio::sync::watch;

use super::{announcement::State, board::Board, check::Kind, file::Loaded, probe::Outcome};

/// Counts checks and hand-overs. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub(super) struct TableMetrics {
    checks: Family<CheckLabel, Counter>,
    /// Instances whose checks were taken over while they were registered.
    pub(super) taken_over: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabel {
    kind: Kind,
    result: CheckResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum CheckResult {
    Good,
    Bad,
    Void,
}

/// Looked at whenever metrics are read.
#[derive(Debug)]
struct Gauges {
    board: Board,
    loaded: watch::Receiver<Loaded>,
}

// === impl TableMetrics ===

impl TableMetrics {
    /// Registers `registry_table_checks_total{kind,result}`, `registry_table_taken_over_total`,
    /// `registry_table_instances{state}` and `registry_table_mistakes`.
    pub(super) fn register(registry: &mut Registry, board: Board, loaded: watch::Receiver<Loaded>) -> Self {
        let metrics = Self::default();
        registry.register("registry_table_checks", "Checks of instances of the table", metrics.checks.clone());
        let help = "Registered instances of the table whose checks this registry took over from another one";
        registry.register("registry_table_taken_over", help, metrics.taken_over.clone());
        registry.register_collector(Box::new(Gauges { board, loaded }));
        metrics
    }

    pub(super) fn count(&self, kind: Kind, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Good => CheckResult::Good,
            Outcome::Bad(_) => CheckResult::Bad,
            Outcome::Void | Outcome::Unresolved(_) => CheckResult::Void,
        };
        self.checks.get_or_create(&CheckLabel { kind, result }).inc();
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let help = "Mistakes in the newest version of the table's file; 0 when that is in force";
        let metric = encoder.encode_descriptor("registry_table_mistakes", help, None, MetricType::Gauge)?;
        ConstGauge::new(count(self.loaded.borrow().mistakes.len())).encode(metric)?;
        let help = "Instances of the table that this registry checks, by how they are";
        let mut family = encoder.encode_descriptor("registry_table_instances", help, None, MetricType::Gauge)?;
        for state in [State::Passing, State::Pending, State::Failing, State::Contested, State::Refused] {
            let labels = [("state", state.as_str())];
            ConstGauge::new(count(self.board.count(state))).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
