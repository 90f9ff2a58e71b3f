//! What faults are tried on: three etcd members, two registries, three test instances, one gateway, all real processes.
//!
//! Each part keeps its port and its files for its life, so that it can be killed and started again.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use reqwest::Client;
use serde_json::Value;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

use crate::{
    binaries,
    fault_row::FaultRow,
    scale::Scale,
    table_watch::TableWatch,
    users::{Answer, Users},
};

/// The parts beside etcd, in the order in which they are started.
pub const PARTS: [&str; 6] =
    ["registry-1", "registry-2", "test-instance-1", "test-instance-2", "test-instance-3", "balance"];
/// The instances of the service under load.
pub const TEST_INSTANCES: [&str; 3] = ["test-instance-1", "test-instance-2", "test-instance-3"];

/// Everything that runs; it ends with this value.
#[derive(Debug)]
pub struct FaultSuite {
    /// The etcd cluster.
    pub etcd: EtcdCluster,
    /// For asking admin sides and registries.
    pub client: Client,
    /// How much is tried.
    pub scale: Scale,
    parts: BTreeMap<&'static str, Part>,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Part {
    listen: SocketAddr,
    environment: Vec<(&'static str, String)>,
    output: PathBuf,
    process: Option<Process>,
}

// === impl FaultSuite ===

impl FaultSuite {
    /// Starts everything and waits until the gateway sends requests to all three test instances.
    pub async fn start() -> Self {
        Self::with(|_| Vec::new()).await
    }

    /// The same with more environment variables for some parts.
    pub async fn with(more: impl Fn(&str) -> Vec<(&'static str, String)>) -> Self {
        let mut fault_suite = Self::prepare(EtcdCluster::start(3).await, more);
        fault_suite.run_all().await;
        fault_suite
    }

    /// Starts every part and waits until the gateway sends requests to all three test instances.
    pub async fn run_all(&mut self) {
        for name in PARTS {
            self.run(name);
        }
        self.all_in_rotation().await;
    }

    /// Settles ports and configuration, and starts nothing but etcd.
    ///
    /// # Panics
    ///
    /// When there is no temporary folder.
    #[must_use]
    pub fn prepare(etcd: EtcdCluster, more: impl Fn(&str) -> Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(PARTS.len() + 1).into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let addresses: Vec<SocketAddr> = ports.collect();
        let admin = addresses[PARTS.len()];
        let registries = format!("http://{},http://{}", addresses[0], addresses[1]);
        let endpoints = etcd.endpoints().join(",");
        let file = |name: String| folder.path().join(name);
        let part = |(name, listen): (&'static str, SocketAddr)| {
            let mut environment = vec![("LOG_FORMAT", "text".to_owned()), ("RUST_LOG", "info".to_owned())];
            environment.extend(match kind(name) {
                "registry" => vec![("REGISTRY_LISTEN", listen.to_string()), ("ETCD_ENDPOINTS", endpoints.clone())],
                "test-instance" => vec![
                    ("TEST_INSTANCE_LISTEN", listen.to_string()),
                    ("TEST_INSTANCE_RECORD", file(format!("{name}.record")).display().to_string()),
                    ("INSTANCE_ID", name.to_owned()),
                    ("REGISTRY_URLS", registries.clone()),
                ],
                _ => vec![
                    ("BALANCE_LISTEN", listen.to_string()),
                    ("BALANCE_ADMIN_LISTEN", admin.to_string()),
                    ("BALANCE_SNAPSHOT_FILE", file("table.json".to_owned()).display().to_string()),
                    ("ETCD_ENDPOINTS", endpoints.clone()),
                ],
            });
            // The last one of a name counts.
            environment.extend(more(name));
            (name, Part { listen, environment, output: file(format!("{name}.log")), process: None })
        };
        let parts = PARTS.into_iter().zip(addresses.iter().copied()).map(part).collect();
        let client = Client::builder().timeout(Duration::from_secs(5)).build();
        let client = client.expect("a client without TLS needs nothing");
        Self { etcd, client, scale: Scale::chosen(), parts, admin, folder }
    }

    /// Starts the part `name` (again).
    ///
    /// # Panics
    ///
    /// When its program is not built.
    pub fn run(&mut self, name: &'static str) {
        let part = self.part(name);
        let mut command = Command::new(binaries::find(&kind(name).replace('-', "_")));
        command.env_clear().envs(part.environment.iter().map(|(name, value)| (*name, value)));
        part.process = Some(Process::start(&mut command, &part.output).expect("a program that was built starts"));
    }

    /// Ends the part `name` at once; when that was.
    pub fn kill(&mut self, name: &str) -> Instant {
        let at = Instant::now();
        self.process(name).kill();
        at
    }

    /// Sends a signal to the part `name`; when that was.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&mut self, name: &str, signal: Signal) -> Instant {
        assert!(self.process(name).signal(signal), "{name} must be running:\n{}", self.output(name));
        Instant::now()
    }

