//! Whether the transport works, for `/readyz` and the log: learned from messages, and asked where there are none.
//!
//! | state | entered when |
//! |---|---|
//! | untried | at the start |
//! | working | a message or a check went through, or the server answered about a message, even with a refusal |
//! | failing | there was no session, no reply, no file |
//!
//! The heartbeat says what follows from that, and why:
//!
//! | transport | outbox | status | because |
//! |---|---|---|---|
//! | works | works | passing | |
//! | fails | works | degraded | `/v1` still accepts messages, which wait in the outbox; `POST /` is answered with 503 |
//! | works, or fails | fails | critical | no message can be accepted: `POST /` needs the outbox, too |
//!
//! A transport that fails alone does *not* make the status `critical`. That would take every instance out of rotation
//! at the same time, since all use the same server; nothing would be accepted any more, and callers of `POST /` would
//! get the gateway's "no instance is there" instead of our answer, which says what the server said, and whether the
//! message may be sent again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use discovery::Status;
use heartbeat::Condition;
use service_kit::{backoff::Backoff, health::Readiness};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Transport, deadlines::StepDeadlines, outcome::DeliveryError};

/// How long one check may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);
/// The longest pause between two checks while the server refuses to talk to us.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The state of the transport. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    name: &'static str,
    readiness: Readiness,
    state: Arc<Mutex<State>>,
    troubles: watch::Sender<Troubles>,
}

/// What is known to fail, with the reason. What was not tried yet is not among it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Troubles {
    transport: Option<String>,
    outbox: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Untried,
    Working { since_last: Instant },
    Failing,
}

impl Health {
    /// Not ready until something has gone well.
    #[must_use]
    pub fn new(name: &'static str, readiness: Readiness) -> Self {
        readiness.report(name, Err("not tried yet".to_owned()));
        let state = Arc::new(Mutex::new(State::Untried));
        Self { name, readiness, state, troubles: watch::Sender::default() }
    }

    /// Notes how an attempt ended.
    pub fn note<T>(&self, result: &Result<T, DeliveryError>) {
        match result {
            Err(DeliveryError::Busy) => {}
            Err(error) if error.is_about_the_transport() => self.failed(error),
            Ok(_) | Err(_) => self.worked(),
        }
    }

