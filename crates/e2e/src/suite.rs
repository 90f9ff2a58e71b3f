//! The whole suite on loopback: three etcd members, two registries, two of each service, the gateway.
//!
//! Every part keeps its port for its life, so that it can be killed and started again as an operator would. Nothing is
//! started by [`Suite::prepare`], because the order in which parts start is one of the things under test.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_for, wait_until},
};

use crate::binaries;

/// The parts beside etcd, by name, in the order in which a person would start them.
pub const PARTS: [&str; 7] = ["registry-1", "registry-2", "mail-1", "mail-2", "userlist-1", "userlist-2", "balance"];

/// A suite; everything that runs ends with it.
#[derive(Debug)]
pub struct Suite {
    /// The etcd cluster; its members can be killed, stopped and frozen one by one.
    pub etcd: EtcdCluster,
    /// Asks without keeping connections for longer than a test's next step.
    pub client: Client,
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

/// An answer of the gateway, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its `Retry-After`, where there is one.
    pub retry_after: Option<String>,
    /// Its body; `null` when it is not JSON.
    pub body: Value,
}

// === impl Suite ===

impl Suite {
    /// Starts three etcd members, and settles ports and configuration of everything else without starting it.
    pub async fn prepare() -> Self {
        let etcd = EtcdCluster::start(3).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let addresses: Vec<SocketAddr> =
            free_ports(PARTS.len() + 1).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let registries = format!("http://{},http://{}", addresses[0], addresses[1]);
        let endpoints = etcd.endpoints().join(",");
        let gateway = format!("http://{}", addresses[PARTS.len() - 1]);
        let part = |(name, listen): (&'static str, SocketAddr)| {
            let mut environment = vec![("LOG_FORMAT", "text".to_owned()), ("RUST_LOG", "info".to_owned())];
            environment.extend(match kind(name) {
                "registry" => {
                    vec![("REGISTRY_LISTEN", listen.to_string()), ("ETCD_ENDPOINTS", endpoints.clone())]
                }
                "mail" => vec![
                    ("MAIL_LISTEN", listen.to_string()),
                    ("REGISTRY_URLS", registries.clone()),
                    ("MAIL_DIR", path(&folder, "mail")),
                    ("MAIL_OUTBOX_URL", format!("sqlite:{}", path(&folder, "outbox.db"))),
                    ("MAIL_GATEWAY_URL", gateway.clone()),
                    ("MAIL_PUBLIC_URL", format!("{gateway}/mail")),
                ],
                "userlist" => vec![
                    ("USERLIST_LISTEN", listen.to_string()),
                    ("REGISTRY_URLS", registries.clone()),
                    ("USERLIST_DATABASE_URL", format!("sqlite:{}", path(&folder, "userlist.db"))),
                ],
                _ => vec![
                    ("BALANCE_LISTEN", listen.to_string()),
                    ("BALANCE_ADMIN_LISTEN", addresses[PARTS.len()].to_string()),
                    ("BALANCE_SNAPSHOT_FILE", path(&folder, "table.json")),
                    ("ETCD_ENDPOINTS", endpoints.clone()),
                ],
            });
            let output = folder.path().join(format!("{name}.log"));
            (name, Part { listen, environment, output, process: None })
        };
        let parts = PARTS.into_iter().zip(addresses.iter().copied()).map(part).collect();
        let client = Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(20)).build();
        let client = client.expect("a client without TLS needs nothing");
        Self { etcd, client, parts, admin: addresses[PARTS.len()], folder }
    }

    /// Sets an environment variable of the part `name`, for when it is started (again).
    ///
    /// # Panics
    ///
    /// There is no such part.
    pub fn set(&mut self, name: &str, variable: &'static str, value: &str) {
        let part = self.parts.get_mut(name).expect("a part that PARTS names");
        part.environment.push((variable, value.to_owned()));
    }

    /// Starts everything and waits until both services answer through the gateway from both instances.
    pub async fn start() -> Self {
        let mut suite = Self::prepare().await;
        for name in PARTS {
            suite.run(name);
        }
        suite.wait_until_ready().await;
        suite
    }

    /// Waits until every part is running its full number of instances behind the gateway.
    pub async fn wait_until_ready(&self) {
        self.wait_for_instances("mail", self.running("mail")).await;
        self.wait_for_instances("userlist", self.running("userlist")).await;
        for service in ["mail", "userlist"] {
            wait_until(&format!("{service} answers through the gateway"), SOON, async || {
                self.request(Method::GET, &format!("/{service}/healthz"), None).await.status == StatusCode::OK
            })
            .await;
        }
    }

    /// Waits until exactly `count` instances of `service` are registered and able to work.
    pub async fn wait_for_instances(&self, service: &str, count: usize) {
        wait_until(&format!("{count} instances of {service} that are able to work"), SOON, async || {
            self.instances(service).await.is_some_and(|found| found == count)
        })
        .await;
    }

    /// How many instances of `service` the registry lists as able to work; `None` when it does not answer.
    pub async fn instances(&self, service: &str) -> Option<usize> {
        for registry in ["registry-1", "registry-2"] {
            let url = format!("http://{}/v1/services/{service}/instances", self.address(registry));
            let Ok(response) = self.client.get(url).send().await else { continue };
            let Ok(body) = response.json::<Value>().await else { continue };
            let instances = body["instances"].as_array()?;
            return Some(instances.iter().filter(|instance| instance["status"] == "passing").count());
        }
        None
    }

    /// Starts the part `name` (again), at its own port.
    ///
    /// # Panics
    ///
    /// When its program is not built.
    pub fn run(&mut self, name: &'static str) {
        let part = self.parts.get_mut(name).expect("a part that PARTS names");
        let mut command = Command::new(binaries::find(kind(name)));
        command.env_clear().envs(part.environment.iter().map(|(name, value)| (*name, value)));
        part.process = Some(Process::start(&mut command, &part.output).expect("a program that was built starts"));
    }

    /// Ends the part `name` at once, as the kernel or a power cut would.
    pub fn kill(&mut self, name: &str) {
        self.process(name).kill();
    }

    /// Asks the part `name` to end, and waits for that.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or not in order.
    pub async fn terminate(&mut self, name: &str) {
        assert!(self.process(name).signal(Signal::SIGTERM), "{name} must be running");
        let status = wait_for(&format!("the end of {name}"), SOON, || {
            let status = self.process(name).wait(Duration::ZERO);
            async move { status }
        })
        .await;
        assert!(status.success(), "{name} must end in order, but: {status}\n{}", self.output(name));
    }

    /// Sends a signal to the part `name`.
    pub fn signal(&mut self, name: &str, signal: Signal) {
        assert!(self.process(name).signal(signal), "{name} must be running");
    }

    /// Sends a request through the gateway.
    ///
    /// # Panics
    ///
    /// When the gateway does not answer: it always must.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.gateway()));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        match request.send().await {
            Ok(response) => Answer::read(response).await,
            Err(error) => Answer { status: StatusCode::IM_A_TEAPOT, retry_after: None, body: error.to_string().into() },
        }
    }

    /// What `curl -d BODY localhost:8080/SERVICE` does.
    pub async fn post(&self, service: &str, body: Value) -> Answer {
        self.request(Method::POST, &format!("/{service}"), Some(body)).await
    }

    /// The gateway's address as the start of a URL.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("http://{}", self.address("balance"))
    }

    /// Where everything lies that the parts write; their logs, too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the gateway's admin side listens.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
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

    /// The mails that were sent: the text of each file in the mail folder.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path().join("mail")).into_iter().flatten().flatten();
        let is_mail = |path: &Path| path.extension().is_some_and(|extension| extension == "eml");
        files.map(|file| file.path()).filter(|path| is_mail(path)).flat_map(std::fs::read_to_string).collect()
    }

    fn running(&self, service: &str) -> usize {
        self.parts.iter().filter(|(name, part)| kind(name) == service && part.process.is_some()).count()
    }

    fn process(&mut self, name: &str) -> &mut Process {
        let part = self.parts.get_mut(name).expect("a part that PARTS names");
        part.process.as_mut().expect("a part that was started")
    }
}

// === impl Answer ===

impl Answer {
    async fn read(response: Response) -> Self {
        let status = response.status();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await.unwrap_or_default();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, retry_after, body }
    }
}

fn kind(name: &'static str) -> &'static str {
    name.split_once('-').map_or(name, |(kind, _)| kind)
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}
