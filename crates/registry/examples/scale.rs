//! What a registry costs: `cargo run --release -p registry --example scale -- 1000 10000 50000`.
//!
//! For each number of instances it starts an etcd and a registry (the program beside this one, so build it with the same
//! profile first: `cargo build --release -p registry`), registers the instances, sends each one's heartbeat every two
//! seconds for ten seconds, and prints a row. CPU times are the processes' own, from /proc, so that what
//! else runs on the machine does not count; latencies are the client's and suffer from it.
//!
//! `--grpc` measures the same over gRPC, too, one stream of heartbeats a connection.
//! `--threads 1` gives the registry one worker thread, `--members 3` gives etcd three members, `--log info` has the
//! registry open its request spans as it does by default.

#![expect(clippy::print_stdout, reason = "the table is what was asked for")]

use std::{
    fs,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use discovery_etcd::{Etcd, EtcdOptions};
use measure::{cpu, etcd_pids};
use testkit::{etcd::EtcdCluster, ports::free_ports, process::Process};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until},
};

use sender::Sender;

mod measure;
#[path = "measure/sender.rs"]
mod sender;

/// Connections of the client, each with its share of the instances.
const CONNECTIONS: usize = 256;
/// Heartbeats of each instance while it is measured: ten seconds.
const ROUNDS: u32 = 5;
/// How often each instance says that it is there.
const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Options {
    /// Numbers of instances.
    #[arg(default_values_t = [1000, 10_000, 50_000])]
    instances: Vec<usize>,
    /// How many members etcd has.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// Worker threads of the registry; as many as there are cores, if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Measure gRPC beside HTTP.
    #[arg(long)]
    grpc: bool,
    /// What the registry logs.
    #[arg(long, default_value = "warn")]
    log: String,
}

#[derive(Default)]
struct Seen {
    done: AtomicU64,
    failed: AtomicU64,
    micros: Mutex<Vec<u32>>,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    println!(
        "| over | instances | registered/s | heartbeats/s | failed | registry CPU/heartbeat | p50 | p99 | memory/instance | etcd CPU/heartbeat | raft entries/heartbeat |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for &size in &options.instances {
        measure(&options, size, false).await;
        if options.grpc {
            measure(&options, size, true).await;
        }
    }
}

async fn measure(options: &Options, size: usize, over_grpc: bool) {
    let protocol = if over_grpc { "gRPC" } else { "HTTP" };
    let etcd = EtcdCluster::start(options.members).await;
    let etcd_pids = etcd_pids(&etcd.endpoints());
    let etcd_cpu = || etcd_pids.iter().map(|&pid| cpu(pid)).sum::<f64>();
    let port = free_ports(1)[0];
    let target = (port, over_grpc);
    let registry = start(options, port, &etcd);
    let status = Etcd::new(&EtcdOptions::at(etcd.endpoints())).expect("an endpoint");
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let empty = memory(registry.id());
    let registering = Arc::new(Seen::default());
    let began = Instant::now();
    beat(target, size, 1, Duration::ZERO, &registering).await;
    let registered = size as f64 / began.elapsed().as_secs_f64();
    sleep(Duration::from_secs(2)).await;
    let warm = Arc::new(Seen::default());
    beat(target, size, 1, INTERVAL, &warm).await;
    let cpu_before = cpu(registry.id());
    let etcd_before = etcd_cpu();
    let entries = status.status().await.raft_index().unwrap_or(0);
    let seen = Arc::new(Seen::default());
    let started = Instant::now();
    beat(target, size, ROUNDS, INTERVAL, &seen).await;
    let elapsed = started.elapsed().as_secs_f64();
    let done = seen.done.load(Ordering::Relaxed) as f64;
    let spent = cpu(registry.id()) - cpu_before;
    let etcd_spent = etcd_cpu() - etcd_before;
    let grown = status.status().await.raft_index().unwrap_or(0).saturating_sub(entries);
    let mut micros = seen.micros.lock().expect("nobody panicked").clone();
    micros.sort_unstable();
    let share = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied().unwrap_or(0);
    let failed = seen.failed.load(Ordering::Relaxed) + registering.failed.load(Ordering::Relaxed);
    println!(
        "| {protocol} | {size} | {registered:.0} | {:.0} | {failed} | {:.1} µs | {:.1} ms | {:.1} ms | {} B | {:.1} µs | {:.4} |",
        done / elapsed,
        spent * 1e6 / done,
        f64::from(share(0.5)) / 1e3,
        f64::from(share(0.99)) / 1e3,
        memory(registry.id()).saturating_sub(empty) / size as u64,
        etcd_spent * 1e6 / done,
        grown as f64 / done,
    );
}

fn start(options: &Options, port: u16, etcd: &EtcdCluster) -> Process {
    let program = std::env::current_exe().expect("a program").with_file_name("../registry");
    let mut command = Command::new(program);
    command.env_clear().env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"));
    command.env("ETCD_ENDPOINTS", etcd.endpoints().join(",")).env("RUST_LOG", &options.log);
    command.env("REGISTRY_CLIENT_RATE", "0").env("REGISTRY_INSTANCES_MAX", "1000000").env("REGISTRY_DNS_LISTEN", "off");
    command.env("REGISTRY_TOKEN_INSTANCE_WRITES", "off").env("REGISTRY_ALL_INSTANCE_WRITES", "off");
    command.env("REGISTRY_SERVICE_BYTES_MAX", "1024MiB").env("REGISTRY_INSTANCES_BYTES_MAX", "1024MiB");
    if let Some(threads) = options.threads {
        // tokio's own setting.
        command.env("TOKIO_WORKER_THREADS", threads.to_string());
    }
    Process::start(&mut command, &etcd.dir().join("registry.log")).expect("build the registry first")
}

/// Sends `rounds` heartbeats of each of `size` instances, evenly spread over `interval`.
async fn beat(target: (u16, bool), size: usize, rounds: u32, interval: Duration, seen: &Arc<Seen>) {
    let tasks: Vec<_> = (0..CONNECTIONS.min(size))
        .map(|connection| tokio::spawn(share(target, (connection, size), rounds, interval, Arc::clone(seen))))
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
}

/// One connection's share.
async fn share(
    (port, over_grpc): (u16, bool),
    (first, size): (usize, usize),
    rounds: u32,
    interval: Duration,
    seen: Arc<Seen>,
) {
    let mut sender = Sender::connect(port, over_grpc).await;
    let started = Instant::now();
    let own: Vec<usize> = (first..size).step_by(CONNECTIONS).collect();
    for round in 0..rounds {
        for (index, instance) in own.iter().enumerate() {
            let part = (f64::from(round)) + index as f64 / own.len() as f64;
            sleep_until(started + interval.mul_f64(part)).await;
            let sent = Instant::now();
            let is_taken = sender.exchange(*instance).await;
            let counter = if is_taken { &seen.done } else { &seen.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            let micros = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
            seen.micros.lock().expect("nobody panicked").push(micros);
        }
    }
}

/// The resident memory of a process, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
