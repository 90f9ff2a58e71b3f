//! What is measured, a function for each row of the table.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;

use crate::{
    engine::{Clients, Connections, Done, EventLoop, Load, Origin, Outcome, Pace, Traffic},
    gateway::{Gateway, Kind, Population, Setting},
    pin::Cores,
    rounds::Rounds,
};

/// Connections of users under load, as in most published comparisons: enough to keep a core busy, few enough to fit a cache.
pub const CONNECTIONS: usize = 32;
/// Before each measurement: connections are opened, caches and branch predictors are warm.
const WARM_UP: Duration = Duration::from_millis(300);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds for each row, at least one.
    pub rounds: usize,
    /// How long each gateway is measured in a round.
    pub duration: Duration,
    /// Idle connections for the memory of one.
    pub idle_connections: u64,
}

/// A kind of request.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// As the table calls it.
    pub name: &'static str,
    /// Bytes of the request's body; 0 is a GET.
    pub request_bytes: usize,
    /// Bytes of the response's body.
    pub response_bytes: usize,
    /// What it is sent on.
    pub connections: Connections,
}

/// The rows of processor time.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "small GET", request_bytes: 0, response_bytes: 12, connections: Connections::Kept },
    Shape { name: "POST 1 KiB", request_bytes: 1024, response_bytes: 12, connections: Connections::Kept },
    Shape { name: "response 10 KiB", request_bytes: 0, response_bytes: 10 * 1024, connections: Connections::Kept },
    Shape { name: "no keep-alive", request_bytes: 0, response_bytes: 12, connections: Connections::Fresh },
];

/// One measurement of one gateway.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Processor time for each completed request, in microseconds.
    pub cpu_us: f64,
    /// Completed requests a second.
    pub per_second: f64,
}

/// Latencies of one measurement at a fixed rate, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latencies {
    /// Half of the requests were as fast.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
}

/// Where it is measured.
#[derive(Debug)]
pub struct Stand {
    event_loop: EventLoop,
    upstreams: [std::net::SocketAddr; 2],
    cores: Cores,
    folder: tempfile::TempDir,
    balance: PathBuf,
}

// === impl Shape ===

impl Shape {
    /// The request as bytes.
    #[must_use]
    pub fn request(self) -> Vec<u8> {
        let method = if self.request_bytes == 0 { "GET" } else { "POST" };
        let mut head =
            format!("{method} /bench/ HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n");
        if self.request_bytes > 0 {
            head += &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", self.request_bytes);
        }
        if self.connections == Connections::Fresh {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.resize(bytes.len() + self.request_bytes, b'x');
        bytes
    }
}

// === impl Stand ===

impl Stand {
    /// Two upstreams on this thread, which moves to the load's core; `balance` is the program to measure.
    ///
    /// # Errors
    ///
    /// No free port, no folder for temporary files, no `balance`.
    pub fn new(cores: Cores, balance: PathBuf) -> anyhow::Result<Self> {
        ensure!(balance.is_file(), "{} is not there; build it: cargo build --release -p balance", balance.display());
        crate::gateway::open_files_max()?;
        cores.start_gateway(|| ())?;
        let origin = Origin::listen(2, 12)?;
        let [one, two] = origin.addresses()?[..] else { anyhow::bail!("two listeners were asked for") };
        let event_loop = EventLoop::new(Some(origin))?;
        Ok(Self { event_loop, upstreams: [one, two], cores, folder: tempfile::tempdir()?, balance })
    }

    /// The event loop, for loads of one's own, and where its upstreams are.
    pub fn parts(&mut self) -> (&mut EventLoop, std::net::SocketAddr, Cores) {
        (&mut self.event_loop, self.upstreams[0], self.cores)
    }

    /// Starts a gateway in front of the two upstreams.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn gateway(&self, kind: Kind, population: Population) -> anyhow::Result<Gateway> {
        let setting = Setting {
            upstreams: self.upstreams,
            folder: self.folder.path(),
            cores: self.cores,
            balance: &self.balance,
            population,
        };
        Gateway::start(kind, &setting)
    }

    /// Processor time for each request under as much load as the gateway takes.
    ///
    /// # Errors
    ///
    /// The gateway has ended, or a request failed.
    pub fn cpu(&mut self, gateway: &Gateway, shape: Shape, duration: Duration) -> anyhow::Result<Figure> {
        let load = load(gateway, Pace::UnderWay(CONNECTIONS), shape.connections);
        self.measure(gateway, shape, load, duration).map(|(figure, _)| figure)
    }

