//! What is counted: how handing over ended, how long it took, how much is under way.

use std::time::Instant;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::transport::outcome::DeliveryError;

/// Upper bounds in seconds: from a file on a fast disk to a server that needs all of the deadline.
const DURATION_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0];

/// The metrics of sending. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct SendMetrics {
    sends: Family<OutcomeLabel, Counter>,
    durations: Histogram,
    under_way: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl SendMetrics {
    /// Registers `mail_sends_total{outcome}`, `mail_send_duration_seconds` and `mail_sends_under_way`.
    ///
    /// An outcome is `sent`, the `code` of an answer ([`DeliveryError::code`]), or `abandoned`: the client left before.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { sends: Family::default(), durations: Histogram::new(DURATION_BUCKETS), under_way: Gauge::default() };
        registry.register("mail_sends", "Messages by how handing them over ended", metrics.sends.clone());
        registry.register(
            "mail_send_duration_seconds",
            "Time from a message's turn to the other side's final reply",
            metrics.durations.clone(),
        );
        registry.register("mail_sends_under_way", "Messages waiting or being handed over", metrics.under_way.clone());
        metrics
    }

    /// Starts to measure one message; it is counted when the value is dropped.
    #[must_use]
    pub fn start(&self) -> Measured<'_> {
        self.under_way.inc();
        Measured { metrics: self, turn: None, outcome: "abandoned" }
    }
}

/// What the outbox takes in: `mail_outbox_accepted_total{replayed}`. What becomes of it is in `mail_sends_total`.
#[derive(Debug, Clone, Default)]
pub struct OutboxMetrics(Family<ReplayedLabel, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplayedLabel {
    replayed: &'static str,
}

impl OutboxMetrics {
    /// Registers it.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("mail_outbox_accepted", "Messages accepted into the outbox", metrics.0.clone());
        metrics
    }

    /// Counts one; `replayed` when it had been accepted before.
    pub fn accepted(&self, replayed: bool) {
        self.0.get_or_create(&ReplayedLabel { replayed: if replayed { "true" } else { "false" } }).inc();
    }
}

/// One message on its way.
#[derive(Debug)]
pub struct Measured<'a> {
    metrics: &'a SendMetrics,
    turn: Option<Instant>,
    outcome: &'static str,
}

impl Measured<'_> {
    /// Its turn has come: the clock runs.
    pub fn its_turn(&mut self) {
        self.turn = Some(Instant::now());
    }

    /// How it ended.
    pub fn ended<T>(&mut self, result: &Result<T, DeliveryError>) {
        self.outcome = result.as_ref().map_or_else(DeliveryError::code, |_| "sent");
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.metrics.under_way.dec();
        self.metrics.sends.get_or_create(&OutcomeLabel { outcome: self.outcome }).inc();
        if let Some(turn) = self.turn {
            self.metrics.durations.observe(turn.elapsed().as_secs_f64());
        }
    }
}
