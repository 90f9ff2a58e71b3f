//! Three hosts with addresses of their own, as a small team would set them up.
//!
//! | host | etcd, registry | gateway | services |
//! |---|---|---|---|
//! | 10.77.0.1 | yes | yes | `web` in Python behind the sidecar, `mail` |
//! | 10.77.0.2 | yes | yes | `web` in Node.js, which sends its heartbeats itself |
//! | 10.77.0.3 | yes |  | `web` in Python behind the sidecar, `mail` |
//!
//! Everything listens at its usual port. Host 1 is the one that fails, and leads etcd before it does.

use std::{process::Command, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};
use testkit::{
    lan::{Host, Lan},
    process::Process,
    python::python,
    wait::{SOON, wait_for, wait_until},
};

use crate::{binaries, load::Load};

/// `web` in Python; it knows nothing of registries.
const PYTHON: &str = r#"
import http.server, os

class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one write: a response that has begun is never repeated, so nothing may be lost between the two.
    wbufsize = 65536

    def do_GET(self):
        body = b"python\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer((os.environ["HOST"], 8000), Web).serve_forever()
"#;

/// `web` in Node.js, which announces itself in the plain form, at the next registry when one does not answer.
const NODE: &str = r#"
const { HOST, REGISTRY_URLS } = process.env;
const registries = REGISTRY_URLS.split(",");
let at = 0;

async function announce() {
  for (const _ of registries) {
    try {
      const body = JSON.stringify({ name: "web", host: HOST, port: 8000 });
      const signal = AbortSignal.timeout(800);
      const answer = await fetch(registries[at] + "/", { method: "POST", body, signal });
      if (answer.ok) break;
      console.log(registries[at], answer.status, await answer.text());
    } catch (error) {
      console.log(registries[at], String(error));
    }
    at = (at + 1) % registries.length;
  }
  setTimeout(announce, 2000);
}

require("node:http").createServer((_, answer) => answer.end("node\n")).listen(8000, HOST, announce);
"#;

/// Requests a second: enough to have some under way at any time.
const PER_SECOND: u32 = 50;

/// The hosts with all that runs on them; it ends with this value.
#[derive(Debug)]
pub struct ThreeHosts {
    hosts: [Host; 3],
    programs: Vec<Process>,
    client: Client,
    // Its folder holds the hosts' folders.
    _lan: Lan,
}

// === impl ThreeHosts ===

impl ThreeHosts {
    /// Starts everything, and waits until both gateways send requests to every instance and host 1 leads etcd.
    ///
    /// # Errors
    ///
    /// What is not allowed on this machine.
    ///
    /// # Panics
    ///
    /// When a program is missing, or does not come up.
    pub async fn start() -> Result<Self, String> {
        let lan = Lan::enter()?;
        let hosts = [lan.host(1).await?, lan.host(2).await?, lan.host(3).await?];
        let client = Client::builder().timeout(Duration::from_secs(2)).pool_max_idle_per_host(0).build();
        let client = client.expect("a client without TLS needs nothing");
        let mut all = Self { hosts, programs: Vec::new(), client, _lan: lan };
        for number in 1..=3 {
            all.run(number);
        }
        for gateway in 1..=2 {
            all.wait_for_table(gateway, &[1, 2, 3], SOON * 2).await;
        }
        all.lead().await;
        Ok(all)
    }

    /// Kills host `number`: every process on it, and its network.
    pub async fn kill(&mut self, number: usize) {
        self.hosts[number - 1].kill().await;
    }

    /// Starts host `number` again, with everything on it.
    ///
    /// # Panics
    ///
    /// When it does not start this time.
    pub async fn boot(&mut self, number: usize) {
        self.hosts[number - 1].boot().await.expect("a host that was on can be switched on");
        self.run(number);
    }

    /// Cuts the cable of host `number`.
    pub fn cut(&self, number: usize) {
        self.hosts[number - 1].cut();
    }

    /// Mends the cable of host `number`.
    pub fn mend(&self, number: usize) {
        self.hosts[number - 1].mend();
    }

    /// Users of the gateway of host `number`, who ask `web` and `mail` in turn.
    ///
    /// # Panics
    ///
    /// Never: the addresses are sound.
    #[must_use]
    pub fn users(&self, number: usize) -> Load {
        let gateway = format!("http://{}:8080", self.hosts[number - 1].address());
        Load::start(PER_SECOND, move |client, n| {
            let path = if n % 2 == 0 { "web/" } else { "mail/healthz" };
            client.get(format!("{gateway}/{path}")).build().expect("a sound URL")
        })
    }

    /// Waits until the users have gone on for `seconds` more.
    pub async fn pass(&self, users: &Load, seconds: usize) {
        let until = users.count() + seconds * PER_SECOND as usize;
        wait_until("the users to go on", SOON * 2, async || users.count() >= until).await;
    }

    /// Waits until the gateway of host `gateway` sends requests to the instances on these hosts and to no others, and
    /// the registry there lists just these.
    pub async fn wait_for_table(&self, gateway: usize, on: &[usize], limit: Duration) {
        let expected = |service: &str| -> Vec<String> {
            let runs = |number: &&usize| service == "web" || **number != 2;
            let port = if service == "web" { 8000 } else { 7070 };
            on.iter().filter(runs).map(|number| format!("{}:{port}", self.hosts[number - 1].address())).collect()
        };
        for service in ["web", "mail"] {
            let what = format!("{:?} of {service} at host {gateway}", expected(service));
            wait_until(&what, limit, async || {
                self.in_rotation(gateway, service).await.as_ref() == Some(&expected(service))
                    && self.registered(gateway, service).await.as_ref() == Some(&expected(service))
            })
            .await;
        }
    }

