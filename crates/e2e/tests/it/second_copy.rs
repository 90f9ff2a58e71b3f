//! A second copy of a program on a port that the first one has: in a restart loop, and when it is meant to take over.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use e2e::binaries;
use nix::sys::signal::Signal;
use reqwest::{Client, StatusCode};
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};
use tokio::task::JoinHandle;

/// Enough for several starts of the second copy.
const REQUESTS: usize = 150;
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// etcd, a registry, a gateway; and sidecars that announce a program on one port.
struct Stage {
    /// Ends with this.
    _etcd: EtcdCluster,
    parts: Vec<Process>,
    registry: String,
    gateway: SocketAddr,
    port: u16,
    folder: tempfile::TempDir,
    client: Client,
}

/// A task that ends with this.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stage {
    async fn set() -> Self {
        let etcd = EtcdCluster::start(1).await;
        let ports = free_ports(4);
        let [registry, gateway, admin] = [0, 1, 2].map(|n| SocketAddr::from(([127, 0, 0, 1], ports[n])));
        let folder = tempfile::tempdir().unwrap();
        let client = Client::builder().pool_max_idle_per_host(0).timeout(SOON).build().unwrap();
        let registry_url = format!("http://{registry}");
        let endpoints = etcd.endpoints().join(",");
        let mut stage =
            Self { parts: Vec::new(), registry: registry_url, gateway, port: ports[3], folder, client, _etcd: etcd };
        for (name, listen) in [("registry", registry), ("balance", gateway)] {
            let variable = format!("{}_LISTEN", name.to_uppercase());
            let mut command = Command::new(binaries::find(name));
            command.env_clear().env("ETCD_ENDPOINTS", &endpoints).env(variable, listen.to_string());
            command.env("BALANCE_ADMIN_LISTEN", admin.to_string()).env("REGISTRY_DNS_LISTEN", "off");
            let output = stage.output(name);
            stage.parts.push(Process::start(&mut command, &output).unwrap());
        }
        stage
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.output(name)).unwrap_or_default()
    }

    /// A sidecar around a web server that says `name`.
    fn sidecar(&self, name: &str, options: &[&str]) -> (Command, PathBuf) {
        let folder = self.folder.path().join(name);
        let port = self.port.to_string();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("index.html"), name).unwrap();
        let mut command = Command::new(binaries::find("heartbeat"));
        command.env_clear().env("CHECK_INTERVAL", "100ms").env("PATH", std::env::var_os("PATH").unwrap());
        command.args(["--registry", &self.registry, "--service", "web", "--host", "127.0.0.1", "--port", &port]);
        command.args(options).args(["--", "python3", "-m", "http.server", &port, "--bind", "127.0.0.1"]);
        command.arg("--directory").arg(folder);
        (command, self.output(name))
    }

    fn run(&self, name: &str, options: &[&str]) -> Process {
        let (mut command, output) = self.sidecar(name, options);
        Process::start(&mut command, &output).unwrap()
    }

    /// Starts it again and again, as a supervisor does, until the handle is dropped.
    fn run_again_and_again(&self, name: &str, options: &[&str]) -> AbortOnDrop {
        let (mut command, output) = self.sidecar(name, options);
        AbortOnDrop(tokio::spawn(async move {
            loop {
                let mut process = Process::start(&mut command, &output).unwrap();
                while process.is_running() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }))
    }

    async fn get(&self) -> (StatusCode, String) {
        match self.client.get(format!("http://{}/web/", self.gateway)).send().await {
            Ok(response) => (response.status(), response.text().await.unwrap_or_default()),
            Err(error) => (StatusCode::IM_A_TEAPOT, error.to_string()),
        }
    }

    async fn answers_by(&self, name: &str) {
        wait_until(&format!("an answer of {name}"), SOON, async || self.get().await == (StatusCode::OK, name.into()))
            .await;
    }

    /// What was no answer of `name` among so many requests.
    async fn others_than(&self, name: &str) -> Vec<(StatusCode, String)> {
        let mut others = Vec::new();
        for _ in 0..REQUESTS {
            let answer = self.get().await;
            if answer != (StatusCode::OK, name.to_owned()) {
                others.push(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        others
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_in_a_restart_loop_takes_no_request_from_the_first() {
    // It waits for the port; or is told to share one that the program then cannot have, and ends again and again.
    let cases: [(&[&str], &str); 2] =
        [(&[], "the port is taken"), (&["--listeners", "shared"], "the program has ended")];
    for (options, says) in cases {
        let stage = Stage::set().await;
        let _first = stage.run("first", &[]);
        stage.answers_by("first").await;
        let _second = stage.run_again_and_again("second", options);
        let others = stage.others_than("first").await;
        assert!(others.is_empty(), "{} of {REQUESTS} with {options:?}: {others:?}", others.len());
        let log = stage.log("second");
        assert!(log.contains(says), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_waits_for_the_port_takes_over_when_the_first_ends() {
    let stage = Stage::set().await;
    let mut first = stage.run("first", &["--let-go", "0s"]);
    stage.answers_by("first").await;
    let _second = stage.run("second", &[]);
    wait_until("the second copy to wait", SOON, async || stage.log("second").contains("the port is taken")).await;
    first.signal(Signal::SIGTERM);
    stage.answers_by("second").await;
}
