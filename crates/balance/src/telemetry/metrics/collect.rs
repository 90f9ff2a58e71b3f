//! Reads what is counted elsewhere when the metrics are scraped.

use std::{collections::BTreeMap, fmt};

use discovery_etcd::{ResyncCause, WatchHealth};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use service_kit::names::Names;

use crate::{
    clock::Millis,
    counters::{BrokenKind, DURATION_BOUNDS_US, FailureKind, Totals},
    instance::outlier::Verdict,
    table::routing_table::{ExclusionReason, Service, TableHandle},
};

/// See [`super::DataMetrics::register`].
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) table: TableHandle,
    pub(super) watch: WatchHealth,
    pub(super) names: Names,
}

const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.table.load();
        let services: Vec<_> =
            table.services().into_iter().map(|service| (service, Totals::of(&service.balancer.cores))).collect();
        let encoder = &mut encoder;
        per_service(encoder, &services)?;
        durations(encoder, &services)?;
        instances(encoder, &services)?;
        gauge(encoder, "balance_policies_broken", "Policies in etcd that are invalid", table.policies_broken)?;
        names(encoder, &self.names)?;
        self.watch(encoder, table.revision.0)
    }
}

impl Collected {
    fn watch(&self, encoder: &mut DescriptorEncoder<'_>, revision: i64) -> fmt::Result {
        let state = self.watch.state();
        let describe = |encoder: &mut DescriptorEncoder<'_>| {
            gauge(encoder, "balance_values_unreadable", "Keys in etcd that cannot be parsed", state.unreadable)?;
            gauge(encoder, "balance_watch_connected", "1 while etcd is being watched", usize::from(state.connected))?;
            counter(encoder, "balance_watch_comparisons", "Comparisons with a complete list", state.comparisons)?;
            counter(encoder, "balance_watch_differences", "Keys that these found to be wrong", state.differences)
        };
        describe(encoder)?;
        let help = "The revision of etcd that the routing table mirrors";
        let mut metric = encoder.encode_descriptor("balance_table_revision", help, None, MetricType::Gauge)?;
        metric.encode_gauge(&revision)?;
        if let Some(age) = self.watch.lag(tokio::time::Instant::now()) {
            let help = "Time since etcd last said anything";
            let mut metric = encoder.encode_descriptor("balance_table_age_seconds", help, None, MetricType::Gauge)?;
            metric.encode_gauge(&age.as_secs_f64())?;
        }
        let help = "Complete lists from etcd, by cause";
        let mut metric = encoder.encode_descriptor("balance_watch_resyncs", help, None, MetricType::Counter)?;
        for cause in ResyncCause::ALL {
            count(&mut metric, &[("cause", cause.as_str())], state.resyncs(cause))?;
        }
        Ok(())
    }
}

type Counted<'a> = [(&'a Service, Totals)];

