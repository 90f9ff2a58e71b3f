//! Sessions that wait for the next message.
//!
//! The last one parked is the first one taken, so that the others grow old. Each is closed when it has waited for
//! `idle_max`, whether or not another message comes: a server counts a connection that idles like one that works.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::session::Session;

/// See the module.
#[derive(Debug)]
pub(super) struct Parked {
    idle_max: Duration,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    sessions: Vec<Session>,
    /// A task sees to it that each is closed in time.
    is_watched: bool,
}

impl Parked {
    pub(super) fn new(idle_max: Duration) -> Arc<Self> {
        Arc::new(Self { idle_max, state: Mutex::default(), arrived: Notify::new() })
    }

    /// The one that has waited the shortest time.
    pub(super) fn take(&self) -> Option<Session> {
        let now = Instant::now();
        let mut state = self.state();
        state.sessions.pop_if(|session| session.old_at(self.idle_max) > now)
    }

    /// Lets a session wait from now on.
    pub(super) fn park(self: &Arc<Self>, mut session: Session) {
        session.rest();
        self.put_back(session);
    }

    /// Lets a session go on waiting.
    pub(super) fn put_back(self: &Arc<Self>, session: Session) {
        let mut state = self.state();
        state.sessions.push(session);
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(close_in_time(Arc::downgrade(self)));
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits until there is one. Another task may take it first.
    pub(super) async fn arrival(&self) {
        loop {
            let arrived = self.arrived.notified();
            if !self.state().sessions.is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// All of them.
    pub(super) fn clear(&self) -> Vec<Session> {
        std::mem::take(&mut self.state().sessions)
    }

    /// Those that have waited long enough, and when the next one will have; `None` when none is left.
    fn take_old(&self) -> (Vec<Session>, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.state();
        let sessions = std::mem::take(&mut state.sessions);
        let (old, young) = sessions.into_iter().partition(|session| session.old_at(self.idle_max) <= now);
        state.sessions = young;
        let next = state.sessions.iter().map(|session| session.old_at(self.idle_max)).min();
        state.is_watched = next.is_some();
        (old, next)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close_in_time(parked: Weak<Parked>) {
    loop {
        let Some((old, next)) = parked.upgrade().map(|parked| parked.take_old()) else { return };
        for session in old {
            tokio::spawn(session.quit());
        }
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}