    /// Latencies of small requests at `per_second`, each from when it was due.
    ///
    /// # Errors
    ///
    /// As [`Stand::cpu`].
    pub fn latencies(
        &mut self,
        gateway: &Gateway,
        per_second: f64,
        duration: Duration,
    ) -> anyhow::Result<(Figure, Latencies)> {
        let load = Load { spin: true, ..load(gateway, Pace::PerSecond(per_second), Connections::Kept) };
        let (figure, uniform) = self.measure(gateway, SHAPES[0], load, duration)?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
        let at = |quantile| uniform.latencies_us.value_at_quantile(quantile) as f64;
        Ok((figure, Latencies { p50: at(0.5), p99: at(0.99), p999: at(0.999) }))
    }

    /// Resident bytes for each connection that was used once and is idle now; `at_once` of them were used at the same
    /// time. Starts a gateway of its own, because memory that was used before would be used again.
    ///
    /// # Errors
    ///
    /// As [`Stand::cpu`].
    pub fn idle_bytes(&mut self, kind: Kind, connections: u64, at_once: u64) -> anyhow::Result<f64> {
        let gateway = self.gateway(kind, Population::default())?;
        self.cpu(&gateway, SHAPES[0], WARM_UP)?;
        let before = gateway.cost()?.resident_bytes;
        // Connections beyond the queue of a listener are tried again by the kernel after a second.
        let load = Load {
            patience: Duration::from_secs(20),
            connections_max: usize::try_from(connections)?,
            ..load(&gateway, Pace::InAll(connections, at_once), Connections::Hoarded)
        };
        let mut uniform = Uniform::new(SHAPES[0]);
        let clients = self.event_loop.run_to_end(load, &mut uniform)?;
        uniform.all_succeeded(&gateway)?;
        let after = gateway.cost()?.resident_bytes;
        self.event_loop.close(clients);
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        Ok(after.saturating_sub(before) as f64 / connections as f64)
    }

    fn measure(
        &mut self,
        gateway: &Gateway,
        shape: Shape,
        load: Load,
        duration: Duration,
    ) -> anyhow::Result<(Figure, Uniform)> {
        if let Some(origin) = self.event_loop.origin() {
            origin.set_body(shape.response_bytes);
        }
        let (mut clients, mut uniform) = (Clients::new(load), Uniform::new(shape));
        self.run_for(WARM_UP, &mut clients, &mut uniform)?;
        uniform.forget();
        let (before, started) = (gateway.cost()?.cpu, Instant::now());
        self.run_for(duration, &mut clients, &mut uniform)?;
        let (cpu, took) = (gateway.cost()?.cpu - before, started.elapsed());
        uniform.all_succeeded(gateway)?;
        #[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
        let completed = uniform.completed as f64;
        clients.stop();
        self.event_loop.run(&mut clients, &mut Uniform::new(shape), |clients, _| !clients.is_done())?;
        self.event_loop.close(clients);
        ensure!(completed > 0.0, "{} completed no request", gateway.kind.name());
        let figure = Figure { cpu_us: cpu.as_secs_f64() * 1e6 / completed, per_second: completed / took.as_secs_f64() };
        Ok((figure, uniform))
    }

    fn run_for(&mut self, duration: Duration, clients: &mut Clients, uniform: &mut Uniform) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        self.event_loop.run(clients, uniform, |_, now| now < end).context("the event loop cannot wait")
    }
}

fn load(gateway: &Gateway, pace: Pace, connections: Connections) -> Load {
    let patience = Duration::from_secs(5);
    Load { target: gateway.address, pace, connections, connections_max: CONNECTIONS, patience, spin: false }
}

/// Processor time of all three gateways for every shape.
///
/// # Errors
///
/// As [`Stand::cpu`].
pub fn shapes(stand: &mut Stand, gateways: &[Gateway], extent: Extent) -> anyhow::Result<Vec<(Shape, Rounds, Rounds)>> {
    let mut rows: Vec<_> =
        SHAPES.into_iter().map(|shape| (shape, Rounds::new(gateways.len()), Rounds::new(gateways.len()))).collect();
    for _ in 0..extent.rounds {
        for (shape, cpu, per_second) in &mut rows {
            for (index, gateway) in gateways.iter().enumerate() {
                let figure = stand.cpu(gateway, *shape, extent.duration)?;
                cpu.add(index, figure.cpu_us);
                per_second.add(index, figure.per_second);
            }
        }
    }
    Ok(rows)
}

/// What the rounds at a fixed rate said: processor time, p50, p99, p99.9.
pub type FixedRate = [Rounds; 4];

