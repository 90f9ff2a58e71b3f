//! SIGTERM and SIGINT become one token that every task watches.
//!
//! The first signal asks for an orderly end: the token is cancelled, and every task that holds it finishes what it is
//! doing. A second signal means that the operator will not wait: [`run_until_second_signal`] then drops the work where
//! it is.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Both signals that ask a process to end.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Starts listening: from here on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The operating system refuses the handler.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of the two and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Runs `work` to its end. The first signal cancels `shutdown`; the second one gives up on `work` and returns `None`.
pub async fn run_until_second_signal<T>(
    mut signals: Signals,
    shutdown: CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::pin!(work);
    tokio::select! {
        output = &mut work => return Some(output),
        name = signals.next() => tracing::info!(signal = name, "shutting down; a second signal ends at once"),
    }
    shutdown.cancel();
    tokio::select! {
        output = &mut work => Some(output),
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal: ending without waiting");
            None
        }
    }
}
