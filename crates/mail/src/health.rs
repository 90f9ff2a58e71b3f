//! Whether the transport works, for `/readyz` and the log: learned from messages, and asked where there are none.
//!
//! | state | entered when |
//! |---|---|
//! | untried | at the start |
//! | working | a message or a check went through, or the server answered about a message, even with a refusal |
//! | failing | there was no session, no reply, no file |
//!
//! A transport that fails does *not* make the heartbeat's status `critical`. That would take every instance out of
//! rotation at the same time, since all use the same server, and callers would get the gateway's "nobody is there"
//! instead of our answer, which says what the server said, and whether the message may be sent again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_kit::{backoff::Backoff, health::Readiness};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{allowance::Allowance, delivery::DeliveryError, transport::Transport};

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
        Self { name, readiness, state: Arc::new(Mutex::new(State::Untried)) }
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
            tracing::info!(transport = self.name, "messages can be handed over");
            self.readiness.report(self.name, Ok(()));
        }
    }

    fn failed(&self, error: &DeliveryError) {
        let before = std::mem::replace(&mut *self.state(), State::Failing);
        if !matches!(before, State::Failing) {
            tracing::warn!(transport = self.name, error = %service_kit::chain(error), "messages cannot be handed over");
        }
        self.readiness.report(self.name, Err(service_kit::chain(error).to_string()));
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
    let result = transport.check(Allowance::until(Instant::now() + CHECK_DEADLINE)).await;
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
    use crate::delivery::{Reply, Stage};

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
}