/// Latencies of all three at a fixed rate.
///
/// # Errors
///
/// As [`Stand::cpu`].
pub fn fixed_rate(
    stand: &mut Stand,
    gateways: &[Gateway],
    extent: Extent,
    per_second: f64,
) -> anyhow::Result<FixedRate> {
    let mut all: FixedRate = std::array::from_fn(|_| Rounds::new(gateways.len()));
    for _ in 0..extent.rounds {
        for (index, gateway) in gateways.iter().enumerate() {
            let (figure, latencies) = stand.latencies(gateway, per_second, extent.duration)?;
            let figures = [figure.cpu_us, latencies.p50, latencies.p99, latencies.p999];
            all.iter_mut().zip(figures).for_each(|(rounds, figure)| rounds.add(index, figure));
        }
    }
    Ok(all)
}

/// Memory of an idle connection, for each of the three.
///
/// First when few of their requests were under way at the same time, then when all were. What a program needs for a request, and does not give back, is in the second only.
///
/// # Errors
///
/// As [`Stand::idle_bytes`].
pub fn idle(stand: &mut Stand, extent: Extent) -> anyhow::Result<[Vec<f64>; 2]> {
    let connections = extent.idle_connections;
    let mut row = |at_once| -> anyhow::Result<Vec<f64>> {
        Kind::ALL.into_iter().map(|kind| stand.idle_bytes(kind, connections, at_once)).collect()
    };
    Ok([row(CONNECTIONS as u64)?, row(connections)?])
}

/// The populations that are compared; the first is the reference.
pub const POPULATIONS: [(&str, Population); 3] = [
    ("10 instances", Population { instances: 10, others: 0 }),
    ("10, and 10,000 of 1,000 other services", Population { instances: 10, others: 10_000 }),
    ("10,000 instances", Population { instances: 10_000, others: 0 }),
];

/// Processor time of `balance` for a small GET, by how many instances it knows.
///
/// # Errors
///
/// As [`Stand::cpu`].
pub fn populations(stand: &mut Stand, extent: Extent) -> anyhow::Result<Rounds> {
    let start = |(_, population)| stand.gateway(Kind::Balance, population);
    let gateways = POPULATIONS.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    // Ten thousand instances are ten thousand connections, opened before anything is counted.
    stand.cpu(&gateways[2], SHAPES[0], extent.duration)?;
    let mut rounds = Rounds::new(gateways.len());
    for _ in 0..extent.rounds {
        for (index, gateway) in gateways.iter().enumerate() {
            rounds.add(index, stand.cpu(gateway, SHAPES[0], extent.duration)?.cpu_us);
        }
    }
    Ok(rounds)
}

/// Half of what nginx manages with small requests, rounded down to hundreds.
#[must_use]
pub fn half_of(per_second: &Rounds, reference: usize) -> f64 {
    let most = per_second.verdict(reference, reference).map_or(0.0, |verdict| verdict.median);
    (most / 200.0).floor().max(1.0) * 100.0
}

/// The same request again and again.
#[derive(Debug)]
struct Uniform {
    request: Vec<u8>,
    completed: u64,
    failed: Vec<String>,
    latencies_us: Histogram<u64>,
}

// === impl Uniform ===

impl Uniform {
    fn new(shape: Shape) -> Self {
        // 1 µs to 60 s with three digits.
        let latencies_us =
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that the crate's documentation allows");
        Self { request: shape.request(), completed: 0, failed: Vec::new(), latencies_us }
    }

    fn forget(&mut self) {
        self.completed = 0;
        self.latencies_us.reset();
    }

    fn all_succeeded(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let first = self.failed.first().map_or("", String::as_str);
        ensure!(self.failed.is_empty(), "{}: {} requests failed: {first}", gateway.kind.name(), self.failed.len());
        Ok(())
    }
}

impl Traffic for Uniform {
    fn write(&mut self, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn done(&mut self, done: Done<'_>) {
        match done.outcome {
            Outcome::Answered(200, _) => {
                self.completed += 1;
                self.latencies_us.saturating_record(u64::try_from(done.latency().as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::Answered(status, _) => self.failed.push(format!("status {status}")),
            Outcome::Broken(broken) => self.failed.push(broken.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_its_shape_says() {
        let post = String::from_utf8(SHAPES[1].request()).unwrap();
        assert!(post.starts_with("POST /bench/ HTTP/1.1\r\n") && post.contains("Content-Length: 1024\r\n"));
        assert!(post.ends_with(&format!("\r\n\r\n{}", "x".repeat(1024))));
        let last = String::from_utf8(SHAPES[3].request()).unwrap();
        assert!(last.contains("Connection: close\r\n") && last.ends_with("\r\n\r\n"));
    }

    #[test]
    fn the_fixed_rate_is_half_of_the_reference() {
        let mut rounds = Rounds::new(2);
        rounds.add(0, 99_999.0);
        rounds.add(1, 50_450.0);
        assert!((half_of(&rounds, 1) - 25_200.0).abs() < f64::EPSILON);
    }
}