    /// The addresses to which the gateway of host `number` sends requests for `service`.
    async fn in_rotation(&self, number: usize, service: &str) -> Option<Vec<String>> {
        let table = self.get(number, 8081, "v1/table").await?;
        let instances = table["services"][service]["instances"].as_array()?;
        Some(addresses(instances.iter().filter(|one| one["decision"] == "in_rotation").map(|one| &one["instance"])))
    }

    /// The addresses that the registry of host `number` lists for `service`.
    async fn registered(&self, number: usize, service: &str) -> Option<Vec<String>> {
        let list = self.get(number, 8500, &format!("v1/services/{service}/instances")).await?;
        Some(addresses(list["instances"].as_array()?.iter()))
    }

    async fn get(&self, number: usize, port: u16, path: &str) -> Option<Value> {
        let url = format!("http://{}:{port}/{path}", self.hosts[number - 1].address());
        self.client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Hands the lead of etcd to host 1, the one that will fail: an election is part of what a lost host costs.
    async fn lead(&self) {
        wait_for("the lead of etcd at host 1", SOON, async || {
            let status = self.etcd(1, "maintenance/status", json!({})).await?;
            let own = status["header"]["member_id"].clone();
            let leader = status["leader"].clone();
            if own == leader {
                return Some(());
            }
            for other in 2..=3 {
                // Only the leader can; the others refuse.
                self.etcd(other, "maintenance/transfer-leadership", json!({ "targetID": own })).await;
            }
            None
        })
        .await;
    }

    async fn etcd(&self, number: usize, path: &str, body: Value) -> Option<Value> {
        let url = format!("http://{}:2379/v3/{path}", self.hosts[number - 1].address());
        self.client.post(url).json(&body).send().await.ok()?.json().await.ok()
    }

    /// Starts everything that belongs on host `number`.
    fn run(&mut self, number: usize) {
        let host = &self.hosts[number - 1];
        let mut commands = vec![("etcd", self.member(number)), ("registry", self.program(host, "registry"))];
        if number != 3 {
            commands.push(("balance", self.program(host, "balance")));
        }
        commands.push(("web", if number == 2 { self.node(host) } else { self.python(host) }));
        if number != 2 {
            commands.push(("mail", self.program(host, "mail")));
        }
        let start = |(name, mut command): (&str, Command)| {
            let output = host.folder().join(format!("{name}.log"));
            Process::start(&mut command, &output).expect("nsenter can be started")
        };
        let started: Vec<Process> = commands.into_iter().map(start).collect();
        self.programs.extend(started);
    }

    fn member(&self, number: usize) -> Command {
        let host = &self.hosts[number - 1];
        let own = self.hosts[number - 1].address();
        let name = |host: &Host| format!("etcd-{}", host.address());
        let all: Vec<String> =
            self.hosts.iter().map(|host| format!("{}=http://{}:2380", name(host), host.address())).collect();
        let mut command = host.command(testkit::etcd::binary());
        command.args(["--name", &name(host), "--data-dir", "etcd", "--initial-cluster", &all.join(",")]);
        for url in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.arg(url).arg(format!("http://{own}:2380"));
        }
        for url in ["--listen-client-urls", "--advertise-client-urls"] {
            command.arg(url).arg(format!("http://{own}:2379"));
        }
        command
    }

    /// One of our programs with what it has to know on this host; each takes what it understands.
    fn program(&self, host: &Host, name: &str) -> Command {
        let own = host.address();
        let mut command = host.command(binaries::find(name));
        command
            .env("LOG_FORMAT", "text")
            .env("ETCD_ENDPOINTS", self.everywhere(2379))
            .env("REGISTRY_LISTEN", format!("{own}:8500"))
            .env("REGISTRY_DNS_LISTEN", "off")
            .env("BALANCE_LISTEN", format!("{own}:8080"))
            .env("BALANCE_ADMIN_LISTEN", format!("{own}:8081"))
            .env("BALANCE_SNAPSHOT_FILE", "table.json")
            .env("MAIL_LISTEN", format!("{own}:7070"))
            .env("MAIL_DIR", "mail")
            .env("REGISTRY_URLS", self.everywhere(8500));
        command
    }

    fn python(&self, host: &Host) -> Command {
        let mut command = self.program(host, "heartbeat");
        let own = host.address().to_string();
        command.args(["--service", "web", "--host", &own, "--port", "8000", "--"]);
        command.arg(python("python").get_program()).args(["-c", PYTHON]).env("HOST", own);
        command
    }

    fn node(&self, host: &Host) -> Command {
        let mut command = host.command("node");
        command.args(["-e", NODE]).env("HOST", host.address().to_string());
        command.env("REGISTRY_URLS", self.everywhere(8500));
        command
    }

    /// The URLs of this port on all hosts.
    fn everywhere(&self, port: u16) -> String {
        self.hosts.each_ref().map(|host| format!("http://{}:{port}", host.address())).join(",")
    }
}

/// The addresses of instances, sorted.
fn addresses<'a>(instances: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut addresses: Vec<String> =
        instances.filter_map(|instance| instance["address"].as_str()).map(str::to_owned).collect();
    addresses.sort();
    addresses
}