fn per_service(encoder: &mut DescriptorEncoder<'_>, services: &Counted<'_>) -> fmt::Result {
    let mut metric = encoder.encode_descriptor("balance_requests", "Requests answered", None, MetricType::Counter)?;
    for (service, totals) in services {
        for (status, amount) in STATUSES.into_iter().zip(totals.responses) {
            count(&mut metric, &[("service", service.name.as_str()), ("status", status)], amount)?;
        }
    }
    let mut metric =
        encoder.encode_descriptor("balance_retries", "Attempts after the first", None, MetricType::Counter)?;
    for (service, totals) in services {
        count(&mut metric, &[("service", service.name.as_str())], totals.retries)?;
    }
    let help = "Instances taken out of rotation for a while";
    let mut metric = encoder.encode_descriptor("balance_ejections", help, None, MetricType::Counter)?;
    for (service, totals) in services {
        count(&mut metric, &[("service", service.name.as_str())], totals.ejections)?;
    }
    let help = "Attempts that got no usable response";
    let mut metric = encoder.encode_descriptor("balance_attempts_failed", help, None, MetricType::Counter)?;
    for (service, totals) in services {
        for (kind, amount) in FailureKind::ALL.into_iter().zip(totals.failures) {
            count(&mut metric, &[("service", service.name.as_str()), ("reason", kind.as_str())], amount)?;
        }
    }
    let help = "Responses that broke after their head";
    let mut metric = encoder.encode_descriptor("balance_responses_broken", help, None, MetricType::Counter)?;
    for (service, totals) in services {
        for (kind, amount) in BrokenKind::ALL.into_iter().zip(totals.broken) {
            count(&mut metric, &[("service", service.name.as_str()), ("reason", kind.as_str())], amount)?;
        }
    }
    let help = "Tunnels and event streams";
    let mut metric = encoder.encode_descriptor("balance_streams", help, None, MetricType::Gauge)?;
    for (service, _) in services {
        let all = service.balancer.candidates.all().iter().chain(service.balancer.last_resort.all());
        let streams: u32 = all.map(|candidate| candidate.state.load.streams()).sum();
        set(&mut metric, &[("service", service.name.as_str())], streams as usize)?;
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, services: &Counted<'_>) -> fmt::Result {
    let help = "Time to the head of the response";
    let name = "balance_request_duration_seconds";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds for a dashboard")]
    let seconds = |us: u64| us as f64 / 1e6;
    for (service, totals) in services {
        let bounds = DURATION_BOUNDS_US.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(totals.durations).collect();
        metric.encode_family(&[("service", service.name.as_str())])?.encode_histogram::<NoLabelSet>(
            seconds(totals.duration_sum_us),
            totals.durations.iter().sum(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}

fn instances(encoder: &mut DescriptorEncoder<'_>, services: &Counted<'_>) -> fmt::Result {
    let now = Millis::now();
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut metric = encoder.encode_descriptor("balance_instances", "Instances", None, MetricType::Gauge)?;
    for (service, _) in services {
        let all = service.balancer.candidates.all();
        let is_ejected = |verdict| matches!(verdict, Verdict::Ejected { .. } | Verdict::Failing);
        let (ejected, used): (Vec<_>, Vec<_>) =
            all.iter().partition(|candidate| is_ejected(candidate.state.outlier.verdict(now)));
        let (unresolved, used): (Vec<_>, Vec<_>) = used.into_iter().partition(|candidate| candidate.is_unresolved());
        let kept = used.iter().filter(|candidate| service.is_kept(candidate)).count();
        for (state, number) in [
            ("in_rotation", used.len() - kept),
            ("kept", kept),
            ("ejected", ejected.len()),
            ("unresolved", unresolved.len()),
            ("withheld", service.withheld.len()),
            ("last_resort", service.balancer.last_resort.all().len()),
        ] {
            set(&mut metric, &[("service", service.name.as_str()), ("state", state)], number)?;
        }
        for withheld in service.withheld.iter() {
            if let ExclusionReason::Address(forbidden) = withheld.why {
                *refused.entry(forbidden.as_str()).or_default() += 1;
            }
        }
    }
    let help = "Instances whose address must not be used";
    let mut metric = encoder.encode_descriptor("balance_addresses_refused", help, None, MetricType::Gauge)?;
    for (reason, number) in refused {
        set(&mut metric, &[("reason", reason)], number)?;
    }
    Ok(())
}

fn names(encoder: &mut DescriptorEncoder<'_>, names: &Names) -> fmt::Result {
    let state = names.state();
    let help = "Host names of instances and of etcd";
    let mut metric = encoder.encode_descriptor("balance_names", help, None, MetricType::Gauge)?;
    for (word, number) in [("resolved", state.resolved), ("stale", state.stale), ("unresolved", state.unresolved)] {
        set(&mut metric, &[("state", word)], number)?;
    }
    let mut metric = encoder.encode_descriptor("balance_lookups", "Look-ups of names", None, MetricType::Counter)?;
    for (word, number) in [("good", state.good), ("denied", state.denied), ("failed", state.failed)] {
        count(&mut metric, &[("result", word)], number)?;
    }
    Ok(())
}

fn count(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], amount: u64) -> fmt::Result {
    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&amount, None)
}

fn set(metric: &mut MetricEncoder<'_>, labels: &[(&str, &str)], number: usize) -> fmt::Result {
    metric.encode_family(&labels)?.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX))
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, amount: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, u64, f64>(&amount, None)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, number: usize) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX))
}
