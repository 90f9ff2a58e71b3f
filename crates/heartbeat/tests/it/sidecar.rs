//! The real sidecar process, with a registry, a folder and a program of its own.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use testkit::{
    process::Process,
    wait::{SOON, wait_for, wait_until},
};

use crate::fake_registry::FakeRegistry;

/// A sidecar and what it works with.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) process: Process,
    pub(crate) registry: FakeRegistry,
    folder: Folder,
}

/// The sidecar's working folder, through which programs and checks talk to the test.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

// === impl Folder ===

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn create(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }
}

// === impl Sidecar ===

impl Sidecar {
    /// Announces `web` at 127.0.0.1 and a port of its own, if the options name none, with these options and, behind
    /// `--`, this program run by `sh -c` in the folder.
    pub(crate) fn start(folder: Folder, options: &[&str], script: Option<&str>) -> Self {
        Self::everywhere(folder, &[&["--host", "127.0.0.1"], options].concat(), script)
    }

    /// The same, for a program that may listen on any address.
    pub(crate) fn everywhere(folder: Folder, options: &[&str], script: Option<&str>) -> Self {
        let registry = FakeRegistry::start();
        let mut command = command(folder.0.path(), &registry.url());
        command.args(["--service", "web"]).args(options);
        if !options.contains(&"--port") {
            command.args(["--port", &free_port()]);
        }
        if let Some(script) = script {
            command.args(["--", "sh", "-c", script]);
        }
        let process = Process::start(&mut command, &folder.path("output")).unwrap();
        Self { process, registry, folder }
    }

    /// One whose check passes from the start.
    pub(crate) fn passing(options: &[&str], script: &str) -> Self {
        Self::start(Folder::new(), &[&["--check-cmd", "true"], options].concat(), Some(script))
    }

    pub(crate) fn create(&self, name: &str) {
        self.folder.create(name);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.folder.remove(name);
    }

    /// When the file was written last.
    pub(crate) async fn written(&self, name: &str) -> SystemTime {
        let path = self.folder.path(name);
        wait_for(name, SOON, || async { fs::metadata(&path).ok()?.modified().ok() }).await
    }

    /// What is in the file, if it is there.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path(name)).ok()
    }

    /// The process id that a program has written, with a line end, into the file.
    pub(crate) async fn pid(&self, name: &str) -> Pid {
        let path = self.folder.path(name);
        wait_for(name, SOON, || async {
            let text = fs::read_to_string(&path).ok()?;
            Some(Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?))
        })
        .await
    }

    pub(crate) async fn prints(&self, text: &str) {
        wait_until(text, SOON, || async { self.process.output().contains(text) }).await;
    }

    /// Its exit code; the failure shows what it printed.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = tokio::task::block_in_place(|| self.process.wait(SOON));
        let output = self.process.output();
        status.unwrap_or_else(|| panic!("it does not end; it printed\n{output}")).code().unwrap()
    }
}

/// The sidecar in `folder`, without the test's own environment.
pub(crate) fn command(folder: &Path, registry: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartbeat"));
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH")).current_dir(folder);
    command.env("CHECK_INTERVAL", "100ms").env("CHECK_TIMEOUT", "5s").args(["--registry", registry]);
    command
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> String {
    testkit::ports::free_ports(1)[0].to_string()
}

/// A port of 127.0.0.1 that accepts connections until it is dropped.
pub(crate) fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

pub(crate) async fn wait_until_gone(pid: Pid) {
    wait_until("the process to be gone", SOON, || async { kill(pid, None::<Signal>).is_err() }).await;
}

/// A field of `/proc/PID/status`, as a number.
pub(crate) fn proc_status(pid: Pid, field: &str) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}
