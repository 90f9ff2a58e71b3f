//! What is measured, each in a process of its own.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bench::cost::Cost;
use percent_encoding::percent_decode_str;
use service_kit::service::Failure;
use testkit::{ports::free_ports, process::Process};
use url::Url;

use super::{Answered, Case, Options, raw::Raw, traffic};

/// Users that are read and changed.
pub(crate) const USERS: u64 = 5_000;

/// Before each measurement: connections are opened, statements are prepared.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) enum Program {
    Raw(Raw),
    Http { name: &'static str, address: SocketAddr, process: Process },
}

/// Fills the database and starts what works on it.
pub(crate) fn start(url: &str, options: &Options, folder: &Path) -> Result<Vec<Program>, Failure> {
    import(url, options, folder)?;
    let [one, two] = free_ports(2)[..] else { return Err("no free ports".into()) };
    let mut userlist = Command::new(&options.userlist);
    userlist.args(["--database-url", url, "--registry", "http://127.0.0.1:1", "--let-go", "0s"]);
    userlist.args(["--listen", &format!("127.0.0.1:{one}")]);
    let mut programs = vec![launch("userlist", userlist, one, folder)?];
    if options.go.exists() {
        let mut go = Command::new(&options.go);
        let (driver, source) = source(url)?;
        go.args([&format!("127.0.0.1:{two}"), driver, &source]);
        programs.push(launch("go", go, two, folder)?);
    }
    programs.push(Program::Raw(Raw::new(url, options.clients)?));
    Ok(programs)
}

fn import(url: &str, options: &Options, folder: &Path) -> Result<(), Failure> {
    let mut table = "name,email\n".to_owned();
    for n in 0..USERS {
        writeln!(table, "user-{n},u{n}@example.com")?;
    }
    let file = folder.join("users.csv");
    std::fs::write(&file, table)?;
    let imported = Command::new(&options.userlist).args(["--database-url", url, "import"]).arg(file).output()?;
    if imported.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&imported.stderr).into()) }
}

fn launch(name: &'static str, mut command: Command, port: u16, folder: &Path) -> Result<Program, Failure> {
    let process = Process::start(&mut command, &folder.join(format!("{name}-{port}.log")))?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let until = Instant::now() + Duration::from_secs(10);
    while traffic::run(address, Case::Get, 1, Duration::from_millis(1)).is_ok_and(|done| done.latencies_us.is_empty()) {
        if Instant::now() > until {
            return Err(process.output().into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(Program::Http { name, address, process })
}

/// The driver and the data source of Go for a URL of ours.
fn source(url: &str) -> Result<(&'static str, String), Failure> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return Ok(("sqlite3", format!("file:{file}?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000")));
    }
    let url = Url::parse(url)?;
    let password = percent_decode_str(url.password().unwrap_or_default()).decode_utf8()?;
    let user = url.username();
    let host = url.host_str().unwrap_or_default();
    let port = url.port().unwrap_or(3306);
    Ok(("mysql", format!("{user}:{password}@tcp({host}:{port}){}", url.path())))
}

// === impl Program ===

impl Program {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Raw(_) => "raw",
            Self::Http { name, .. } => name,
        }
    }

    /// Processor time since its start.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let id = match self {
            Self::Raw(_) => std::process::id(),
            Self::Http { process, .. } => process.id(),
        };
        Ok(Cost::of(id)?.cpu)
    }

    /// Warms up, says that it begins, and loads it.
    pub(crate) fn load(
        &self,
        case: Case,
        clients: usize,
        duration: Duration,
        begin: &mut dyn FnMut() -> Result<(), Failure>,
    ) -> Result<Answered, Failure> {
        let run = |duration| match self {
            Self::Raw(raw) => raw.run(case, duration),
            Self::Http { address, .. } => traffic::run(*address, case, clients, duration),
        };
        run(WARM_UP)?;
        begin()?;
        run(duration)
    }
}
