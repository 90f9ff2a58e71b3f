//! Collecting zombies that no other task waits for.
//!
//! A process whose parent has died becomes a child of the init process, which has to wait for it, or it stays in the
//! process table for ever. In a container the sidecar often is that init process. To be the same everywhere, it asks to
//! be one for its descendants (`PR_SET_CHILD_SUBREAPER`), so that what the program leaves behind is always its to
//! collect. Linux only; elsewhere, init does it.

use crate::launch::Launcher;

/// Makes whatever this process's descendants leave behind its own. Call it before there is any.
pub(crate) fn adopt_orphans() {
    // A kernel that refuses leaves that to the init process, which collects them just as well.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Collects, for ever, whatever ended and no other task waits for.
#[cfg(target_os = "linux")]
pub(crate) async fn run(launcher: Launcher) -> std::io::Result<()> {
    use std::time::Duration;

    use tokio::signal::unix::{SignalKind, signal};

    let mut ended = signal(SignalKind::child())?;
    loop {
        if collect(&launcher) {
            // The zombie in front is waited for by another task, which will not be long; then we see what is behind it.
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            ended.recv().await;
        }
    }
}

/// Returns whether a zombie that is not ours to collect hides what is behind it.
#[cfg(target_os = "linux")]
fn collect(launcher: &Launcher) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};

    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        // Errors: there are no children at all. No id: none has ended.
        let Some(ended) = waitid(Id::All, look).ok().and_then(|status| status.pid()) else {
            return false;
        };
        if launcher.awaited().contains(&ended) {
            return true;
        }
        let _ = waitpid(ended, Some(WaitPidFlag::WNOHANG));
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_launcher: Launcher) -> std::io::Result<()> {
    std::future::pending().await
}
