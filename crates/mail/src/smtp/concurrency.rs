//! How many connections at the same time the server takes from us, learned from what it refuses.
//!
//! Servers limit the connections of a client (Postfix: 50, `smtpd_client_connection_count_limit`; many providers: far fewer), and say 421, hang up, or let
//! the connection wait. None of them says how many it takes. So the limit is found as TCP finds a rate (RFC 5681): it starts at the
//! configured one; a connection that is not opened *while others work* halves it, though not below what is open at that
//! moment, since that much is taken; every [`RAISE_AFTER`] messages it grows by one. Each refusal doubles that number, up to
//! [`RAISE_AFTER_MAX`], and each growth halves it, so that a server is not knocked at again and again. Attempts that began before the last decrease do not decrease
//! again: ten connections refused at once are one piece of news.
//!
//! A message whose connection was refused waits for its turn again, so it costs nothing but time. While *none* is open the
//! server itself is in trouble, and the error is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::delivery::DeliveryError;

/// Messages handed over before one more connection is tried.
const RAISE_AFTER: usize = 50;
/// The same after many refusals.
const RAISE_AFTER_MAX: usize = 5000;
/// How long a connection that was refused waits for news of others that are being opened.
const NEWS_DEADLINE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Concurrency {
    turns: Semaphore,
    max: usize,
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
}

struct State {
    limit: usize,
    /// Turns above the limit that are still taken; they end when they are given back.
    surplus: usize,
    lowered_at: Option<Instant>,
    /// Messages handed over since the limit changed.
    messages: usize,
    /// How many of them there must be before it grows.
    raise_after: usize,
    /// The lowest limit that was logged.
    logged: usize,
}

/// Connections.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    opening: usize,
    open: usize,
}

/// One of so many messages that are handed over at the same time.
pub(super) struct Turn<'a> {
    concurrency: &'a Concurrency,
    permit: Option<SemaphorePermit<'a>>,
}

/// A connection, from before it is opened until it is closed.
pub(super) struct Place {
    concurrency: Arc<Concurrency>,
    is_open: bool,
}

// === impl Concurrency ===

impl Concurrency {
    /// Starts with all of `max`.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        let state =
            State { limit: max, surplus: 0, lowered_at: None, messages: 0, raise_after: RAISE_AFTER, logged: max };
        Self { turns: Semaphore::new(max), max, state: Mutex::new(state), counts: watch::Sender::default() }
    }

    /// Waits for a turn until `deadline`; first come, first served.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<Turn<'_>, DeliveryError> {
        match timeout_at(deadline, self.turns.acquire()).await {
            Ok(Ok(permit)) => Ok(Turn { concurrency: self, permit: Some(permit) }),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(DeliveryError::Busy),
        }
    }

    /// A connection that is about to be opened.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        self.counts.send_modify(|counts| counts.opening += 1);
        Place { concurrency: Arc::clone(self), is_open: false }
    }

    /// Whether another connection is open. One that is being opened is waited for, for a moment.
    pub(super) async fn others_work(&self) -> bool {
        let mut counts = self.counts.subscribe();
        let news = counts.wait_for(|counts| counts.open > 0 || counts.opening == 0);
        let others = timeout(NEWS_DEADLINE, news).await;
        matches!(others, Ok(Ok(counts)) if counts.open > 0)
    }

    /// A connection whose opening began at `began` was not opened while others work.
    pub(super) fn lower(&self, began: Instant) {
        let open = self.counts.borrow().open;
        let mut state = self.state();
        if state.lowered_at.is_some_and(|lowered_at| lowered_at > began) {
            return;
        }
        (state.lowered_at, state.messages) = (Some(Instant::now()), 0);
        state.raise_after = (state.raise_after * 2).min(RAISE_AFTER_MAX);
        let limit = (state.limit / 2).max(open).clamp(1, state.limit);
        let out = state.limit - limit;
        if out > 0 {
            state.limit = limit;
            state.surplus += out - self.turns.forget_permits(out);
        }
        if limit < state.logged {
            state.logged = limit;
            tracing::info!(limit, "the SMTP server takes fewer connections at the same time");
        }
    }

    /// A message was handed over.
    pub(super) fn message_was_taken(&self) {
        let mut state = self.state();
        state.messages += 1;
        if state.messages < state.raise_after || state.limit >= self.max {
            return;
        }
        (state.limit, state.messages) = (state.limit + 1, 0);
        state.raise_after = (state.raise_after / 2).max(RAISE_AFTER);
        match state.surplus {
            0 => self.turns.add_permits(1),
            _ => state.surplus -= 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Concurrency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Concurrency").field("limit", &self.state().limit).finish_non_exhaustive()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.concurrency.state();
        if let (1.., Some(permit)) = (state.surplus, self.permit.take()) {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

// === impl Place ===

impl Place {
    /// The session is open.
    pub(super) fn opened(&mut self) {
        self.is_open = true;
        self.concurrency.counts.send_modify(|counts| {
            counts.opening -= 1;
            counts.open += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.concurrency.counts.send_modify(|counts| match self.is_open {
            true => counts.open -= 1,
            false => counts.opening -= 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn open(concurrency: &Arc<Concurrency>) -> Place {
        let mut place = concurrency.place();
        place.opened();
        place
    }

    #[tokio::test]
    async fn a_burst_of_refusals_halves_the_limit_once_and_never_below_what_is_open() {
        let concurrency = Arc::new(Concurrency::new(10));
        let _open = [open(&concurrency), open(&concurrency)];
        let began = Instant::now();
        (0..8).for_each(|_| concurrency.lower(began));
        assert_eq!(concurrency.state().limit, 5);
        (0..5).for_each(|_| concurrency.lower(Instant::now()));
        assert_eq!(concurrency.state().limit, 2);
    }

    #[tokio::test]
    async fn turns_that_are_taken_when_the_limit_falls_end_when_they_are_given_back() {
        let concurrency = Arc::new(Concurrency::new(4));
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(concurrency.turn(soon()).await.unwrap());
        }
        concurrency.lower(Instant::now());
        turns.truncate(2);
        assert!(matches!(concurrency.turn(soon()).await, Err(DeliveryError::Busy)), "two are taken, two are allowed");
        turns.truncate(1);
        assert!(concurrency.turn(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn the_limit_grows_by_one_with_so_many_messages_up_to_the_configured_one() {
        let concurrency = Arc::new(Concurrency::new(4));
        concurrency.lower(Instant::now());
        for (messages, expected) in [(99, 2), (1, 3), (49, 3), (1, 4), (1000, 4)] {
            (0..messages).for_each(|_| concurrency.message_was_taken());
            assert_eq!(concurrency.state().limit, expected);
        }
        assert_eq!(concurrency.turns.available_permits(), 4);
    }

    #[tokio::test]
    async fn a_connection_that_is_being_opened_is_waited_for() {
        let concurrency = Arc::new(Concurrency::new(4));
        assert!(!concurrency.others_work().await);
        let mut place = concurrency.place();
        let (others_work, ()) = tokio::join!(concurrency.others_work(), async {
            tokio::task::yield_now().await;
            place.opened();
        });
        assert!(others_work);
    }
}
