//! Which signals the sidecar takes, and what for.
//!
//! | signal | with a program | without |
//! |---|---|---|
//! | SIGTERM, SIGINT, SIGQUIT | deregister, let go, then hand it on | deregister, end |
//! | SIGHUP | hand it on (reload, usually) | deregister, end |
//! | SIGUSR1, SIGUSR2 | hand it on | nothing |
//!
//! SIGTSTP (Ctrl-Z) is not taken: it stops the sidecar alone, so that the registration expires while the program runs
//! on, and SIGCONT brings it back.

use std::io;

use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

const TAKEN: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];

/// The signals that arrive, in order.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::Receiver<Signal>);

// === impl Signals ===

impl Signals {
    /// Starts listening: from here on none of them ends the sidecar by itself.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(16);
        for taken in TAKEN {
            let mut arrivals = signal(SignalKind::from_raw(taken as i32))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while arrivals.recv().await.is_some() {
                    // Full: 16 signals wait, and one more says nothing new.
                    let _ = sender.try_send(taken);
                }
            });
        }
        Ok(Self(receiver))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    /// The next one that asks for the end; others are dropped meanwhile.
    pub(crate) async fn next_stop(&mut self) -> Signal {
        loop {
            match self.next().await {
                signal if is_stop(signal) => return signal,
                signal => tracing::debug!(%signal, "ignored: the end has begun"),
            }
        }
    }
}

/// Whether `signal` asks for an orderly end.
pub(crate) fn is_stop(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)
}
