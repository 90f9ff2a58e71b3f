//! Where it is measured: two cores, two upstreams, one gateway at a time.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::{
    engine::{Clients, Connections, EventLoop, Load, Origin, Pace},
    gateway::{Gateway, Kind, Setting},
    pin::Cores,
    shape::{SHAPES, Shape},
    snapshot::Known,
    uniform::Uniform,
};

/// Connections of users under load, as in most published comparisons: enough to keep a core busy, few enough to fit a
/// cache.
pub const CONNECTIONS: usize = 32;
/// Before each measurement: connections are opened, caches and branch predictors are warm.
const WARM_UP: Duration = Duration::from_millis(300);

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
pub struct Harness {
    event_loop: EventLoop,
    upstreams: [std::net::SocketAddr; 2],
    cores: Cores,
    folder: tempfile::TempDir,
    balance: PathBuf,
}

// === impl Harness ===

impl Harness {
    /// Two upstreams on this thread, which moves to the load's core; `balance` is the program to measure.
    ///
    /// # Errors
    ///
    /// No free port, no folder for temporary files, no `balance`.
    pub fn new(cores: Cores, balance: PathBuf) -> anyhow::Result<Self> {
        ensure!(
            balance.is_file(),
            "{} is not there; build it: cargo build --workspace --release --bin balance",
            balance.display()
        );
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
    pub fn gateway(&self, kind: Kind, known: Known<'_>) -> anyhow::Result<Gateway> {
        Gateway::start(kind, &self.setting(&self.balance, known))
    }

    /// The same with another build of `balance`.
    ///
    /// # Errors
    ///
    /// `program` is not there, or as [`Gateway::start`].
    pub fn gateway_of(&self, program: &Path) -> anyhow::Result<Gateway> {
        ensure!(program.is_file(), "{} is not there", program.display());
        Gateway::start(Kind::Balance, &self.setting(program, Known::default()))
    }

    /// The same under valgrind, which counts its instructions into the file `counts` when it has [ended](Gateway::end).
    ///
    /// # Errors
    ///
    /// `program` is not there, or as [`Gateway::start`].
    pub fn counted(&self, program: &Path, counts: &Path) -> anyhow::Result<Gateway> {
        ensure!(program.is_file(), "{} is not there", program.display());
        Gateway::start_counted(&self.setting(program, Known::default()), counts)
    }

    /// `program`, a build of `balance`, with what etcd at `endpoint` has; `admin` is where its operator asks.
    ///
    /// # Errors
    ///
    /// `program` is not there, or as [`Gateway::start`].
    pub fn mirror(&self, program: &Path, admin: std::net::SocketAddr, endpoint: &str) -> anyhow::Result<Gateway> {
        ensure!(program.is_file(), "{} is not there", program.display());
        Gateway::start_with_etcd(&self.setting(program, Known::default()), admin, endpoint)
    }

    fn setting<'a>(&'a self, balance: &'a Path, known: Known<'a>) -> Setting<'a> {
        Setting { upstreams: self.upstreams, folder: self.folder.path(), cores: self.cores, balance, known }
    }

    /// Where files of the gateways go.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Processor time for each request under as much load as the gateway takes.
    ///
    /// # Errors
    ///
    /// The gateway has ended, or a request failed.
    pub fn cpu(&mut self, gateway: &Gateway, shape: Shape, duration: Duration) -> anyhow::Result<Figure> {
        self.answer_with(shape);
        let load = load(gateway, Pace::UnderWay(CONNECTIONS), shape.connections);
        self.measure(gateway, &shape.request(), load, duration).map(|(figure, _)| figure)
    }

    /// The same of any `request` that gets the answer of a small GET, on kept connections.
    ///
    /// # Errors
    ///
    /// As [`Harness::cpu`].
    pub fn cpu_of(&mut self, gateway: &Gateway, request: &[u8], duration: Duration) -> anyhow::Result<Figure> {
        self.answer_with(SHAPES[0]);
        let load = load(gateway, Pace::UnderWay(CONNECTIONS), Connections::Kept);
        self.measure(gateway, request, load, duration).map(|(figure, _)| figure)
    }

    /// As [`cpu_of`](Self::cpu_of), at `per_second`, far below what the gateway can do: also what it costs to be woken for
    /// every request by itself.
    ///
    /// # Errors
    ///
    /// As [`Harness::cpu`].
    pub fn cpu_at(
        &mut self,
        gateway: &Gateway,
        request: &[u8],
        per_second: f64,
        duration: Duration,
    ) -> anyhow::Result<Figure> {
        self.answer_with(SHAPES[0]);
        let load = load(gateway, Pace::PerSecond(per_second), Connections::Kept);
        self.measure(gateway, request, load, duration).map(|(figure, _)| figure)
    }

    /// One `request`, and its answer: where the first one does more than the others, as a password that is hashed.
    ///
    /// # Errors
    ///
    /// It failed.
    pub fn once(&mut self, gateway: &Gateway, request: Vec<u8>) -> anyhow::Result<()> {
        let patience = Duration::from_secs(20);
        let load = Load { patience, ..load(gateway, Pace::InAll(1, 1), Connections::Kept) };
        let mut uniform = Uniform::new(request);
        let clients = self.event_loop.run_to_end(load, &mut uniform)?;
        self.event_loop.close(clients);
        uniform.all_succeeded(gateway)
    }

    /// Latencies of small requests at `per_second`, each from when it was due.
    ///
    /// # Errors
    ///
    /// As [`Harness::cpu`].
    pub fn latencies(
        &mut self,
        gateway: &Gateway,
        per_second: f64,
        duration: Duration,
    ) -> anyhow::Result<(Figure, Latencies)> {
        let load = Load { spin: true, ..load(gateway, Pace::PerSecond(per_second), Connections::Kept) };
        self.answer_with(SHAPES[0]);
        let (figure, uniform) = self.measure(gateway, &SHAPES[0].request(), load, duration)?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^52")]
        let at = |quantile| uniform.latencies_us.value_at_quantile(quantile) as f64;
        Ok((figure, Latencies { p50: at(0.5), p99: at(0.99), p999: at(0.999) }))
    }

    /// Resident bytes for each connection that was used once and is idle now; `at_once` of them were used at the same
    /// time. Starts a gateway of its own, because memory that was used before would be used again.
    ///
    /// # Errors
    ///
    /// As [`Harness::cpu`].
    pub fn idle_bytes(&mut self, kind: Kind, connections: u64, at_once: u64) -> anyhow::Result<f64> {
        let gateway = self.gateway(kind, Known::default())?;
        self.cpu(&gateway, SHAPES[0], WARM_UP)?;
        let before = gateway.cost()?.resident_bytes;
        // Connections beyond the queue of a listener are tried again by the kernel after a second.
        let load = Load {
            patience: Duration::from_secs(20),
            connections_max: usize::try_from(connections)?,
            ..load(&gateway, Pace::InAll(connections, at_once), Connections::Hoarded)
        };
        let mut uniform = Uniform::new(SHAPES[0].request());
        let clients = self.event_loop.run_to_end(load, &mut uniform)?;
        uniform.all_succeeded(&gateway)?;
        let after = gateway.cost()?.resident_bytes;
        self.event_loop.close(clients);
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        Ok(after.saturating_sub(before) as f64 / connections as f64)
    }

    fn answer_with(&mut self, shape: Shape) {
        if let Some(origin) = self.event_loop.origin() {
            origin.set_body(shape.response_bytes);
        }
    }

    fn measure(
        &mut self,
        gateway: &Gateway,
        request: &[u8],
        load: Load,
        duration: Duration,
    ) -> anyhow::Result<(Figure, Uniform)> {
        let mut clients = Clients::new(load);
        let mut uniform = Uniform::new(request.to_vec());
        self.run_for(WARM_UP, &mut clients, &mut uniform)?;
        uniform.forget();
        let before = gateway.cost()?.cpu;
        let started = Instant::now();
        self.run_for(duration, &mut clients, &mut uniform)?;
        let cpu = gateway.cost()?.cpu - before;
        let took = started.elapsed();
        uniform.all_succeeded(gateway)?;
        #[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
        let completed = uniform.completed as f64;
        clients.stop();
        self.event_loop.run(&mut clients, &mut Uniform::new(Vec::new()), |clients, _| !clients.is_done())?;
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
