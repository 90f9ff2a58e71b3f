//! Starting other programs so that they never outlive the sidecar, and finding out why one could not be started.
//!
//! Linux sends a process a signal of its choice when its parent dies (`PR_SET_PDEATHSIG`), even by SIGKILL. The child
//! has to ask for it itself, between fork and exec, where only `unsafe` code may run. So the sidecar starts *itself*
//! instead, with [`MARK`] as its first argument; that process asks for the signal and then becomes the program
//! (`execve` keeps the setting, and the process id). Two limits: the kernel drops the setting when the program is
//! set-user-ID or has file capabilities, and it does not reach what the program itself starts. Where there is no
//! `/proc`, and on other systems, the program is started directly, without that protection.
//!
//! Every program gets a process group of its own, so that Ctrl-C in a terminal reaches the sidecar alone, which then
//! does things in order, and so that what the program started can be ended with it.

use std::os::unix::process::CommandExt as _;
use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, getpid},
};

/// The first argument of a sidecar that is about to become a program: `MARK PARENT SIGNAL PROGRAM ARGUMENTS…`.
const MARK: &str = "--become";
/// This very program, even after its file was replaced.
const SELF: &str = "/proc/self/exe";

/// As in a shell: found, but it cannot be run.
const EXIT_CANNOT_RUN: u8 = 126;
/// As in a shell: not found.
const EXIT_NOT_FOUND: u8 = 127;

/// Starts programs and knows which processes are waited for; the rest is the reaper's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Launcher {
    awaited: Arc<Mutex<HashSet<Pid>>>,
}

/// A process that was started, the first of a process group of its own. When it is dropped, the group is killed.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: tokio::process::Child,
    pub(crate) group: Pid,
    launcher: Launcher,
}

// === impl Launcher ===

impl Launcher {
    /// Starts `program`; it gets `at_our_death` if the sidecar dies first. Call it on the main thread: that is the one
    /// whose end the kernel watches.
    pub(crate) fn start(
        &self,
        program: &OsStr,
        args: &[OsString],
        at_our_death: Signal,
        streams: impl FnOnce(&mut Command),
    ) -> io::Result<Launched> {
        let mut command = if cfg!(target_os = "linux") && Path::new(SELF).exists() {
            let mut command = Command::new(SELF);
            command.args([MARK, &getpid().to_string(), at_our_death.as_str()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(args).process_group(0);
        streams(&mut command);
        // Held until the id is entered, so that the reaper cannot come between.
        let mut awaited = self.awaited();
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).expect("it was not waited for yet");
        let group = Pid::from_raw(id);
        awaited.insert(group);
        drop(awaited);
        Ok(Launched { child, group, launcher: self.clone() })
    }

    /// The processes that a task waits for.
    pub(crate) fn awaited(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Launched ===

impl Drop for Launched {
    fn drop(&mut self) {
        // No such group: everything in it has ended, which is what is wanted.
        let _ = killpg(self.group, Signal::SIGKILL);
        self.launcher.awaited().remove(&self.group);
    }
}

/// Becomes the program, if that is what this process was started for; returns only when it cannot, or need not.
pub(crate) fn become_program(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if args.nth(1)? != MARK {
        return None;
    }
    let parent = args.next()?.to_str()?.parse().ok()?;
    let signal = args.next()?.to_str()?.parse().ok()?;
    let program = args.next()?;
    if die_with(Pid::from_raw(parent), signal).is_none() {
        return Some(ExitCode::from(128 + signal as u8));
    }
    let error = Command::new(&program).args(args).exec();
    Some(ExitCode::from(refused(&program, &error)))
}

/// Says why `program` did not start, and returns the exit code that a shell would.
#[expect(clippy::print_stderr, reason = "as a shell does, in the place of the program's own output")]
pub(crate) fn refused(program: &OsStr, error: &io::Error) -> u8 {
    let shown = program.display();
    if error.kind() == io::ErrorKind::NotFound {
        let hint = if Path::new(program).exists() { "its interpreter is not there" } else { "no such program" };
        eprintln!("heartbeat: cannot run {shown}: {hint}");
        return EXIT_NOT_FOUND;
    }
    eprintln!("heartbeat: cannot run {shown}: {error}");
    EXIT_CANNOT_RUN
}

/// Asks for `signal` when `parent` dies; none when it is dead already.
#[cfg(target_os = "linux")]
fn die_with(parent: Pid, signal: Signal) -> Option<()> {
    // A kernel that does not know this leaves us without the protection, which is no reason not to run.
    let _ = nix::sys::prctl::set_pdeathsig(signal);
    (nix::unistd::getppid() == parent).then_some(())
}

#[cfg(not(target_os = "linux"))]
fn die_with(_parent: Pid, _signal: Signal) -> Option<()> {
    Some(())
}

/// For programs without clients.
pub(crate) fn silent(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}
