//! A child process that never outlives its handle, nor the process that started it.

mod group;

use std::{
    fs::File,
    io::{self, PipeReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use group::Group;

/// A running program whose output goes to a file.
///
/// Dropping it thaws it, kills it by its process id and waits for its end, whatever the test did before. What it has
/// started, and not put into another process group, ends then, too, as it does when this very process is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
    _group: Group,
}

// === impl Process ===

impl Process {
    /// Starts `command`, appending what it prints to the file `output`.
    ///
    /// # Errors
    ///
    /// The program is not there or cannot be run, or `output` cannot be written.
    pub fn start(command: &mut Command, output: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Self::spawn(command, output)
    }

    /// Starts `command` with a pipe as its standard error, which only the caller reads, or does not; what else it
    /// prints is appended to the file `output`.
    ///
    /// # Errors
    ///
    /// As [`Process::start`]; or there is no pipe.
    pub fn start_piped(command: &mut Command, output: &Path) -> io::Result<(Self, PipeReader)> {
        let file = File::options().create(true).append(true).open(output)?;
        let (reader, writer) = io::pipe()?;
        let process = Self::spawn(command.stdin(Stdio::null()).stdout(file).stderr(writer), output)?;
        // The command keeps our copy of the pipe's other end, and with it the end of what can be read.
        command.stderr(Stdio::null());
        Ok((process, reader))
    }

    fn spawn(command: &mut Command, output: &Path) -> io::Result<Self> {
        let group = Group::new()?;
        group.take_in(command);
        Ok(Self { child: command.spawn()?, output: output.to_owned(), _group: group })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; false when the process has ended. After SIGSTOP it has stopped, with all its threads.
    pub fn signal(&mut self, signal: Signal) -> bool {
        // A reaped id may belong to another process by now; until it is reaped, it is ours.
        let is_sent = self.is_running() && kill(self.pid(), signal).is_ok();
        if is_sent && signal == Signal::SIGSTOP {
            self.wait_until_stopped();
        }
        is_sent
    }

    /// The kernel stops each thread when it next looks at it. One that waits for a disk has a second for that.
    fn wait_until_stopped(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.thread_states().iter().any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The state of each thread, as `/proc/PID/task/TID/stat` has it behind the name in parentheses (proc(5)).
    fn thread_states(&self) -> Vec<char> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
    }

    /// Whether it still runs (or is stopped by a signal).
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once (SIGKILL) and waits for that. What it has started goes on until this handle is dropped.
    pub fn kill(&mut self) {
        // Killing and waiting fail only when it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself; `None` when it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has printed so far, both streams.
    pub fn output(&self) -> String {
        std::fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are positive and fit i32 on Linux"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_process_ends_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(Command::new("sleep").arg("60"), &dir.path().join("output")).unwrap();
        let pid = process.pid();
        assert!(process.signal(Signal::SIGSTOP));
        assert_eq!(process.thread_states(), ['T']);
        assert!(process.is_running());
        drop(process);
        assert!(kill(pid, None).is_err(), "its id is no longer in use");
    }

    /// Starts a process and a child of it, tells both ids, and waits to be killed.
    #[test]
    #[ignore = "a part of the test below"]
    fn a_parent_that_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let process = Process::start(command.args(["-c", "sleep 600 & echo $! $$; wait"]), &dir.path().join("output"));
        let process = process.unwrap();
        while !process.output().ends_with('\n') {
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("started {}", process.output().trim_end());
        std::thread::park();
    }

    #[test]
    fn nothing_outlives_the_process_that_started_it_and_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::tests::a_parent_that_is_killed", "--ignored", "--nocapture"]);
        let mut parent = Process::start(&mut command, &dir.path().join("output")).unwrap();
        let started = until(|| Some(parent.output().split_once("started ")?.1.lines().next()?.to_owned()));
        let started: Vec<String> = started.split(' ').map(str::to_owned).collect();
        assert_eq!(started.iter().filter(|id| runs(id)).count(), 2, "{started:?}");
        parent.kill();
        until(|| started.iter().all(|id| !runs(id)).then_some(()));
    }

    #[test]
    fn what_a_killed_process_has_started_ends_with_the_handle() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let process = Process::start(command.args(["-c", "sleep 600 & echo $!; wait"]), &dir.path().join("output"));
        let mut process = process.unwrap();
        let child = until(|| process.output().strip_suffix('\n').map(str::to_owned));
        process.kill();
        assert!(runs(&child), "what a crash leaves behind can be looked at");
        drop(process);
        until(|| (!runs(&child)).then_some(()));
    }

    /// Whether a process has this id and is more than a zombie that was not waited for.
    fn runs(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(value) = condition() {
                return value;
            }
            assert!(Instant::now() < deadline, "nothing came of it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn output_and_exit_status_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::start(&mut command, &dir.path().join("output")).unwrap();
        let status = process.wait(Duration::from_secs(10)).expect("a short script ends");
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.output(), "out\nerr\n");
        assert!(!process.signal(Signal::SIGTERM));
    }
}
