//! A `muster up` with stand-ins for the services.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::{process::Process, wait::wait_until};

/// How long a suite may take to start or to stop while other tests start theirs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Everything of one test: the folder of programs, the data, and `muster` while it runs.
pub(crate) struct Suite {
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    muster: Option<Process>,
    runs: usize,
}

impl Suite {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("muster-").tempdir().unwrap();
        let programs = dir.path().join("bin");
        std::fs::create_dir(&programs).unwrap();
        let fake = Path::new(env!("CARGO_BIN_EXE_muster")).with_file_name("examples").join("fake_service");
        assert!(fake.is_file(), "{} is not built; cargo test and cargo nextest do that", fake.display());
        for name in ["registry", "balance", "mail", "userlist"] {
            std::os::unix::fs::symlink(&fake, programs.join(name)).unwrap();
        }
        Self { dir, arguments: Vec::new(), environment: Vec::new(), muster: None, runs: 0 }
    }

    /// Adds an option for `muster up`.
    pub(crate) fn with(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Takes the options back.
    pub(crate) fn without_options(&mut self) {
        self.arguments.clear();
    }

    /// Sets a variable for `muster up`.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes a stand-in misbehave, or behave again; see `fake_service`.
    pub(crate) fn misbehave(&self, how: &str, does: bool) {
        let file = self.dir.path().join(how);
        if does { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    /// A command with everything but its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        let variables = self.environment.iter().map(|(name, value)| (name, value));
        command.current_dir(self.dir.path()).env("FAKE_DIR", self.dir.path()).envs(variables);
        command
    }

    /// `muster up`, to be run by the test itself.
    pub(crate) fn up(&self) -> Command {
        let mut command = self.command();
        command.args(["up", "--bin-dir", "bin"]).args(&self.arguments);
        command
    }

    /// Starts `muster up` without waiting for anything.
    pub(crate) fn start(&mut self) {
        self.runs += 1;
        let mut command = self.up();
        self.muster = Some(Process::start(&mut command, &self.log()).unwrap());
    }

    /// The same through `nohup`, for a user who logs out.
    pub(crate) fn start_with_nohup(&mut self) {
        self.runs += 1;
        let up = self.up();
        let mut command = Command::new("nohup");
        command.arg(up.get_program()).args(up.get_args()).current_dir(self.folder()).env("FAKE_DIR", self.folder());
        self.muster = Some(Process::start(&mut command, &self.log()).unwrap());
    }

    /// Starts `muster up` and waits until everything is ready.
    pub(crate) async fn start_and_wait(&mut self) {
        self.start();
        self.wait_for("the suite to be ready", |state| state["phase"] == "ready").await;
    }

    /// Waits until `muster.json` of this very run says what is wanted.
    pub(crate) async fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let muster = self.muster.as_mut().expect("a suite that was started");
        let pid = muster.id();
        let data = self.dir.path().join("data");
        let log = muster;
        let deadline = std::time::Instant::now() + LONG;
        loop {
            let state = read_state(&data);
            if state["muster"]["pid"] == pid && wanted(&state) {
                return;
            }
            assert!(
                log.is_running() && std::time::Instant::now() < deadline,
                "waited for {what}, but it is {state:#}\n{}",
                log.output()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `muster.json` says.
    pub(crate) fn state(&self) -> Value {
        read_state(&self.data())
    }

    /// What it says about one process.
    pub(crate) fn process(&self, name: &str) -> Value {
        process(&self.state(), name).clone()
    }

    /// The process id of a process.
    pub(crate) fn pid(&self, name: &str) -> i32 {
        let process = self.process(name);
        process["pid"].as_i64().unwrap_or_else(|| panic!("{name} does not run: {process}")) as i32
    }

    /// The process ids of everything that runs.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let state = self.state();
        let processes = state["processes"].as_array().unwrap();
        processes.iter().filter_map(|process| process["pid"].as_i64()).map(|pid| pid as i32).collect()
    }

    /// Sends a signal to `muster`.
    pub(crate) fn signal(&mut self, signal: Signal) {
        assert!(self.muster.as_mut().unwrap().signal(signal), "muster must still run");
    }

    /// Kills `muster` itself, as the kernel would when memory is short.
    pub(crate) fn kill(&mut self) {
        self.muster.as_mut().unwrap().kill();
    }

    /// Asks `muster` to end, and waits for that.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits for the end of `muster`.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let muster = self.muster.as_mut().unwrap();
        let status = tokio::task::block_in_place(|| muster.wait(LONG));
        status.unwrap_or_else(|| panic!("muster must end\n{}", muster.output()))
    }

    /// What this run has printed so far.
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// What happened to the stand-ins, one line each.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = std::fs::read_to_string(self.dir.path().join("events")).unwrap_or_default();
        events.lines().map(str::to_owned).collect()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder of this test.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The first etcd member's address as the start of a URL.
    pub(crate) fn etcd(&self) -> String {
        self.state()["etcd_endpoints"][0].as_str().unwrap().to_owned()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("muster-{}.log", self.runs))
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let Some(muster) = &mut self.muster else { return };
        // Twice is at once; what then still runs ends with it.
        if muster.signal(Signal::SIGTERM) && muster.wait(Duration::from_secs(20)).is_none() {
            muster.signal(Signal::SIGTERM);
            muster.wait(Duration::from_secs(5));
        }
    }
}

/// What `state` says about the process `name`.
pub(crate) fn process<'a>(state: &'a Value, name: &str) -> &'a Value {
    let processes = state["processes"].as_array().unwrap();
    processes.iter().find(|process| process["name"] == name).unwrap_or_else(|| panic!("no {name} in {state:#}"))
}

/// Waits until none of these processes runs any more.
pub(crate) async fn wait_until_gone(pids: &[i32]) {
    wait_until(&format!("the end of the processes {pids:?}"), LONG, async || !pids.iter().any(|pid| runs(*pid))).await;
}

/// Whether a process runs. A zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(Pid::from_raw(pid), None).is_ok() && !stat.contains(") Z ")
}

fn read_state(data: &Path) -> Value {
    let bytes = std::fs::read(data.join("muster.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
