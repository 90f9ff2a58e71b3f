//! How many connections at the same time the server takes from us, learned from what it refuses.
//!
//! Servers limit the connections of a client (Postfix: 50, `smtpd_client_connection_count_limit`; many providers: far
//! fewer), and say 421, hang up, or let the connection wait. None of them says how many it takes. So the limit is found
//! as TCP finds a rate (RFC 5681): it starts at the configured one; a connection that is not opened *while others work*
//! halves it, though not below what is open at that moment, since that much is taken; every [`RAISE_AFTER`] messages it
//! grows by one. Each refusal doubles that number, up to [`RAISE_AFTER_MAX`], and each growth halves it, so that a
//! server is not knocked at again and again. Attempts that began before the last decrease do not decrease again: ten
//! connections refused at once are one piece of news.
//!
//! A message whose connection was refused waits for its turn again, so it costs nothing but time. While *none* is open,
//! or nothing was heard over those that are for [`HEARD_WITHIN`], the server itself is in trouble, and the error is
//! returned: a host that died takes no leave, and a message under way there would count as work until its patience
//! ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::transport::outcome::DeliveryError;

/// Messages handed over before one more connection is tried.
const RAISE_AFTER: usize = 50;
/// The same after many refusals.
const RAISE_AFTER_MAX: usize = 5000;
/// How long a connection that was refused waits for news of others that are being opened.
const NEWS_DEADLINE: Duration = Duration::from_secs(2);

/// How long a server may say nothing over any connection before it counts as one that does not work. Servers that look
/// into a message after its final dot take seconds.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// See the module.
pub(super) struct Concurrency {
    turns: Semaphore,
    /// The one of those who are not urgent that stands in the line for a turn.
    next: tokio::sync::Mutex<()>,
    max: usize,
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
}

struct State {
    limit: usize,
    /// Turns above the limit that are still taken; they end when they are given back.
    surplus: usize,
    lowered_at: Option<Instant>,
    /// When the server last said something over an open connection.
    heard_at: Option<Instant>,
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
pub(super) struct ConnectionPermit {
    concurrency: Arc<Concurrency>,
    is_open: bool,
}

// === impl Concurrency ===

impl Concurrency {
    /// Starts with all of `max`.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        let state = State {
            limit: max,
            surplus: 0,
            lowered_at: None,
            heard_at: None,
            messages: 0,
            raise_after: RAISE_AFTER,
            logged: max,
        };
        Self {
            turns: Semaphore::new(max),
            next: tokio::sync::Mutex::default(),
            max,
            state: Mutex::new(state),
            counts: watch::Sender::default(),
        }
    }

    /// Waits for a turn until `deadline`; first come, first served, but of those who are not urgent only one stands in
    /// the line: a message whose client waits does not wait for all that the outbox has.
    pub(super) async fn turn(&self, deadline: Instant, is_urgent: bool) -> Result<Turn<'_>, DeliveryError> {
        // A free turn is no use to a message whose time is up.
        if Instant::now() >= deadline {
            return Err(DeliveryError::Busy);
        }
        let acquiring = async {
            let _first = if is_urgent { None } else { Some(self.next.lock().await) };
            self.turns.acquire().await
        };
        match timeout_at(deadline, acquiring).await {
            Ok(Ok(permit)) => Ok(Turn { concurrency: self, permit: Some(permit) }),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(DeliveryError::Busy),
        }
    }

    /// A connection that is about to be opened.
    pub(super) fn place(self: &Arc<Self>) -> ConnectionPermit {
        self.counts.send_modify(|counts| counts.opening += 1);
        ConnectionPermit { concurrency: Arc::clone(self), is_open: false }
    }

    /// Whether another connection is open, over which the server spoke not long ago. One that is being opened is waited
    /// for, for a moment.
    pub(super) async fn others_work(&self) -> bool {
        let mut counts = self.counts.subscribe();
        let news = counts.wait_for(|counts| counts.open > 0 || counts.opening == 0);
        let others = timeout(NEWS_DEADLINE, news).await;
        let is_open = matches!(others, Ok(Ok(counts)) if counts.open > 0);
        is_open && self.state().heard_at.is_some_and(|heard_at| heard_at.elapsed() < HEARD_WITHIN)
    }

    fn heard(&self) {
        self.state().heard_at = Some(Instant::now());
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
            tracing::info!(limit, "the SMTP server takes fewer concurrent connections; limit lowered");
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

// === impl ConnectionPermit ===

impl ConnectionPermit {
    /// The session is open.
    pub(super) fn opened(&mut self) {
        self.is_open = true;
        self.heard();
        self.concurrency.counts.send_modify(|counts| {
            counts.opening -= 1;
            counts.open += 1;
        });
    }

    /// The server has said something over this connection.
    pub(super) fn heard(&self) {
        self.concurrency.heard();
    }
}

impl Drop for ConnectionPermit {
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

    fn open(concurrency: &Arc<Concurrency>) -> ConnectionPermit {
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
            turns.push(concurrency.turn(soon(), true).await.unwrap());
        }
        concurrency.lower(Instant::now());
        turns.truncate(2);
        assert!(
            matches!(concurrency.turn(soon(), true).await, Err(DeliveryError::Busy)),
            "two are taken, two are allowed"
        );
        turns.truncate(1);
        assert!(concurrency.turn(soon(), true).await.is_ok());
    }

    #[tokio::test]
    async fn of_those_who_are_not_urgent_one_is_before_an_urgent_one_and_the_others_are_not() {
        let concurrency = Arc::new(Concurrency::new(1));
        let held = concurrency.turn(soon(), true).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for (name, is_urgent) in [("first", false), ("second", false), ("third", false), ("urgent", true)] {
            let concurrency = Arc::clone(&concurrency);
            let order = Arc::clone(&order);
            waiting.spawn(async move {
                let _turn = concurrency.turn(Instant::now() + Duration::from_secs(60), is_urgent).await.unwrap();
                order.lock().unwrap().push(name);
                tokio::task::yield_now().await;
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        waiting.join_all().await;
        assert_eq!(*order.lock().unwrap(), ["first", "urgent", "second", "third"]);
    }

    #[tokio::test]
    async fn a_free_turn_is_no_use_when_the_time_is_up() {
        let concurrency = Arc::new(Concurrency::new(1));
        assert!(matches!(concurrency.turn(Instant::now(), true).await, Err(DeliveryError::Busy)));
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

    #[tokio::test(start_paused = true)]
    async fn an_open_connection_over_which_nothing_is_heard_is_no_sign_of_work() {
        let concurrency = Arc::new(Concurrency::new(4));
        let place = open(&concurrency);
        assert!(concurrency.others_work().await);
        tokio::time::advance(HEARD_WITHIN).await;
        assert!(!concurrency.others_work().await);
        place.heard();
        assert!(concurrency.others_work().await);
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
