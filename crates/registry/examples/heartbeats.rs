//! Measures what heartbeats cost: `cargo run --release -p registry --example heartbeats -- --instances 1000`.
//!
//! Starts three etcd members and two registries on loopback, registers the instances, then heartbeats for each of them
//! every `--interval` (0s: as fast as answers come, from `--connections` at once), alternating between the registries.
//! Prints heartbeats per second, their latency, and what was added to etcd. Ends by itself after `--duration`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use clap::Parser;
use discovery_etcd::{Etcd, EtcdOptions};
use futures::future::join_all;
use registry::config::Config;
use service_kit::duration;
use testkit::etcd::EtcdCluster;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval_at, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long the first heartbeats of all instances may take.
const SETTLE_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Options {
    /// How many instances.
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// How often each sends a heartbeat; 0s: at once when the one before is answered.
    #[arg(long, default_value = "2s", value_parser = duration::parse)]
    interval: Duration,
    /// For how long, at most 10 minutes.
    #[arg(long, default_value = "10s", value_parser = duration::parse_positive)]
    duration: Duration,
    /// How many heartbeats are under way at once.
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

/// What came of the heartbeats of one instance.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    failures: BTreeMap<String, usize>,
}

struct Load {
    http: reqwest::Client,
    registries: Vec<String>,
    slots: Semaphore,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let duration = options.duration.min(Duration::from_secs(600));
    let etcd = EtcdCluster::start(3).await;
    let client = Etcd::new(&EtcdOptions::at(etcd.endpoints()))?;
    let shutdown = CancellationToken::new();
    let registries = vec![start(&etcd, &shutdown).await?, start(&etcd, &shutdown).await?];
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let load = Arc::new(Load { http, registries, slots: Semaphore::new(options.connections) });

    let started = Instant::now();
    let registered = rounds(&load, options.instances, Duration::ZERO, started).await;
    report("first heartbeats", &registered, started.elapsed());

    let index = raft_index(&client).await;
    let leases = leases(&etcd);
    let started = Instant::now();
    let steady = rounds(&load, options.instances, options.interval, started + duration).await;
    report("steady heartbeats", &steady, started.elapsed());
    println!("{:>24}: {}", "raft entries added", raft_index(&client).await - index);
    println!("{:>24}: {} (before: {leases}, instances: {})", "leases", self::leases(&etcd), options.instances);
    shutdown.cancel();
    Ok(())
}

async fn start(etcd: &EtcdCluster, shutdown: &CancellationToken) -> Result<String, Box<dyn Error>> {
    let mut config = Config::try_parse_from(["registry"])?;
    config.etcd = EtcdOptions::at(etcd.endpoints());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(registry::run_on(listener, config, shutdown.clone()));
    Ok(url)
}

/// One heartbeat for each instance, and further ones until `end`.
async fn rounds(load: &Arc<Load>, instances: usize, interval: Duration, end: Instant) -> Tally {
    let tasks = (0..instances).map(|instance| tokio::spawn(beat(Arc::clone(load), instance, instances, interval, end)));
    let mut all = Tally::default();
    for tally in join_all(tasks).await.into_iter().flatten() {
        all.latencies.extend(tally.latencies);
        for (failure, count) in tally.failures {
            *all.failures.entry(failure).or_default() += count;
        }
    }
    all.latencies.sort();
    all
}

async fn beat(load: Arc<Load>, instance: usize, instances: usize, interval: Duration, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let period = interval.max(Duration::from_nanos(1));
    // Spread over the interval, as independent processes are.
    let share = u32::try_from(instance).unwrap_or(u32::MAX);
    let offset = interval / u32::try_from(instances).unwrap_or(u32::MAX) * share;
    let mut ticks = interval_at(Instant::now() + offset, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0.. {
        // The first one comes in any case.
        let last = if round == 0 { Instant::now() + interval + SETTLE_MAX } else { end };
        let turn = async {
            ticks.tick().await;
            load.slots.acquire().await
        };
        let Ok(Ok(_slot)) = timeout_at(last, turn).await else { break };
        if Instant::now() >= last {
            break;
        }
        let registry = &load.registries[(round + instance) % load.registries.len()];
        let url = format!("{registry}/v1/services/load-{}/instances/i{instance}", instance % 20);
        let started = Instant::now();
        let sent = load.http.put(url).body(r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).send().await;
        match sent.map(|response| response.status()) {
            Ok(status) if status == 200 => tally.latencies.push(started.elapsed()),
            Ok(status) => *tally.failures.entry(status.to_string()).or_default() += 1,
            Err(error) => *tally.failures.entry(error.to_string()).or_default() += 1,
        }
    }
    tally
}

fn report(what: &str, tally: &Tally, elapsed: Duration) {
    let count = tally.latencies.len();
    let at = |permille: usize| tally.latencies.get(count * permille / 1000).copied().unwrap_or_default();
    println!("{what:>24}: {count} in {elapsed:.1?}, {:.0}/s", count as f64 / elapsed.as_secs_f64());
    println!("{:>24}: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}", "latency", at(500), at(990), at(999));
    println!("{:>24}: {:?}", "failures", tally.failures);
}

async fn raft_index(client: &Etcd) -> u64 {
    client.status().await.raft_index().unwrap_or_default()
}

fn leases(etcd: &EtcdCluster) -> usize {
    etcd.etcdctl(&["lease", "list"]).lines().count().saturating_sub(1)
}
