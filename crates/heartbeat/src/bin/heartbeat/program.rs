//! The program that is announced: a child process and the process group around it.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
};
use tokio::time::{sleep, timeout};

use crate::launch::{Launched, Launcher};

/// How often to look whether a process group is empty: nothing tells when it becomes so.
const LOOK: Duration = Duration::from_millis(20);

/// How long the end of a killed process may take: only one that hangs in the kernel needs longer.
const KILLED: Duration = Duration::from_secs(1);

/// The running program.
#[derive(Debug)]
pub(crate) struct Program(Launched);

// === impl Program ===

impl Program {
    /// Starts `command`, whose first element is the program.
    ///
    /// It shares our standard output and error. It does not get a terminal's input: outside the terminal's foreground
    /// process group, reading from it would stop the program (SIGTTIN).
    pub(crate) fn start(launcher: &Launcher, program: &OsString, args: &[OsString]) -> io::Result<Self> {
        let launched = launcher.start(program, args, Signal::SIGTERM, |command| {
            if io::stdin().is_terminal() {
                command.stdin(Stdio::null());
            }
        })?;
        tracing::info!(program = %program.display(), pid = launched.group.as_raw(), "started");
        Ok(Self(launched))
    }

    /// Waits for its end; the exit code is that of a shell. Cancel safe, and the same again afterwards.
    pub(crate) async fn ended(&mut self) -> io::Result<u8> {
        self.0.child.wait().await.map(exit_code)
    }

    /// Hands a signal on. Ctrl-C and Ctrl-\ would have reached the whole process group in a terminal, and shells rely
    /// on that; any other signal is the program's to hand on to what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        // Once it was waited for, its id may be reused.
        if self.0.child.id().is_none() {
            return;
        }
        let sent = match signal {
            Signal::SIGINT | Signal::SIGQUIT | Signal::SIGKILL => killpg(self.0.group, signal),
            _ => kill(self.0.group, signal),
        };
        if let Err(error) = sent {
            tracing::warn!(%signal, error = %service_kit::chain(&error), "cannot forward a signal");
        }
    }

    /// Ends what the program left behind in its process group: SIGTERM, and SIGKILL after `grace`.
    ///
    /// A shell that is ended leaves the command it was running, for example. What moved to a process group of its own,
    /// as daemons do, is not found.
    pub(crate) async fn sweep(&self, grace: Duration) {
        if self.left_behind(Signal::SIGTERM) {
            tracing::info!("stopping processes that the program left behind");
            if timeout(grace, self.emptied()).await.is_err() {
                self.kill_left_behind().await;
            }
        }
    }

    /// Kills what is left in the process group, and waits for its end: whatever it held (a port, say) is free then.
    pub(crate) async fn kill_left_behind(&self) {
        if self.left_behind(Signal::SIGKILL) && timeout(KILLED, self.emptied()).await.is_err() {
            tracing::warn!("cannot kill a process that the program left behind");
        }
    }

    /// Waits until the process group is empty.
    async fn emptied(&self) {
        while killpg(self.0.group, None) != Err(Errno::ESRCH) {
            sleep(LOOK).await;
        }
    }

    /// Signals the process group; false when it is empty.
    fn left_behind(&self, signal: Signal) -> bool {
        killpg(self.0.group, signal) != Err(Errno::ESRCH)
    }
}

/// The exit code of a shell: the program's, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        for (raw, expected) in [(0, 0), (3 << 8, 3), (255 << 8, 255), (9, 137), (15, 143), (6 | 0x80, 134)] {
            assert_eq!(exit_code(ExitStatus::from_raw(raw)), expected, "wait status {raw:#x}");
        }
    }
}
