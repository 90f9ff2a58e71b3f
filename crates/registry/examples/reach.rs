//! How soon a registration and its end count: `cargo run --release -p registry --example reach -- target/release/balance
//! target/release/registry`.
//!
//! Starts three etcd members, a gateway and each of the registries that are named, which take turns. Registers an instance
//! and deregisters it, again and again, while one client asks the gateway for it without a pause. Prints how long after the
//! request was sent it was answered, and how long after that moment the gateway answered 200, or 503.

#![expect(clippy::print_stdout, reason = "the figures are what was asked for")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Parser;
use testkit::{etcd::EtcdCluster, ports::free_ports, process::Process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// How long a program may take to be ready, and a change to count.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the members of etcd, and the mirrors, get to settle.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Parser)]
struct Options {
    /// The gateway.
    balance: PathBuf,
    /// The registries to measure.
    #[arg(required = true)]
    registries: Vec<PathBuf>,
    /// How often each registers and deregisters.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
}

/// A connection that asks one thing after the other.
struct Client {
    port: u16,
    stream: TcpStream,
}

/// How long each step took, in ms.
#[derive(Default)]
struct Seen {
    registered: Vec<f64>,
    routed: Vec<f64>,
    deregistered: Vec<f64>,
    gone: Vec<f64>,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let etcd = EtcdCluster::start(3).await;
    let instance = listen().await;
    let gateway = free_ports(2);
    let balance = [("BALANCE_LISTEN", gateway[0]), ("BALANCE_ADMIN_LISTEN", gateway[1])];
    let _balance = start(&options.balance, &etcd, &balance);
    let ports = free_ports(options.registries.len());
    let mut running = Vec::new();
    for (program, port) in options.registries.iter().zip(&ports) {
        running.push(start(program, &etcd, &[("REGISTRY_LISTEN", *port)]));
        wait_until_ready(*port).await;
    }
    wait_until_ready(gateway[1]).await;
    let mut figures: Vec<Seen> = ports.iter().map(|_| Seen::default()).collect();
    for _ in 0..options.rounds {
        for (port, seen) in ports.iter().zip(&mut figures) {
            life(*port, gateway[0], instance, seen).await;
        }
    }
    println!("| registry | registered: answered | routed to | deregistered: answered | routed to no more |");
    println!("|---|---|---|---|---|");
    for (program, seen) in options.registries.iter().zip(&mut figures) {
        let steps = [&mut seen.registered, &mut seen.routed, &mut seen.deregistered, &mut seen.gone];
        let steps = steps.map(|step| summary(step)).join(" | ");
        println!("| {} | {steps} |", program.display());
    }
}

/// One registration and its end.
async fn life(registry: u16, gateway: u16, instance: u16, seen: &mut Seen) {
    let service = format!("s{registry}");
    let path = format!("/v1/services/{service}/instances/i");
    let body = format!(r#"{{"address":"127.0.0.1:{instance}","incarnation":"new","ttl_ms":60000}}"#);
    let asked = format!("GET /{service} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let put = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let delete = format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let steps =
        [(put, 200, &mut seen.registered, &mut seen.routed), (delete, 503, &mut seen.deregistered, &mut seen.gone)];
    for (request, wanted, answered, counts) in steps {
        let mut client = Client::connect(registry).await;
        let mut user = Client::connect(gateway).await;
        let sent = Instant::now();
        let answer = async {
            let status = client.ask(&request).await;
            (status, sent.elapsed())
        };
        let reached = async {
            while user.ask(&asked).await != wanted {}
            sent.elapsed()
        };
        let both = timeout(PATIENCE, async { tokio::join!(answer, reached) });
        let ((status, answer), reached) = both.await.expect("it counts soon");
        assert_eq!(status, 200, "{request}");
        answered.push(answer.as_secs_f64() * 1e3);
        counts.push(reached.as_secs_f64() * 1e3);
        sleep(PAUSE).await;
    }
}

fn summary(step: &mut [f64]) -> String {
    step.sort_by(f64::total_cmp);
    let mut text = String::new();
    for (name, share) in [("p50", 50), ("p90", 90), ("p99", 99)] {
        write!(text, "{name} {:.1} ms ", step[step.len() * share / 100]).expect("a string takes it");
    }
    text.trim_end().to_owned()
}

fn start(program: &Path, etcd: &EtcdCluster, ports: &[(&str, u16)]) -> Process {
    let mut command = Command::new(program);
    command.env_clear().env("ETCD_ENDPOINTS", etcd.endpoints().join(",")).env("REGISTRY_DNS_LISTEN", "off");
    for unbounded in ["REGISTRY_INSTANCE_WRITES", "REGISTRY_TOKEN_INSTANCE_WRITES", "REGISTRY_ALL_INSTANCE_WRITES"] {
        command.env(unbounded, "off");
    }
    for (variable, port) in ports {
        command.env(variable, format!("127.0.0.1:{port}"));
    }
    let log = format!("{}.log", ports[0].1);
    Process::start(&mut command, &etcd.dir().join(log)).expect("the program is there")
}

async fn wait_until_ready(port: u16) {
    let ready = async {
        loop {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok()
                && Client::connect(port).await.ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await == 200
            {
                return;
            }
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, ready).await.expect("it is ready soon");
}

/// An instance that answers everything with 200; its port.
async fn listen() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                }
            });
        }
    });
    port
}

// === impl Client ===

impl Client {
    async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { port, stream }
    }

    /// The status of the answer.
    async fn ask(&mut self, request: &str) -> u16 {
        loop {
            if let Some(status) = self.exchange(request).await {
                return status;
            }
            // A connection that was kept may be closed at any time.
            *self = Self::connect(self.port).await;
        }
    }

    async fn exchange(&mut self, request: &str) -> Option<u16> {
        self.stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        loop {
            let mut part = [0; 4096];
            let count = self.stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
            answer.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return head.get(9..12)?.parse().ok();
            }
        }
    }
}
