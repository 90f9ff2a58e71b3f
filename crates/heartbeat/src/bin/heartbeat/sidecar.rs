//! The life of an announced program: wait for its port → start → check → announce → signal or end → deregister → end.

use std::io;

use heartbeat::Heartbeat;
use nix::sys::signal::Signal;
use tokio::{sync::watch, time::sleep};

use crate::{
    check::{self, Checker, Verdict},
    config::{Config, Target},
    launch::{self, Launcher},
    owner::Listeners,
    program::Program,
    reaper,
    signals::{Signals, is_stop},
    speech, vacancy,
};

/// What the sidecar cannot do without.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SidecarError {
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot wait for the program")]
    Wait(#[source] io::Error),
}

/// A program, or something that runs already, and what others are told about it.
struct Sidecar {
    config: Config,
    target: Target,
    signals: Signals,
    program: Option<Program>,
    heartbeat: Option<Heartbeat>,
}

/// Why it ends.
enum End {
    /// The program did, with this exit code.
    Ended(u8),
    /// A signal asks for it.
    Asked(Signal),
}

/// Runs to the end; the exit code is the program's.
pub(crate) async fn run(config: Config) -> Result<u8, SidecarError> {
    let target = config.target().expect("missing options were reported as mistakes");
    let mut signals = Signals::listen().map_err(SidecarError::Signals)?;
    reaper::adopt_orphans();
    let launcher = Launcher::default();
    tokio::spawn(reaper::run(launcher.clone()));
    if !config.command.is_empty() && config.listeners == Listeners::Own && !is_port_free(&target, &mut signals).await {
        return Ok(0);
    }
    let program = match config.command.split_first() {
        None => None,
        Some((program, args)) => match Program::start(&launcher, program, args) {
            Ok(started) => Some(started),
            Err(error) => return Ok(launch::refused(program, &error)),
        },
    };
    let checker = Checker::new(&config, &target, &launcher);
    let (verdict, verdicts) = watch::channel(None);
    let checks = tokio::spawn(check::run(checker, config.clone(), verdict));
    let mut sidecar = Sidecar { config, target, signals, program, heartbeat: None };
    let end = sidecar.announce(verdicts).await?;
    checks.abort();
    match end {
        End::Ended(code) => sidecar.leave_behind(code).await,
        End::Asked(signal) => sidecar.stop(signal).await,
    }
}

/// Waits until the program's port is free; false when a signal asks for the end before.
async fn is_port_free(target: &Target, signals: &mut Signals) -> bool {
    tokio::select! {
        () = vacancy::wait(target) => true,
        signal = signals.next_stop() => {
            tracing::info!(%signal, "ending before the program was started");
            false
        }
    }
}

// === impl Sidecar ===

impl Sidecar {
    /// Tells the registries what the checks say, and hands signals on, until the end is near.
    async fn announce(&mut self, mut verdicts: watch::Receiver<Option<Verdict>>) -> Result<End, SidecarError> {
        loop {
            tokio::select! {
                biased;
                code = ended(&mut self.program) => return code.map(End::Ended),
                signal = self.signals.next() => {
                    if is_stop(signal) || (self.program.is_none() && signal == Signal::SIGHUP) {
                        return Ok(End::Asked(signal));
                    }
                    self.hand_on(signal);
                }
                Ok(()) = verdicts.changed() => {
                    let verdict = verdicts.borrow_and_update().clone();
                    self.tell(verdict);
                }
            }
        }
    }

    /// Before the first success nothing is announced: an instance that never worked is of no use to a gateway.
    fn tell(&mut self, verdict: Option<Verdict>) {
        match (verdict, &self.heartbeat) {
            (None, _) => {}
            (Some(Verdict { condition, .. }), Some(heartbeat)) => heartbeat.set_condition(condition),
            (Some(Verdict { condition, listen }), None) => {
                let mut details = self.config.details();
                details.condition = condition;
                let mut options = self.config.heartbeat.clone();
                options.advertise = options.advertise.or(self.target.named());
                let service = self.target.service.clone();
                tokio::spawn(speech::warn_if_not(self.config.scheme, self.target.nearby(listen)));
                self.heartbeat = Some(Heartbeat::start(service, listen, &options, details));
            }
        }
    }

    fn hand_on(&self, signal: Signal) {
        match &self.program {
            Some(program) => program.signal(signal),
            None => tracing::debug!(%signal, "ignored: there is no program to forward it to"),
        }
    }

    /// The program has ended by itself: nothing to wait for but the registry.
    async fn leave_behind(&mut self, code: u8) -> Result<u8, SidecarError> {
        tracing::info!(code, "the program has ended");
        let heartbeat = self.heartbeat.take();
        let withdrawn = async {
            if let Some(heartbeat) = heartbeat {
                heartbeat.withdraw().await;
            }
        };
        tokio::join!(withdrawn, self.sweep());
        Ok(code)
    }

    /// Deregisters, lets the gateways go, hands `signal` on, waits for the program. Every further signal that asks for
    /// the end skips what is being waited for.
    async fn stop(&mut self, signal: Signal) -> Result<u8, SidecarError> {
        tracing::info!(%signal, "shutting down; send the signal again to stop at once");
        if let Some(heartbeat) = self.heartbeat.take() {
            tokio::select! {
                () = heartbeat.deregister() => {}
                signal = self.signals.next_stop() => tracing::warn!(%signal, "not waiting for the gateways"),
            }
        }
        let Some(program) = &mut self.program else { return Ok(0) };
        program.signal(signal);
        let code = tokio::select! {
            code = program.ended() => Some(code),
            () = sleep(self.config.grace) => {
                tracing::warn!(grace_ms = self.config.grace.as_millis(), "the program does not stop; killing it");
                None
            }
            signal = self.signals.next_stop() => {
                tracing::warn!(%signal, "not waiting for the program: killing it");
                None
            }
        };
        let code = match code {
            Some(code) => code,
            None => {
                program.signal(Signal::SIGKILL);
                program.ended().await
            }
        };
        let code = code.map_err(SidecarError::Wait)?;
        tracing::info!(code, "the program has ended");
        self.sweep().await;
        Ok(code)
    }

    /// Ends what the program left behind; a signal that asks for the end makes it short.
    async fn sweep(&mut self) {
        let Some(program) = &self.program else { return };
        tokio::select! {
            () = program.sweep(self.config.grace) => {}
            _ = self.signals.next_stop() => program.kill_left_behind().await,
        }
    }
}

/// Waits for the end of the program, for ever if there is none.
async fn ended(program: &mut Option<Program>) -> Result<u8, SidecarError> {
    match program {
        Some(program) => program.ended().await.map_err(SidecarError::Wait),
        None => std::future::pending().await,
    }
}
