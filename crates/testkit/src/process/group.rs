//! A process group that ends with the process that made it, however that ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Waits for the end of its input, which is the end of the process that holds the other end, and then kills its process
/// group.
const GUARD: &str = "read -r _; kill -s KILL 0";

/// A process group with a guard in it.
///
/// Dropping it kills what is in it. When this process is killed itself (SIGKILL), nothing is dropped; but the kernel
/// closes the pipe to the guard, a shell, which then does the same. `PR_SET_PDEATHSIG` (prctl(2)) would not do: it
/// concerns a program but not what that has started, as the workers of nginx, and it goes off when the *thread* ends
/// that started the program. What leaves the group, as services under `muster up` do, has to see to its own end.
#[derive(Debug)]
pub(super) struct Group {
    /// Leads the group, whose id is not given to another process before this is waited for.
    guard: Child,
}

// === impl Group ===

impl Group {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { guard: guard.process_group(0).spawn()? })
    }

    /// What `command` starts is in the group.
    pub(super) fn take_in(&self, command: &mut Command) {
        command.process_group(self.id().as_raw());
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.guard.id()).expect("process ids are positive and fit i32"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It fails only when no process is left in it.
        let _ = killpg(self.id(), Signal::SIGKILL);
        let _ = self.guard.wait();
    }
}
