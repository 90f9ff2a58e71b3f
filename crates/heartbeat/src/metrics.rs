use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::HeartbeatError;

/// Counters of one instance's heartbeats. Clones share them; the default counts, but is not registered.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatMetrics {
    attempts: Family<AttemptLabels, Counter>,
    pub(crate) moves: Counter,
    pub(crate) lost: Counter,
    pub(crate) displaced: Counter,
    pub(crate) registered: Gauge<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are lower case")]
enum Outcome {
    accepted,
    unreachable,
    timed_out,
    busy,
    failed,
    refused,
    displaced,
}

// === impl HeartbeatMetrics ===

impl HeartbeatMetrics {
    /// Registers, per attempt on one registry, `heartbeat_attempts_total{outcome}`; `heartbeat_registry_moves_total`,
    /// `heartbeat_lost_total`, `heartbeat_displaced_total` and the gauge `heartbeat_registered` (1 or 0).
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "heartbeat_attempts",
            "Heartbeats sent to one registry, by what became of them",
            metrics.attempts.clone(),
        );
        registry.register(
            "heartbeat_registry_moves",
            "Times that heartbeats went on to another registry",
            metrics.moves.clone(),
        );
        registry.register(
            "heartbeat_lost",
            "Times that the registration ended because no heartbeat was taken",
            metrics.lost.clone(),
        );
        registry.register(
            "heartbeat_displaced",
            "Times that another instance took over the id of this one",
            metrics.displaced.clone(),
        );
        registry.register(
            "heartbeat_registered",
            "Whether this instance is registered, as far as it knows",
            metrics.registered.clone(),
        );
        metrics
    }

    pub(crate) fn count<T>(&self, attempt: &Result<T, HeartbeatError>) {
        let outcome = match attempt {
            Ok(_) => Outcome::accepted,
            Err(HeartbeatError::Unreachable { .. }) => Outcome::unreachable,
            Err(HeartbeatError::TimedOut { .. }) => Outcome::timed_out,
            Err(HeartbeatError::Busy { .. }) => Outcome::busy,
            Err(HeartbeatError::Refused { .. } | HeartbeatError::Nonsense { .. }) => Outcome::refused,
            Err(HeartbeatError::AnotherIncarnation { .. }) => Outcome::displaced,
            Err(
                HeartbeatError::IncarnationEnded { .. }
                | HeartbeatError::Failed { .. }
                | HeartbeatError::Advertise(_)
                | HeartbeatError::Credentials(_)
                | HeartbeatError::BackedOff,
            ) => Outcome::failed,
        };
        self.attempts.get_or_create(&AttemptLabels { outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::default();
        let metrics = HeartbeatMetrics::register(&mut registry);
        metrics.count(&Ok(()));
        metrics.registered.set(1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "heartbeat_attempts_total{outcome=\"accepted\"} 1",
            "heartbeat_registry_moves_total 0",
            "heartbeat_lost_total 0",
            "heartbeat_registered 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
    }
}
