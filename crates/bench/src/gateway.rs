//! The programs under test, with configurations that do the same.
//!
//! Each takes `/bench/…` on one thread, adds `X-Forwarded-For`, logs nothing, and keeps connections to two upstreams.
//! The configurations of the others are in `configs/`, to be read and argued about. HAProxy passes the path on as it
//! is, which is less work; the rest cut its first segment off.

mod command;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use testkit::{ports::free_ports, process::Process};

use crate::{
    cost::{Cost, ThreadTimes},
    machine,
    pin::Cores,
    snapshot::Known,
};

/// How long a program may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);
/// The same where its instructions are counted.
const COUNTED_START_MAX: Duration = Duration::from_secs(120);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Balance,
    /// The reference.
    Nginx,
    /// The other well-known one.
    HaProxy,
    /// The one of service meshes.
    Envoy,
    /// The one that is easiest to set up.
    Caddy,
}

/// A program that runs on the gateway's core. It ends with its handle.
#[derive(Debug)]
pub struct Gateway {
    /// Which one.
    pub kind: Kind,
    /// Where it takes requests.
    pub address: SocketAddr,
    process: Process,
}

/// What a gateway is started with.
#[derive(Debug)]
pub struct Setting<'a> {
    /// The two upstreams.
    pub upstreams: [SocketAddr; 2],
    /// Where its files go.
    pub folder: &'a Path,
    /// The cores.
    pub cores: Cores,
    /// The `balance` program.
    pub balance: &'a Path,
    /// What `balance` knows.
    pub known: Known<'a>,
}

// === impl Kind ===

impl Kind {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 5] = [Self::Balance, Self::Nginx, Self::HaProxy, Self::Envoy, Self::Caddy];

    /// The program's name, which is also that of its package.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
        }
    }

    /// The option with which it tells its version.
    #[must_use]
    pub fn version_option(self) -> &'static str {
        match self {
            Self::Balance | Self::Envoy => "--version",
            Self::Nginx | Self::HaProxy => "-v",
            Self::Caddy => "version",
        }
    }

    /// `balance` and those that are installed, in the order of the table's columns.
    #[must_use]
    pub fn present() -> Vec<Self> {
        let is_present = |kind: &Self| *kind == Self::Balance || machine::find(kind.name()).is_some();
        Self::ALL.into_iter().filter(is_present).collect()
    }
}

// === impl Gateway ===

impl Gateway {
    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// It is not installed, or did not start; with what it said.
    pub fn start(kind: Kind, setting: &Setting<'_>) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        let command = command::command(kind, address, setting)?;
        Self::run(kind, address, command, setting, START_MAX)
    }

    /// Starts `balance` under valgrind, which counts its instructions into the file `counts` when it has
    /// [ended](Self::end), and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn start_counted(setting: &Setting<'_>, counts: &Path) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        let counted = command::command(Kind::Balance, address, setting)?;
        let mut command = Command::new(machine::find("valgrind").context("valgrind is not installed")?);
        command.env_clear().args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", counts.display()));
        command.arg(counted.get_program()).args(counted.get_args());
        Self::run(Kind::Balance, address, command, setting, COUNTED_START_MAX)
    }

    /// Starts `balance` with what etcd at `endpoint` has, whatever the setting says that it knows, and waits until it
    /// accepts connections. `admin` is where its operator asks.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub fn start_with_etcd(setting: &Setting<'_>, admin: SocketAddr, endpoint: &str) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        let command = command::with_etcd(address, admin, endpoint, setting);
        Self::run(Kind::Balance, address, command, setting, START_MAX)
    }

    fn run(
        kind: Kind,
        address: SocketAddr,
        mut command: Command,
        setting: &Setting<'_>,
        start_max: Duration,
    ) -> anyhow::Result<Self> {
        let output = setting.folder.join(format!("{}-{}.out", kind.name(), address.port()));
        let process = setting.cores.start_gateway(|| Process::start(&mut command, &output))?;
        let process = process.with_context(|| format!("cannot start {}", kind.name()))?;
        let mut gateway = Self { kind, address, process };
        gateway.wait_until_it_listens(start_max)?;
        Ok(gateway)
    }

    /// What it has used so far.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn cost(&self) -> anyhow::Result<Cost> {
        Cost::of(self.process.id())
            .with_context(|| format!("{} has ended:\n{}", self.kind.name(), self.process.output()))
    }

    /// Processor time of its threads so far; not of its children, which `balance` has none of.
    ///
    /// # Errors
    ///
    /// As [`Gateway::cost`].
    pub fn threads(&self) -> anyhow::Result<ThreadTimes> {
        ThreadTimes::of(self.process.id())
            .with_context(|| format!("{} has ended:\n{}", self.kind.name(), self.process.output()))
    }

    /// Ends it as an operator would, and waits for that.
    ///
    /// # Errors
    ///
    /// It has not ended within `limit`.
    pub fn end(mut self, limit: Duration) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM);
        match self.process.wait(limit) {
            Some(_) => Ok(()),
            None => bail!("{} does not end:\n{}", self.kind.name(), self.process.output()),
        }
    }

    fn wait_until_it_listens(&mut self, start_max: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + start_max;
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > deadline || !self.process.is_running() {
                bail!("{} does not listen:\n{}", self.kind.name(), self.process.output());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// How many files a process may open here. Raises this process's own limit to that, for its many connections.
///
/// # Errors
///
/// The kernel does not say.
pub fn open_files_max() -> anyhow::Result<usize> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}
