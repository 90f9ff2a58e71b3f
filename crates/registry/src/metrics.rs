//! What the registry counts, beside what every service counts.
//!
//! No metric has a label that clients could fill: services and instances come and go, and each would be a time series.

use std::fmt;

use discovery::Revision;
use discovery_etcd::WriteHealth;
use hickory_proto::op::ResponseCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::{Registry, Unit},
};

use tokio::time::Instant;

use crate::{concurrency_limit::ConcurrencyLimit, error::RegistryError, mirror::Mirror};

/// What a heartbeat came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// A lease was granted and the key put: the instance is new, or was gone, or wants another TTL.
    Registered,
    /// The value changed; the lease stayed.
    Updated,
    /// Nothing changed: the steady state.
    KeptAlive,
    /// It was of a life that has ended, or whose instance id another one holds; nothing changed.
    NotTheHolder,
    /// etcd could not be reached, or not in time.
    Unavailable,
    /// Too many were under way.
    Overloaded,
    /// It could not be done for another reason; the log has it.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

/// What a deregistration came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Farewell {
    /// The key was deleted.
    Deregistered,
    /// There was none.
    NotThere,
    /// Another life holds the id.
    NotTheHolder,
    Unavailable,
    Overloaded,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FarewellLabel {
    outcome: Farewell,
}

/// What was refused because another life holds the instance id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refused {
    /// A heartbeat.
    Heartbeat,
    /// A DELETE.
    Deregistration,
    /// An operator's word, or the end of one.
    Override,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    request: Refused,
}

/// Counts heartbeats and deregistrations, each when its work ends, because the client may have gone before; and what was not
/// of the life that holds its id. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    heartbeats: Family<OutcomeLabel, Counter>,
    deregistrations: Family<FarewellLabel, Counter>,
    refused: Family<RefusedLabel, Counter>,
    /// Instance ids that two holders were found to claim; once each in ten minutes.
    pub(crate) contested: Counter,
}

/// What came of an instance whose key was deleted although it had been heard; see [`crate::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Restored {
    /// Its key was written again.
    Restored,
    /// A heartbeat or another registry was faster.
    BackAlready,
    /// It was deregistered meanwhile.
    Left,
    /// etcd did not do it; the next heartbeat will.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestoredLabel {
    outcome: Restored,
}

/// Counts restorations. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct RestoreMetrics {
    restored: Family<RestoredLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// Counts answers to DNS questions. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct DnsMetrics {
    answers: Family<CodeLabel, Counter>,
    /// Answers without content, to clients that ask too often.
    pub(crate) truncated: Counter,
}

// === impl RestoreMetrics ===

impl RestoreMetrics {
    /// Registers `registry_restores_total{outcome}`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Instances whose keys were deleted in etcd although they had been heard, by what came of them";
        registry.register("registry_restores", help, metrics.restored.clone());
        metrics
    }

    /// Counts one instance.
    pub fn count(&self, outcome: Restored) {
        self.restored.get_or_create(&RestoredLabel { outcome }).inc();
    }
}

// === impl DnsMetrics ===

impl DnsMetrics {
    /// Registers `registry_dns_answers_total{code}` and `registry_dns_truncated_total`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("registry_dns_answers", "DNS answers by response code", metrics.answers.clone());
        let help = "DNS questions of clients that ask too often, which were sent to TCP";
        registry.register("registry_dns_truncated", help, metrics.truncated.clone());
        metrics
    }

    /// Counts one answer.
    pub fn count(&self, code: ResponseCode) {
        let code = match code {
            ResponseCode::NoError => "noerror",
            ResponseCode::FormErr => "formerr",
            ResponseCode::ServFail => "servfail",
            ResponseCode::NXDomain => "nxdomain",
            ResponseCode::NotImp => "notimp",
            ResponseCode::Refused => "refused",
            _ => "other",
        };
        self.answers.get_or_create(&CodeLabel { code }).inc();
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers `registry_heartbeats_total{outcome}`, `registry_deregistrations_total{outcome}`,
    /// `registry_other_incarnation_total{request}` and `registry_contested_ids_total`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("registry_heartbeats", "Heartbeats by what they came to", metrics.heartbeats.clone());
        let help = "Deregistrations by what they came to";
        registry.register("registry_deregistrations", help, metrics.deregistrations.clone());
        let help = "Requests that were refused because another incarnation holds the instance id";
        registry.register("registry_other_incarnation", help, metrics.refused.clone());
        let help = "Instance ids that two programs claimed within a TTL, each once in ten minutes";
        registry.register("registry_contested_ids", help, metrics.contested.clone());
        metrics
    }

    /// Counts what another life stood in the way of.
    pub fn refused(&self, request: Refused) {
        self.refused.get_or_create(&RefusedLabel { request }).inc();
    }

    /// Counts one heartbeat whose work has ended.
    pub fn count(&self, result: Result<Outcome, &RegistryError>) {
        let outcome = result.unwrap_or_else(outcome);
        self.heartbeats.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts one heartbeat if `error` says that no work was begun for it: else its work counts it.
    pub fn count_not_begun(&self, error: &RegistryError) {
        if matches!(error, RegistryError::Overloaded) {
            self.count(Err(error));
        }
    }

    /// Counts one deregistration whose work has ended; with the revision at which the key was deleted, 0 for none.
    pub fn count_deregistration(&self, result: Result<Revision, &RegistryError>) {
        let outcome = match result {
            Ok(gone_at) if gone_at > Revision::default() => Farewell::Deregistered,
            Ok(_) => Farewell::NotThere,
            Err(error) => match outcome(error) {
                Outcome::Unavailable => Farewell::Unavailable,
                Outcome::Overloaded => Farewell::Overloaded,
                Outcome::NotTheHolder => Farewell::NotTheHolder,
                Outcome::Registered | Outcome::Updated | Outcome::KeptAlive | Outcome::Failed => Farewell::Failed,
            },
        };
        self.deregistrations.get_or_create(&FarewellLabel { outcome }).inc();
    }

    /// As [`Metrics::count_not_begun`], for a deregistration.
    pub fn count_deregistration_not_begun(&self, error: &RegistryError) {
        if matches!(error, RegistryError::Overloaded) {
            self.count_deregistration(Err(error));
        }
    }
}