    fn worked(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Working { since_last: Instant::now() });
        if !matches!(before, State::Working { .. }) {
            tracing::info!(target: "mail::health", transport = self.name, "messages can be handed over");
            self.readiness.report(self.name, Ok(()));
            self.change(|troubles| troubles.transport = None);
        }
    }

    fn failed(&self, error: &DeliveryError) {
        let before = std::mem::replace(&mut *self.state(), State::Failing);
        if !matches!(before, State::Failing) {
            tracing::warn!(target: "mail::health", transport = self.name, error = %service_kit::chain(error), "messages cannot be handed over");
        }
        let reason = service_kit::chain(error).to_string();
        self.readiness.report(self.name, Err(reason.clone()));
        self.change(|troubles| troubles.transport = Some(reason));
    }

    /// Not ready before the outbox was opened.
    pub fn await_outbox(&self) {
        self.readiness.report("outbox", Err("not opened yet".to_owned()));
    }

    /// Notes whether the outbox can be used. Returns whether this changed.
    pub fn note_outbox(&self, state: Result<(), String>) -> bool {
        let reason = state.as_ref().err().cloned();
        self.change(|troubles| troubles.outbox = reason);
        self.readiness.report("outbox", state)
    }

    /// What follows for the heartbeat; see the module's table.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let Troubles { transport, outbox } = self.troubles.borrow().clone();
        let transport = transport.map(|reason| format!("{}: {reason}", self.name));
        let outbox = outbox.map(|reason| format!("outbox: {reason}"));
        match (transport, outbox) {
            (None, None) => Condition::default(),
            (Some(reason), None) => Condition::new(Status::Degraded, &reason),
            (None, Some(reason)) => Condition::new(Status::Critical, &reason),
            (Some(transport), Some(outbox)) => Condition::new(Status::Critical, &format!("{transport}; {outbox}")),
        }
    }

    /// Passes on every [condition](Health::condition) that differs from the one before, and never ends.
    pub async fn report(&self, notify: impl Fn(Condition)) {
        let mut changes = self.troubles.subscribe();
        loop {
            notify(self.condition());
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Troubles)) {
        self.troubles.send_if_modified(|troubles| {
            let before = troubles.clone();
            change(troubles);
            *troubles != before
        });
    }

    /// How long ago the transport last worked, if it did and has not failed since.
    fn worked_ago(&self) -> Option<Duration> {
        match *self.state() {
            State::Working { since_last } => Some(since_last.elapsed()),
            State::Untried | State::Failing => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tidies `transport` up, then checks it whenever no message has shown for `interval` that it works, until
/// `shutdown`.
///
/// A server that refuses to talk to us is asked less and less often: it may count attempts with a wrong password.
pub async fn watch(health: Health, transport: Arc<Transport>, interval: Duration, shutdown: CancellationToken) {
    let mut backoff = Backoff::new(interval, REFUSED_PAUSE_MAX);
    let watching = async {
        transport.tidy().await;
        loop {
            let pause = match health.worked_ago() {
                Some(ago) if ago < interval => interval - ago,
                _ => check(&health, &transport, interval, &mut backoff).await,
            };
            sleep(pause).await;
        }
    };
    shutdown.run_until_cancelled(watching).await;
}

/// Checks once and returns the pause before the next time.
async fn check(health: &Health, transport: &Transport, interval: Duration, backoff: &mut Backoff) -> Duration {
    let result = transport.check(StepDeadlines::until(Instant::now() + CHECK_DEADLINE)).await;
    health.note(&result);
    match result {
        Err(DeliveryError::SessionRefused { .. }) => backoff.next_wait(),
        Ok(()) | Err(_) => {
            backoff.reset();
            interval
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::transport::outcome::{Reply, Stage};

    use super::*;

    #[test]
    fn a_refused_message_shows_that_the_server_works_and_a_lost_connection_that_it_does_not() {
        let readiness = Readiness::new();
        let health = Health::new("smtp", readiness.clone());
        assert_eq!(readiness.reasons(), ["smtp: not tried yet"]);
        let reply = Reply::new(550, "<a@b.c> is unknown");
        health.note::<()>(&Err(DeliveryError::Refused { stage: Stage::Recipient, reply }));
        assert!(readiness.is_ready());
        health.note::<()>(&Err(DeliveryError::Unreachable { cause: "cannot connect".to_owned() }));
        assert_eq!(readiness.reasons(), ["smtp: no session with the SMTP server: cannot connect"]);
        health.note::<()>(&Err(DeliveryError::Busy));
        assert!(!readiness.is_ready(), "being busy proves nothing");
        health.note(&Ok::<_, DeliveryError>(()));
        assert!(readiness.is_ready() && health.worked_ago().is_some());
    }

    #[test]
    fn what_still_works_decides_between_degraded_and_critical() {
        let health = Health::new("smtp", Readiness::new());
        assert_eq!(health.condition(), Condition::default(), "not tried yet");
        let unreachable = || Err::<(), _>(DeliveryError::Unreachable { cause: "connection refused".to_owned() });
        health.note(&unreachable());
        let condition = health.condition();
        assert_eq!(condition.status(), Status::Degraded, "messages still go into the outbox");
        let reason = "smtp: no session with the SMTP server: connection refused";
        assert_eq!(condition.reason().unwrap().as_str(), reason);
        health.note_outbox(Err("disk full".to_owned()));
        let condition = health.condition();
        assert_eq!(condition.status(), Status::Critical, "nothing can be taken");
        assert_eq!(condition.reason().unwrap().as_str(), format!("{reason}; outbox: disk full"));
        health.note(&Ok::<_, DeliveryError>(()));
        assert_eq!(health.condition(), Condition::new(Status::Critical, "outbox: disk full"));
        health.note_outbox(Ok(()));
        assert_eq!(health.condition(), Condition::default());
    }
}
