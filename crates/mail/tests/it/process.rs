//! The program itself, started by a test.

use std::{path::Path, process::Command};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    process::Process,
    wait::{SOON, wait_for},
};

/// Whether a file system of its own can be made for a test, a tmpfs in a mount namespace. The kernel grants that to
/// root and usually to anybody; where it does not, the test says that it is skipped.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn may_mount(test: &str) -> bool {
    let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/tmp"]).output();
    let may = allowed.is_ok_and(|output| output.status.success());
    if !may {
        println!("SKIPPED {test}: no mount namespace can be made here (unshare -rm)");
    }
    may
}

/// A running `mail` on a free port.
pub(crate) struct Program {
    pub(crate) process: Process,
    pub(crate) url: String,
    client: reqwest::Client,
    _dir: TempDir,
}

impl Program {
    /// Starts it with these options; by default it knows no registry.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
        command.args(args);
        Self::start_as(&mut command).await
    }

    /// Starts whatever ends up being `mail`.
    pub(crate) async fn start_as(command: &mut Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        command
            .env("MAIL_LISTEN", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .env("MAIL_OPEN", "true")
            // Port 1 refuses connections.
            .env("REGISTRY_URLS", "http://127.0.0.1:1")
            .current_dir(dir.path());
        for (name, value) in [("RUST_LOG", "info"), ("LET_GO", "0s")] {
            if !command.get_envs().any(|(set, _)| set == name) {
                command.env(name, value);
            }
        }
        let process = Process::start(command, &dir.path().join("output")).unwrap();
        let address = wait_for("listening", SOON, || async { listening(&process.output()) }).await;
        Self { process, url: format!("http://{address}"), client: reqwest::Client::new(), _dir: dir }
    }

    pub(crate) async fn send(&self) -> (u16, Value) {
        self.post(&json!({ "address": "a@b.c", "message": "hello" })).await
    }

    pub(crate) async fn post(&self, body: &Value) -> (u16, Value) {
        let response = self.client.post(&self.url).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Ends it by SIGTERM and returns its exit code.
    pub(crate) async fn terminate(mut self) -> (Option<i32>, String) {
        assert!(self.process.signal(Signal::SIGTERM));
        self.exit_code().await
    }

    pub(crate) async fn exit_code(mut self) -> (Option<i32>, String) {
        tokio::task::spawn_blocking(move || {
            let status = self.process.wait(SOON).expect("an orderly end is bounded in time");
            (status.code(), self.process.output())
        })
        .await
        .unwrap()
    }

    /// Its own view of `path`, for one that runs in a mount namespace of its own.
    pub(crate) fn its_path(&self, path: &Path) -> std::path::PathBuf {
        Path::new(&format!("/proc/{}/root", self.process.id())).join(path.strip_prefix("/").unwrap())
    }
}

fn listening(output: &str) -> Option<String> {
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["message"] == "listening")?;
    line["address"].as_str().map(str::to_owned)
}
