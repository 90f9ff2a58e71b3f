//! Logging in to one etcd member: once for all who need it, with a deadline of its own.
//!
//! etcd keeps passwords as bcrypt hashes, and comparing one takes a tenth of a second at its default cost (10), and a
//! second and more at 13: longer than a call may take, and all of it on a processor of etcd. So a log-in is a task that
//! outlives the call that started it: calls wait for it as long as they may, the next ones find it under way or done,
//! and etcd compares one password at a time.
//!
//! A log-in that was refused is not repeated at once: for a growing while, calls get the same refusal without etcd
//! being asked. A changed password file ends that, because members get new clients then ([`crate::client::access`]).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::Client;
use service_kit::{Secret, backoff::Backoff};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::client::failure::Failure;

/// The longest that a log-in may take: bcrypt at cost 15 on a slow machine.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// How long a refusal is kept, at first and at most.
const REFUSED_MIN: Duration = Duration::from_secs(1);
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// The log-in of one client. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    user: Option<(String, Secret)>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// How often we have logged in, so that calls that fail together log in once; 0 is never.
    number: u64,
    /// The log-in that is under way.
    running: Option<watch::Receiver<Option<Outcome>>>,
    /// The last one was refused, and is not repeated until then.
    refused: Option<(Failure, Instant)>,
    backoff: Backoff,
}

type Outcome = Result<u64, Failure>;

// === impl Login ===

impl Login {
    /// For `user`; without one there is never anything to do.
    pub(crate) fn new(user: Option<(String, Secret)>) -> Self {
        let backoff = Backoff::new(REFUSED_MIN, REFUSED_MAX);
        let state = State { number: 0, running: None, refused: None, backoff };
        Self { user, state: Arc::new(Mutex::new(state)) }
    }

    /// Whether there is a user to log in.
    pub(crate) fn is_needed(&self) -> bool {
        self.user.is_some()
    }

    /// Whether a log-in is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state().running.is_some()
    }

    /// Gets a new token, unless there has been a log-in since the one numbered `stale`. Returns the number of the
    /// log-in.
    ///
    /// May be dropped at any time: the log-in goes on.
    pub(crate) async fn log_in(&self, client: &Client, stale: u64) -> Outcome {
        let Some((user, password)) = &self.user else { return Ok(0) };
        let mut outcome = {
            let mut state = self.state();
            if state.number > stale {
                return Ok(state.number);
            }
            if let Some((failure, until)) = &state.refused
                && Instant::now() < *until
            {
                return Err(failure.clone());
            }
            let client = client.clone();
            let user = user.clone();
            let password = password.clone();
            state.running.get_or_insert_with(|| self.start(client, user, password)).clone()
        };
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("it was waited for"),
            Err(_) => Err(Failure::Unreachable("the log-in was broken off".to_owned())),
        }
    }

    fn start(&self, mut client: Client, user: String, password: Secret) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        let this = self.clone();
        tokio::spawn(async move {
            // The token is shared by all clones of the client.
            let asked = client.update_user(Some((user, password.expose().to_owned())));
            let answer = match timeout(LOGIN_MAX, asked).await {
                Ok(answer) => answer.map_err(Failure::from),
                Err(_) => Err(Failure::Silent),
            };
            let outcome = this.state().note(answer, Instant::now());
            // Those who waited may all have gone.
            let _ = sender.send(Some(outcome));
        });
        receiver
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// A log-in has ended.
    fn note(&mut self, answer: Result<(), Failure>, now: Instant) -> Outcome {
        self.running = None;
        match answer {
            // Authentication may be switched on later; then calls fail as unauthenticated, and we come back here.
            Ok(()) | Err(Failure::AuthNotEnabled) => {
                self.number += 1;
                self.refused = None;
                self.backoff.reset();
                Ok(self.number)
            }
            Err(failure) => {
                if !failure.is_transient() {
                    self.refused = Some((failure.clone(), now + self.backoff.next_wait()));
                }
                Err(failure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_kept_longer_and_longer_and_silence_is_not() {
        let login = Login::new(Some(("muster".into(), "secret".parse().unwrap())));
        let mut state = login.state();
        let now = Instant::now();
        assert_eq!(state.note(Err(Failure::Silent), now), Err(Failure::Silent));
        assert!(state.refused.is_none());
        let refused = Failure::LoginRefused("invalid user ID or password".into());
        for _ in 0..10 {
            assert_eq!(state.note(Err(refused.clone()), now), Err(refused.clone()));
            let until = state.refused.as_ref().expect("kept").1;
            assert!(until >= now + REFUSED_MIN && until <= now + REFUSED_MAX);
        }
        assert_eq!(state.note(Ok(()), now), Ok(1));
        assert!(state.refused.is_none());
    }
}