    /// Asks the part `name` to end, and waits for that.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or not in order.
    pub async fn terminate(&mut self, name: &str) {
        self.signal(name, Signal::SIGTERM);
        let deadline = Instant::now() + SOON;
        let status = loop {
            match self.process(name).wait(Duration::ZERO) {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "{name} must end on SIGTERM:\n{}", self.output(name)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert!(status.success(), "{name} must end in order, but: {status}\n{}", self.output(name));
    }

    /// Whether the part `name` still runs.
    pub fn is_running(&mut self, name: &str) -> bool {
        self.process(name).is_running()
    }

    /// The process id of the part `name`.
    pub fn id(&mut self, name: &str) -> u32 {
        self.process(name).id()
    }

    /// Where the part `name` listens.
    #[must_use]
    pub fn address(&self, name: &str) -> SocketAddr {
        self.parts[name].listen
    }

    /// What the part `name` has logged.
    #[must_use]
    pub fn output(&self, name: &str) -> String {
        std::fs::read_to_string(&self.parts[name].output).unwrap_or_default()
    }

    /// Users of the gateway, at the rate of the [`Scale`]; returns when they have been at it for a second.
    pub async fn users(&self) -> Users {
        let per_second = self.scale.per_second(self.address("balance")).await;
        let users = Users::start(self.address("balance"), per_second);
        self.pass(Duration::from_secs(1)).await;
        users
    }

    /// Lets time pass: the load is what goes on meanwhile.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Stops the users and makes the row of what they noticed.
    #[must_use]
    pub fn row(&self, fault: &str, users: Users) -> FaultRow {
        self.row_of(fault, users.stop())
    }

    /// The row of `answers`.
    #[must_use]
    pub fn row_of(&self, fault: &str, answers: Vec<Answer>) -> FaultRow {
        let records = TEST_INSTANCES.map(|name| self.folder.path().join(format!("{name}.record")));
        let text: String = records.iter().map(|record| std::fs::read_to_string(record).unwrap_or_default()).collect();
        let number = |line: &str| line.split_once(' ')?.1.parse().ok();
        FaultRow::new(fault, self.scale, answers, text.lines().filter_map(number))
    }

    /// Watches over the test instances in the gateway's table.
    #[must_use]
    pub fn table_watch(&self) -> TableWatch {
        TableWatch::start(
            self.client.clone(),
            format!("http://{}/v1/table", self.admin),
            "test-instance",
            &TEST_INSTANCES,
        )
    }

    /// Where the admin side has `path`.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// What the admin side says at `path`; `None` when it does not answer.
    pub async fn admin(&self, path: &str) -> Option<Value> {
        let response = self.client.get(format!("http://{}{path}", self.admin)).send().await.ok()?;
        response.json().await.ok()
    }

    /// The gateway's metrics, as text; `None` when its admin side does not answer.
    pub async fn metrics(&self) -> Option<String> {
        self.client.get(format!("http://{}/metrics", self.admin)).send().await.ok()?.text().await.ok()
    }

    /// What the gateway does with the test instance `name`: `in_rotation`, `ejected`, …; `None` when it does not know
    /// it.
    pub async fn decision(&self, name: &str) -> Option<String> {
        let table = self.admin("/v1/table").await?;
        let instances = table["services"]["test-instance"]["instances"].as_array()?;
        let is_it = |instance: &&Value| instance["key"].as_str().is_some_and(|key| key.ends_with(name));
        instances.iter().find(is_it).and_then(|instance| instance["decision"].as_str()).map(str::to_owned)
    }

    /// Waits until the test instance `name` is in rotation, or is not; how long that took since `since`. `None`: longer
    /// than `limit`.
    pub async fn in_rotation(&self, name: &str, wanted: bool, since: Instant, limit: Duration) -> Option<Duration> {
        while since.elapsed() < limit {
            if (self.decision(name).await.as_deref() == Some("in_rotation")) == wanted {
                return Some(since.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Waits until all three test instances are in rotation.
    pub async fn all_in_rotation(&self) {
        for name in TEST_INSTANCES {
            wait_until(&format!("{name} in rotation"), SOON, async || {
                self.decision(name).await.as_deref() == Some("in_rotation")
            })
            .await;
        }
    }

    /// Waits until a registry lists all three test instances; how long that took since `since`, `None`: longer than
    /// `limit`.
    pub async fn all_registered(&self, since: Instant, limit: Duration) -> Option<Duration> {
        let url = format!("http://{}/v1/services/test-instance/instances", self.address("registry-1"));
        while since.elapsed() < limit {
            if let Ok(response) = self.client.get(&url).send().await
                && let Ok(body) = response.json::<Value>().await
                && body["instances"].as_array().is_some_and(|instances| instances.len() == TEST_INSTANCES.len())
            {
                return Some(since.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    fn part(&mut self, name: &str) -> &mut Part {
        self.parts.get_mut(name).expect("a part that PARTS names")
    }

    fn process(&mut self, name: &str) -> &mut Process {
        self.part(name).process.as_mut().expect("a part that was started")
    }
}

fn kind(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(kind, _)| kind)
}