fn outcome(error: &RegistryError) -> Outcome {
    match error {
        RegistryError::Etcd { source, .. } if source.is_transient() => Outcome::Unavailable,
        RegistryError::Late => Outcome::Unavailable,
        RegistryError::Overloaded => Outcome::Overloaded,
        RegistryError::Holds { source, .. } => outcome(source),
        RegistryError::AnotherIncarnation { .. } | RegistryError::IncarnationEnded { .. } => Outcome::NotTheHolder,
        RegistryError::Etcd { .. }
        | RegistryError::Contended(_)
        | RegistryError::NotLoaded
        | RegistryError::Stale(_)
        | RegistryError::Crowded
        | RegistryError::Invalid(_)
        | RegistryError::NoSuchInstance(_)
        | RegistryError::AnotherOverride { .. }
        | RegistryError::LeaseInUse(_)
        | RegistryError::Denied(_)
        | RegistryError::Broken(_) => Outcome::Failed,
    }
}

// === impl Refused ===

impl Refused {
    /// `heartbeat`, `deregistration` or `override`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Deregistration => "deregistration",
            Self::Override => "override",
        }
    }
}

/// Looked at whenever metrics are read.
#[derive(Debug)]
pub struct Gauges {
    /// What is known.
    pub mirror: Mirror,
    /// What is under way.
    pub concurrency: ConcurrencyLimit,
    /// How writes go.
    pub writes: WriteHealth,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let state = self.mirror.health();
        let (instances, revision, unsettled) = {
            let view = self.mirror.read();
            (view.count(), view.revision().0, view.unsettled())
        };
        let mut gauge = |name: &str, help: &str, value: i64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        gauge("registry_instances", "Instances registered, as the mirror has it", count(instances))?;
        gauge("registry_mirror_revision", "The etcd revision up to which everything is known", revision)?;
        gauge("registry_mirror_connected", "1 while etcd is being watched", i64::from(state.connected))?;
        gauge("registry_mirror_unreadable_keys", "Keys in etcd that cannot be parsed", count(state.unreadable))?;
        gauge("registry_unsettled_commits", "Own commits that the mirror has not shown yet", count(unsettled))?;
        let help = "Requests on their way to etcd; beyond a bound, others wait for their turn or are refused";
        gauge("registry_requests_under_way", help, count(self.concurrency.under_way()))?;
        let help = "1 while etcd does not write; /readyz and the log say why";
        gauge("registry_writes_failing", help, i64::from(self.writes.trouble(Instant::now()).is_some()))?;
        let help = "Clients that wait for a change, by long poll or event stream";
        gauge("registry_waiting", help, count(self.mirror.notifier().waiting()))?;
        if let Some(age) = self.mirror.age() {
            let help = "Time since etcd last confirmed what the mirror shows";
            let metric =
                encoder.encode_descriptor("registry_mirror_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
            ConstGauge::new(age.as_secs_f64()).encode(metric)?;
        }
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)
        };
        counter("registry_mirror_resyncs", "How often everything was listed", state.resyncs.values().sum())?;
        let help = "Keys that a comparison with a complete list found to be wrong: 0 for ever, or there is a bug";
        counter("registry_mirror_differences", help, state.differences)
    }
}
