//! What leases cost etcd: `cargo run --release -p registry --example leases -- 10000 50000`.
//!
//! For each number of instances, three ways to hold them: a lease each, kept alive every two seconds, as the registry
//! does it; a lease each of 15 s, kept alive every five; and one lease of 5 s for a hundred instances, kept alive every two
//! seconds. The last two need registries that notice by themselves when an instance is silent, and delete its key. Only the
//! keep-alives are measured; a row lasts about ten seconds.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use discovery::{Instance, InstanceKey, LeaseId, Ttl};
use discovery_etcd::{Etcd, EtcdOptions};
use futures::{StreamExt as _, stream};
use measure::{cpu, etcd_pids};
use testkit::etcd::EtcdCluster;
use tokio::time::{Instant, sleep_until};

mod measure;

/// Calls to etcd at the same time, as many as a registry makes.
const AT_ONCE: usize = 256;

#[derive(Parser)]
struct Options {
    /// Numbers of instances.
    #[arg(default_values_t = [1000, 10_000, 50_000])]
    instances: Vec<usize>,
    /// How many members etcd has.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// The member that is asked: all of them, the leader alone, or a follower alone.
    #[arg(long, value_enum, default_value_t = At::All)]
    at: At,
    /// For how long each row keeps its leases alive, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum At {
    All,
    Leader,
    Follower,
}

/// One way to hold instances.
struct Way {
    name: &'static str,
    instances_per_lease: usize,
    interval: Duration,
}

const WAYS: [Way; 3] = [
    Way { name: "one each, 5 s", instances_per_lease: 1, interval: Duration::from_secs(2) },
    Way { name: "one each, 15 s", instances_per_lease: 1, interval: Duration::from_secs(5) },
    Way { name: "one for 100, 5 s", instances_per_lease: 100, interval: Duration::from_secs(2) },
];

#[tokio::main]
async fn main() {
    let options = Options::parse();
    println!(
        "| instances | leases | registered/s | keep-alives wanted/s | done/s | failed | etcd: cores | etcd CPU/keep-alive |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for &instances in &options.instances {
        for way in &WAYS {
            measure_way(&options, instances, way).await;
        }
    }
}

async fn measure_way(options: &Options, instances: usize, way: &Way) {
    let cluster = EtcdCluster::start(options.members).await;
    let pids = etcd_pids(&cluster.endpoints());
    let used = || pids.iter().map(|&pid| cpu(pid)).sum::<f64>();
    let endpoints = match options.at {
        At::All => cluster.endpoints(),
        At::Leader => vec![cluster.endpoint(cluster.leader().await)],
        At::Follower => vec![cluster.endpoint(cluster.follower().await)],
    };
    let etcd = Arc::new(Etcd::new(&EtcdOptions::at(endpoints)).expect("endpoints"));

    let began = Instant::now();
    // The TTL is long, so that a machine that cannot keep up still measures keep-alives and not expiry.
    let ttl = Ttl::from_millis(600_000).expect("ten minutes are allowed");
    let value: Instance = Instance::at("10.0.0.5:7070".parse().expect("an address"));
    let registered = stream::iter(0..instances.div_ceil(way.instances_per_lease)).map(|number| {
        let etcd = &etcd;
        let value = &value;
        let key: InstanceKey = format!("service/s{}/i{number}", number % 100).parse().expect("a key");
        async move { etcd.register(&key, value, ttl).await.expect("etcd registers").lease }
    });
    let leases: Vec<LeaseId> = registered.buffer_unordered(AT_ONCE).collect().await;
    let registering = leases.len() as f64 / began.elapsed().as_secs_f64();

    let before = used();
    let began = Instant::now();
    let end = began + Duration::from_secs(options.seconds.into());
    let (done, failed) = keep(&etcd, &leases, way.interval, end).await;
    let spent = used() - before;
    let lasted = began.elapsed().as_secs_f64();
    println!(
        "| {instances} | {} | {registering:.0} | {:.0} | {:.0} | {failed} | {:.2} | {:.1} µs |",
        way.name,
        leases.len() as f64 / way.interval.as_secs_f64(),
        done as f64 / lasted,
        spent / lasted,
        spent * 1e6 / done as f64,
    );
}

/// Keeps every lease alive every `interval`, evenly spread, until `end`.
async fn keep(etcd: &Arc<Etcd>, leases: &[LeaseId], interval: Duration, end: Instant) -> (u64, u64) {
    let began = Instant::now();
    let tally = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let tasks = (0..AT_ONCE.min(leases.len())).map(|first| {
        let own: Vec<LeaseId> = leases.iter().skip(first).step_by(AT_ONCE).copied().collect();
        let etcd = Arc::clone(etcd);
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            for beat in 0_u32.. {
                let turn = f64::from(beat) + first as f64 / AT_ONCE as f64;
                let due = began + interval.mul_f64(turn / own.len() as f64);
                if due.max(Instant::now()) >= end {
                    return;
                }
                sleep_until(due).await;
                let kept = etcd.keep_alive(own[beat as usize % own.len()]).await;
                tally[usize::from(kept.is_err())].fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it ends");
    }
    (tally[0].load(Ordering::Relaxed), tally[1].load(Ordering::Relaxed))
}
