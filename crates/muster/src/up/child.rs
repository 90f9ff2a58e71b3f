//! One life of one process: started, its output shown line by line, its end awaited.

use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    task::JoinHandle,
    time::timeout,
};

use crate::up::{
    console::Console,
    etcd::log::{self, Line},
    parent_death,
    topology::{Process, Stage},
};

/// How many of its last lines are kept, to be shown when it is given up on.
const LAST_LINES: usize = 20;
/// A line that is longer is shown as several.
const LINE_MAX_BYTES: u64 = 16 * 1024;
/// A process may leave its pipes to a child of its own; its own last lines are there long before this.
const OUTPUT_AFTER_THE_END: Duration = Duration::from_millis(500);

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: u32,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

/// Where the lines of a process go.
#[derive(Debug)]
struct Output {
    name: String,
    console: Console,
    is_etcd: bool,
    last: Mutex<VecDeque<String>>,
}

// === impl Child ===

impl Child {
    /// Starts it, tethered to this process.
    ///
    /// # Errors
    /// The system starts no process. That the program itself is missing shows as an exit code and a line of output.
    pub(crate) fn start(process: &Process, console: &Console) -> io::Result<Self> {
        let mut command = tokio::process::Command::from(parent_death::command(process));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let output = Arc::new(Output {
            name: process.name.clone(),
            console: console.clone(),
            is_etcd: process.stage == Stage::Etcd,
            last: Mutex::default(),
        });
        let stdout = child.stdout.take().map(|pipe| tokio::spawn(Arc::clone(&output).show(pipe)));
        let stderr = child.stderr.take().map(|pipe| tokio::spawn(Arc::clone(&output).show(pipe)));
        let pid = child.id().ok_or_else(|| io::Error::other("it ended before it began"))?;
        Ok(Self { process: child, pid, output, readers: stdout.into_iter().chain(stderr).collect() })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = self.running() {
            // One that is frozen would not hear the first without the second.
            let _ = kill(pid, Signal::SIGTERM);
            let _ = kill(pid, Signal::SIGCONT);
        }
    }

    /// Ends it, and whatever it has started, at once.
    pub(crate) fn kill(&self) {
        if let Some(pid) = self.running() {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// The lines it said last. To be called after its end.
    pub(crate) async fn last_lines(self) -> Vec<String> {
        for reader in self.readers {
            // Not finished in time: another process holds the pipe.
            let _ = timeout(OUTPUT_AFTER_THE_END, reader).await;
        }
        self.output.last.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// Its id as long as it is not reaped, that is as long as the id cannot be reused.
    fn running(&self) -> Option<Pid> {
        self.process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
    }
}

// === impl Output ===

impl Output {
    async fn show(self: Arc<Self>, pipe: impl AsyncRead + Unpin) {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        // A pipe that cannot be read is as good as closed.
        while let Ok(1..) = (&mut pipe).take(LINE_MAX_BYTES).read_until(b'\n', &mut bytes).await {
            self.line(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']));
            bytes.clear();
        }
    }

    fn line(&self, line: &str) {
        let Self { name, console, .. } = self;
        let line = if self.is_etcd {
            let Some(Line { text, is_aside }) = log::readable(line) else { return };
            if is_aside {
                console.aside(name, &text)
            } else {
                console.child(name, &text)
            }
            text
        } else {
            console.child(name, line);
            line.to_owned()
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

/// How a process ended, for a person: `exit code 3`, `SIGKILL`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => Signal::try_from(number).map_or(format!("signal {number}"), |s| s.as_str().to_owned()),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_as_people_know_it() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exit code 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "SIGKILL");
        assert_eq!(describe(ExitStatus::from_raw(0)), "exit code 0");
    }
}
