//! Ends what a `muster up` left behind that was itself killed.
//!
//! On Linux children end with it ([`crate::up::parent_death`]), so there is rarely anything to do; but one that was
//! frozen, or that takes its time, may still hold its port and, if it is etcd, its folder.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    state::{State, process_id::ProcessId},
    up::console::Console,
};

/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Ends every process of `last` that still runs, and says so. Only to be called with the data folder locked: no other
/// process else's processes can be in its file then.
pub(crate) async fn stop(last: &State, console: &Console) {
    let running =
        || last.processes.iter().filter_map(|process| process.identity.as_ref().map(|id| (&process.name, id)));
    let left: Vec<(&String, &ProcessId)> = running().filter(|(_, id)| id.is_running()).collect();
    for (name, id) in &left {
        console.say(&format!("{name} (process {}) was left behind by the last run: stopping it", id.pid));
        id.signal(Signal::SIGTERM);
        id.signal(Signal::SIGCONT);
    }
    let deadline = Instant::now() + PATIENCE;
    while left.iter().any(|(_, id)| id.is_running()) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    for (name, id) in left.iter().filter(|(_, id)| id.is_running()) {
        console.say(&format!("{name} (process {}) did not end within {} s: killing it", id.pid, PATIENCE.as_secs()));
        id.kill_group();
    }
    // SIGKILL is not refused, but a process deep in the kernel takes a moment.
    let deadline = Instant::now() + PATIENCE;
    while left.iter().any(|(_, id)| id.is_running()) && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
}
