//! What asks `muster up` to end.
//!
//! A third signal beside the two that a service knows: closing the terminal. A service has no terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask `muster up` to end: SIGTERM, SIGINT (Ctrl-C), and SIGHUP (the terminal was closed).
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

// === impl Signals ===

impl Signals {
    /// Starts listening: from here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> std::io::Result<Self> {
        // `nohup muster up &` wants to survive its terminal.
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// Waits for the next one; says what it was.
    pub(crate) async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = hangup => "the terminal was closed",
        }
    }
}

/// Whether this process was started with SIGHUP ignored. The mask of ignored signals is in `/proc/self/status`, as a
/// hexadecimal number whose lowest bit is signal 1, SIGHUP (proc(5)).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
