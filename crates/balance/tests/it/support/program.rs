use std::{net::SocketAddr, path::Path, process::Command};

use nix::sys::signal::Signal;
use testkit::{
    process::Process,
    wait::{SOON, wait_for},
};

use super::{Answer, Client};

/// The program `balance` as a process.
#[derive(Debug)]
pub(crate) struct Program {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Starts it with these options on free ports, logging into `folder`, and waits until it serves.
    pub(crate) async fn start(folder: &Path, etcd_endpoint: &str, options: &[&str]) -> Self {
        let log = tempfile::NamedTempFile::new_in(folder).unwrap().into_temp_path().keep().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance"));
        command.env_clear().env("LOG_FORMAT", "json").env("ETCD_ENDPOINTS", etcd_endpoint);
        let is_given = |option: &str| options.iter().any(|given| given.starts_with(option));
        if !is_given("--listen=") {
            command.arg("--listen=127.0.0.1:0");
        }
        command.arg("--admin-listen=127.0.0.1:0").args(options);
        let process = Process::start(&mut command, &log).unwrap();
        let (address, admin) = wait_for("the program to serve", SOON, || {
            let output = process.output();
            async move { output.lines().find_map(addresses) }
        })
        .await;
        Self { process, address, admin }
    }

    /// `GET target` from a user.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        get(self.address, target).await
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap().count()
    }

    /// `GET target` on the admin side, as JSON.
    pub(crate) async fn admin(&self, target: &str) -> serde_json::Value {
        serde_json::from_slice(&get(self.admin, target).await.body).unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.text()
    }

    pub(crate) async fn readiness(&self) -> Answer {
        get(self.admin, "/readyz").await
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGTERM; its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.ask_to_end();
        self.wait()
    }

    /// Sends SIGTERM.
    pub(crate) fn ask_to_end(&mut self) {
        assert!(self.process.signal(Signal::SIGTERM), "it ended before: {}", self.output());
    }

    /// Its exit code, when it has ended.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.process.wait(SOON).expect("an end soon").code()
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }
}

/// `GET target` on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

/// The two addresses in the log line that says where it serves.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| event[name].as_str()?.parse().ok();
    (event["message"] == "serving").then_some((address("address")?, address("admin")?))
}
