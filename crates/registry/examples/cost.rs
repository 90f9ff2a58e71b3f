//! What a heartbeat costs, to the instruction: `cargo run --release -p registry --example cost -- target/release/registry`.
//!
//! Starts an etcd and each of the programs that are named, one at a time, registers the instances with it and sends heartbeats
//! from a few connections as fast as they are answered. CPU time is the registry's own, from /proc; several programs take turns,
//! so that what else runs on the machine disturbs all of them, and the median of their rounds is printed.
//!
//! `--instructions` counts the instructions outside of the kernel instead, with valgrind: those of a run with more
//! heartbeats less those of one with fewer, so that start and end do not count. For names of functions in its profile build
//! with `CARGO_PROFILE_RELEASE_STRIP=none`. `--calls` counts system calls, with strace.
//!
//! `--grpc` sends the heartbeats over gRPC, `--log warn` has the registry say less than it does by default.

#![expect(clippy::print_stdout, reason = "the figures are what was asked for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Parser;
use cpu::cpu;
use futures::future::join_all;
use nix::sys::signal::Signal;
use testkit::{etcd::EtcdCluster, ports::free_ports, process::Process};
use tokio::{net::TcpStream, time::sleep};

use sender::Sender;

#[path = "measure/cpu.rs"]
mod cpu;
#[path = "measure/sender.rs"]
mod sender;

/// How long a program may take to start, or to end, also within valgrind.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rounds of heartbeats that are not measured: connections and streams are opened, and the mirror knows everything.
const WARM_UP: usize = 2;

#[derive(Parser)]
struct Options {
    /// The registries to measure.
    #[arg(required = true)]
    programs: Vec<PathBuf>,
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// How many heartbeats of each instance.
    #[arg(long, default_value_t = 20)]
    heartbeats: usize,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How often each program is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Members of etcd.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// Worker threads of the registry.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long)]
    grpc: bool,
    /// What the registry logs.
    #[arg(long, default_value = "info")]
    log: String,
    /// Count instructions with valgrind.
    #[arg(long)]
    instructions: bool,
    /// Count system calls with strace.
    #[arg(long, conflicts_with = "instructions")]
    calls: bool,
    /// Where what valgrind and strace say is left.
    #[arg(long, default_value = ".")]
    profiles: PathBuf,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let mut figures = vec![Vec::new(); options.programs.len()];
    for round in 0..options.rounds {
        for (program, figures) in options.programs.iter().zip(&mut figures) {
            figures.push(figure(&options, program, round).await);
        }
    }
    let unit = match (options.instructions, options.calls) {
        (true, _) => "instructions",
        (_, true) => "system calls",
        _ => "µs of CPU",
    };
    for (program, figures) in options.programs.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let median = figures[figures.len() / 2];
        let (least, most) = (figures[0], figures[figures.len() - 1]);
        println!("{}: {median:.2} {unit} a heartbeat ({least:.2} to {most:.2})", program.display());
    }
}

/// What a heartbeat costs.
async fn figure(options: &Options, program: &Path, round: usize) -> f64 {
    let name = format!("{}.{round}", program.display().to_string().replace('/', "_"));
    if !options.instructions {
        return run(options, program, options.heartbeats, &options.profiles.join(name)).await;
    }
    let few = options.heartbeats / 4;
    let less = run(options, program, few, &options.profiles.join(format!("{name}.few"))).await;
    let more = run(options, program, options.heartbeats, &options.profiles.join(format!("{name}.many"))).await;
    (more - less) / ((options.heartbeats - few) * options.instances) as f64
}

/// Sends so many heartbeats of each instance: the CPU time of one, in µs, or the system calls; or the instructions of the
/// whole run.
async fn run(options: &Options, program: &Path, heartbeats: usize, profile: &Path) -> f64 {
    let etcd = EtcdCluster::start(options.members).await;
    let port = free_ports(1)[0];
    let mut registry = start(options, program, port, &etcd, profile);
    wait_for_port(port).await;
    beat(options, port, WARM_UP).await;
    let count = (heartbeats * options.instances) as f64;
    let before = cpu(registry.id());
    let strace = options.calls.then(|| trace(registry.id(), &etcd, profile));
    beat(options, port, heartbeats).await;
    let spent = cpu(registry.id()) - before;
    if let Some(mut strace) = strace {
        strace.signal(Signal::SIGINT);
        strace.wait(PATIENCE).expect("strace ends");
        return counted(profile, |text| text.lines().last()?.split_whitespace().nth(3)) / count;
    }
    registry.signal(Signal::SIGTERM);
    registry.wait(PATIENCE).expect("the registry ends");
    if options.instructions {
        return counted(profile, |text| text.lines().find_map(|line| line.strip_prefix("totals: ")));
    }
    spent * 1e6 / count
}

fn start(options: &Options, program: &Path, port: u16, etcd: &EtcdCluster, profile: &Path) -> Process {
    let mut command = Command::new(program);
    if options.instructions {
        command = Command::new("valgrind");
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display())).arg(program);
    }
    command.env_clear().env("REGISTRY_LISTEN", format!("127.0.0.1:{port}"));
    command.env("ETCD_ENDPOINTS", etcd.endpoints().join(",")).env("RUST_LOG", &options.log);
    command.env("TOKIO_WORKER_THREADS", options.threads.to_string()).env("REGISTRY_DNS_LISTEN", "off");
    command.env("REGISTRY_CLIENT_RATE", "0").env("REGISTRY_INSTANCES_MAX", "1000000");
    command.env("REGISTRY_TOKEN_INSTANCE_WRITES", "off").env("REGISTRY_ALL_INSTANCE_WRITES", "off");
    if options.instructions {
        // Within valgrind everything takes fifty times as long.
        command.env("ETCD_TIMEOUT", "20s").env("ETCD_DEADLINE", "60s");
    }
    Process::start(&mut command, &etcd.dir().join("registry.log")).expect("the program starts")
}

/// Counts the system calls of a process and all of its threads.
fn trace(pid: u32, etcd: &EtcdCluster, profile: &Path) -> Process {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(profile).args(["-p", &pid.to_string()]);
    let strace = Process::start(&mut command, &etcd.dir().join("strace.log")).expect("strace is installed");
    let is_traced = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    while !is_traced() {
        std::thread::sleep(Duration::from_millis(20));
    }
    strace
}

async fn wait_for_port(port: u16) {
    let reached = tokio::time::timeout(PATIENCE, async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    reached.await.expect("the registry listens");
}

/// Sends `heartbeats` of each instance, each connection those of its own.
async fn beat(options: &Options, port: u16, heartbeats: usize) {
    let all = (0..options.connections).map(|first| async move {
        let mut sender = Sender::connect(port, options.grpc).await;
        for _ in 0..heartbeats {
            for instance in (first..options.instances).step_by(options.connections) {
                while !sender.exchange(instance).await {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    });
    join_all(all).await;
}

/// The figure that `find` finds in what was left at `profile`.
fn counted(profile: &Path, find: impl Fn(&str) -> Option<&str>) -> f64 {
    let text = fs::read_to_string(profile).expect("it was left there");
    find(&text).and_then(|figure| figure.trim().parse().ok()).expect("a count")
}
