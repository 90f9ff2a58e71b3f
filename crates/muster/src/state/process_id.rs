//! Which process a process id meant when it was written down.
//!
//! A process id alone is worth nothing after a while: the kernel reuses it. Together with the time at
//! which the process started and the boot in which that was, it means one process for ever (`proc(5)`: `starttime`,
//! `/proc/sys/kernel/random/boot_id`). Where there is no `/proc` nothing is known, and nothing is done.

use std::fs;

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// One process, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its id.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since the boot.
    pub(crate) started_ticks: u64,
    /// Which boot that was.
    pub(crate) boot: String,
}

// === impl ProcessId ===

impl ProcessId {
    /// Who has this id now; `None` for no process, for one that has ended already, and where there is no `/proc`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let started_ticks = started_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, started_ticks, boot })
    }

    /// Whether exactly this process still runs.
    pub(crate) fn is_running(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends it a signal, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.raw().filter(|_| self.is_running()) {
            // It may end in this very moment, which is what the signal is for.
            let _ = kill(pid, signal);
        }
    }

    /// Kills it and whatever it started, if it still runs.
    pub(crate) fn kill_group(&self) {
        if let Some(pid) = self.raw().filter(|_| self.is_running()) {
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn raw(&self) -> Option<Pid> {
        // 0 and negative numbers mean groups of processes to kill(2).
        i32::try_from(self.pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw)
    }
}

/// Field 22 of `/proc/PID/stat`, unless the process is a zombie. The name, field 2, is in parentheses and may itself
/// contain spaces and parentheses, so fields are counted from the last one.
fn started_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_until_it_ends_and_its_id_alone_is_not_enough() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(child.id()).expect("a running process");
        assert!(id.is_running());
        assert!(!ProcessId { started_ticks: id.started_ticks + 1, ..id.clone() }.is_running());
        assert!(!ProcessId { boot: "another".to_owned(), ..id }.is_running());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!id.is_running());
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let rest = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(started_ticks(&format!("7 (a) b) {rest}")), Some(4711));
        assert_eq!(started_ticks(&format!("7 (a) {}", rest.replacen('S', "Z", 1))), None, "a zombie has ended");
        assert_eq!(started_ticks(""), None);
    }
}
