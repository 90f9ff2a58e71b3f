//! The programs under test, with configurations that do the same.
//!
//! Each takes `/bench/…` on one thread, adds `X-Forwarded-For`, logs nothing, and keeps connections to two upstreams.
//! The configurations of nginx and HAProxy are in `configs/`, to be read and argued about. `balance` and nginx cut the
//! first segment of the path off; HAProxy passes it on, which is less work.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use testkit::{ports::free_ports, process::Process};

use crate::{cost::Cost, machine, pin::Cores};

/// How long a program may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);
/// The same where its instructions are counted.
const COUNTED_START_MAX: Duration = Duration::from_secs(120);
/// Connections that nginx may have, either side counted.
const NGINX_CONNECTIONS: usize = 16_384;
/// Connections of users that HAProxy may have; it wants two descriptors for each.
const HAPROXY_CONNECTIONS: usize = 8_000;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Balance,
    /// The reference.
    Nginx,
    /// The other well-known one.
    HaProxy,
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
    /// What else `balance` knows, beside the two upstreams.
    pub population: Population,
}

/// How many instances `balance` knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Population {
    /// Instances of the service under load; at least two. They share the two upstreams.
    pub instances: usize,
    /// Instances of other services, ten to a service.
    pub others: usize,
}

// === impl Kind ===

impl Kind {
    /// All, in the order of the table's columns.
    pub const ALL: [Self; 3] = [Self::Balance, Self::Nginx, Self::HaProxy];

    /// The program's name, which is also that of its Debian package.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Balance => "balance",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
        }
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
        let command = match kind {
            Kind::Balance => balance(address, setting)?,
            Kind::Nginx => nginx(address, setting)?,
            Kind::HaProxy => haproxy(address, setting)?,
        };
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
        let counted = balance(address, setting)?;
        let mut command = Command::new(machine::find("valgrind").context("valgrind is not installed")?);
        command.env_clear().args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", counts.display()));
        command.arg(counted.get_program()).args(counted.get_args());
        Self::run(Kind::Balance, address, command, setting, COUNTED_START_MAX)
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

/// `balance` from its snapshot, with an etcd that is not there: the steadiest way to give it instances, and every
/// protection of its data path is on.
fn balance(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let snapshot = setting.folder.join(format!("table-{}.json", address.port()));
    fs::write(&snapshot, snapshot_of(setting.upstreams, setting.population).to_string())?;
    let [admin, unused] = free_ports(2)[..] else { bail!("two ports were asked for") };
    let mut command = Command::new(setting.balance);
    command.env_clear().args(["--workers", "1", "--log", "warn", "--listen", &address.to_string()]);
    command.args(["--admin-listen", &format!("127.0.0.1:{admin}"), "--connections-max", "16000", "--keep-alive", "5m"]);
    command.args(["--etcd-endpoints", &format!("http://127.0.0.1:{unused}"), "--snapshot-file"]).arg(snapshot);
    Ok(command)
}

fn snapshot_of(upstreams: [SocketAddr; 2], population: Population) -> serde_json::Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let address = |number: usize| upstreams[number % 2].to_string();
    let own = (0..population.instances.max(2)).map(|number| (format!("service/bench/i{number}"), address(number)));
    let others =
        (0..population.others).map(|number| (format!("service/other-{}/i{number}", number / 10), address(number)));
    let instances: serde_json::Map<String, serde_json::Value> =
        own.chain(others).map(|(key, address)| (key, address.into())).collect();
    serde_json::json!({
        "saved_at_unix_ms": u64::try_from(now.as_millis()).unwrap_or_default(),
        "revision": 1,
        "instances": instances,
    })
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Workers of nginx outlive a master that is killed: it has to end them.
        if self.kind == Kind::Nginx && self.process.signal(Signal::SIGTERM) {
            let _ended = self.process.wait(Duration::from_secs(5));
        }
    }
}

fn nginx(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let files = 2 * NGINX_CONNECTIONS;
    let connections = NGINX_CONNECTIONS;
    let config = fill(include_str!("../configs/nginx.conf"), address, setting, connections)
        .replace("@FILES@", &files.min(open_files_max()?).to_string());
    let file = write_config(setting.folder, "nginx.conf", &config)?;
    let mut command = installed(Kind::Nginx)?;
    command.arg("-e").arg(setting.folder.join("nginx-start.log")).arg("-p").arg(setting.folder).arg("-c").arg(file);
    Ok(command)
}

fn haproxy(address: SocketAddr, setting: &Setting<'_>) -> anyhow::Result<Command> {
    let config = fill(include_str!("../configs/haproxy.cfg"), address, setting, HAPROXY_CONNECTIONS);
    let file = write_config(setting.folder, "haproxy.cfg", &config)?;
    let mut command = installed(Kind::HaProxy)?;
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn fill(template: &str, address: SocketAddr, setting: &Setting<'_>, connections: usize) -> String {
    template
        .replace("@LISTEN@", &address.to_string())
        .replace("@DIR@", &setting.folder.display().to_string())
        .replace("@CONNECTIONS@", &connections.to_string())
        .replace("@UPSTREAM_1@", &setting.upstreams[0].to_string())
        .replace("@UPSTREAM_2@", &setting.upstreams[1].to_string())
}

fn write_config(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text)?;
    Ok(file)
}

fn installed(kind: Kind) -> anyhow::Result<Command> {
    let program = machine::find(kind.name());
    Ok(Command::new(program.with_context(|| format!("{} is not installed; run: bench --install", kind.name()))?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_has_the_population_that_was_asked_for() {
        let upstreams = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        let snapshot = snapshot_of(upstreams, Population { instances: 10, others: 25 });
        let instances = snapshot["instances"].as_object().unwrap();
        assert_eq!(instances.len(), 35);
        assert_eq!(instances["service/bench/i9"], "127.0.0.1:2");
        assert!(instances.contains_key("service/other-2/i24"));
    }
}
