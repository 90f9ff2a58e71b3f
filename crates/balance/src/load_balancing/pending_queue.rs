//! Requests that wait because every instance of their service has as many as it may have.
//!
//! A short queue turns a burst into a delay; a long one turns overload into an outage, because by the time that a request is
//! served its client has given up. So it is bounded twice, in length and in time, and a request that does not fit is refused at once:
//! shedding early is what keeps the goodput up (Google SRE book, chapter 21). One queue per core and service.
//!
//! First in, first out while every wait stays under half of `queue_timeout`. When it no longer does, this
//! is overload, and that rule would be the worst: every request would wait for nearly the whole of the time and be served when it
//! is, for the client, too late. So from then on, until the queue is empty once, who came last goes first, and a newcomer
//! waits only for as long as [`TURNS_WAITED`] others take to leave: what is served is served soon, and the rest is told soon
//! (adaptive LIFO and controlled delay: Maurer, "Fail at Scale", ACM Queue 13(8), 2015; after `CoDel`, RFC 8289).

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::poll_fn,
    task::{Poll, Waker},
    time::Duration,
};

use discovery::ServiceName;
use tokio::time::{Instant, timeout_at};

/// Under overload a newcomer waits for so many turns: enough that a place is never left empty for want of a request that waits,
/// whatever the pace of the service.
const TURNS_WAITED: u32 = 8;
/// But no shorter than this: the runtime's timers are no finer than a millisecond, and a core may be busy.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The pace is that of about so long ago until now.
const PACE_MEMORY: Duration = Duration::from_secs(2);

/// The queues of one core; of services for which requests wait.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    waiting: RefCell<HashMap<ServiceName, Queue>>,
    tickets: Cell<u64>,
}

/// Those who wait for one service, in the order in which they came.
#[derive(Debug)]
struct Queue {
    waiters: VecDeque<Waiter>,
    /// Set once a request has waited for more than half of `queue_timeout`; cleared when the queue is empty.
    is_overloaded: bool,
    pace: Pace,
}

/// How fast places become free.
#[derive(Debug)]
struct Pace {
    since: Instant,
    turns: u32,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// By when its turn should have come.
    half_time: Instant,
    /// `None`: it was woken, or does not wait yet.
    waker: Option<Waker>,
}

/// A place in a queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    queues: &'a Queues,
    service: &'a ServiceName,
    ticket: u64,
    until: Instant,
}

// === impl Queues ===

impl Queues {
    /// A place at the end of the queue of `service`, for `timeout` at most; `None` when `max` wait already.
    pub(crate) fn enter<'a>(&'a self, service: &'a ServiceName, max: u32, timeout: Duration) -> Option<Place<'a>> {
        let (mut waiting, now) = (self.waiting.borrow_mut(), Instant::now());
        if waiting.get(service).map_or(0, |queue| queue.waiters.len()) >= max as usize {
            return None;
        }
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        let queue = waiting.entry(service.clone()).or_insert_with(|| Queue::new(now));
        let patience = queue.patience(timeout, now);
        queue.waiters.push_back(Waiter { ticket, half_time: now + patience / 2, waker: None });
        Some(Place { queues: self, service, ticket, until: now + patience })
    }

    /// How many requests of that service wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self, service: &str) -> usize {
        let waiting = self.waiting.borrow();
        waiting.iter().find(|(name, _)| name.as_str() == service).map_or(0, |(_, queue)| queue.waiters.len())
    }

    /// A request of `service` is over: the next in turn may try.
    pub(crate) fn one_left(&self, service: &ServiceName) {
        let mut waiting = self.waiting.borrow_mut();
        // Mostly no request waits.
        if waiting.is_empty() {
            return;
        }
        let waker = waiting.get_mut(service).and_then(|queue| {
            let now = Instant::now();
            queue.pace.turn(now);
            queue.next(now)
        });
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }

    /// A request may have ended on another core.
    pub(crate) fn tick(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        let wakers: Vec<_> = waiting.values_mut().filter_map(|queue| queue.next(now)).collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

// === impl Queue ===

impl Queue {
    fn new(now: Instant) -> Self {
        Self { waiters: VecDeque::new(), is_overloaded: false, pace: Pace { since: now, turns: 0 } }
    }

    /// How long a newcomer may wait.
    fn patience(&mut self, timeout: Duration, now: Instant) -> Duration {
        match self.pace.turn_lasts(now).filter(|_| self.is_overloaded(now)) {
            Some(turn) => timeout.min(WAIT_MIN.max(turn * TURNS_WAITED)),
            None => timeout,
        }
    }

    /// Whose turn it is.
    fn next(&mut self, now: Instant) -> Option<Waker> {
        let is_overloaded = self.is_overloaded(now);
        let mut waiters = self.waiters.iter_mut();
        let mut take = |waiter: &mut Waiter| waiter.waker.take();
        if is_overloaded { waiters.rev().find_map(&mut take) } else { waiters.find_map(&mut take) }
    }

    fn is_overloaded(&mut self, now: Instant) -> bool {
        self.is_overloaded |= self.waiters.front().is_some_and(|first| first.half_time < now);
        self.is_overloaded
    }
}

// === impl Pace ===

impl Pace {
    fn turn(&mut self, now: Instant) {
        let lasted = now.duration_since(self.since);
        if lasted > PACE_MEMORY {
            self.since = now - lasted / 2;
            self.turns /= 2;
        }
        self.turns += 1;
    }

    /// How long after one the next leaves; `None` when none has left yet.
    fn turn_lasts(&self, now: Instant) -> Option<Duration> {
        now.duration_since(self.since).checked_div(self.turns)
    }
}

// === impl Place ===

impl Place<'_> {
    /// Waits until it is worth trying; false when that is not in time.
    pub(crate) async fn wait(&self) -> bool {
        let mut has_waited = false;
        let woken = poll_fn(|cx| {
            let mut waiting = self.queues.waiting.borrow_mut();
            let mut waiters = waiting.get_mut(self.service).into_iter().flat_map(|queue| &mut queue.waiters);
            let Some(waiter) = waiters.find(|waiter| waiter.ticket == self.ticket) else { return Poll::Ready(()) };
            if has_waited && waiter.waker.is_none() {
                return Poll::Ready(());
            }
            has_waited = true;
            waiter.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        timeout_at(self.until, woken).await.is_ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting.borrow_mut();
        if let Some(queue) = waiting.get_mut(self.service) {
            queue.waiters.retain(|waiter| waiter.ticket != self.ticket);
            if queue.waiters.is_empty() {
                waiting.remove(self.service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    async fn waits(place: Place<'_>, name: &'static str, order: &RefCell<Vec<&'static str>>) {
        assert!(place.wait().await, "{name} must have its turn");
        order.borrow_mut().push(name);
    }

    /// The order in which three have their turns, the last of whom came `pause` after the others, and as long before the turns.
    async fn order(pause: Duration) -> Vec<&'static str> {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let order = RefCell::default();
        let (a, b) = (queues.enter(&mail, 3, TIMEOUT).unwrap(), queues.enter(&mail, 3, TIMEOUT).unwrap());
        let late = async {
            sleep(pause).await;
            waits(queues.enter(&mail, 3, TIMEOUT).unwrap(), "c", &order).await;
        };
        let turns = async {
            sleep(pause * 2).await;
            for _ in 0..3 {
                queues.one_left(&mail);
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(waits(a, "a", &order), waits(b, "b", &order), late, turns);
        assert!(queues.waiting.borrow().is_empty());
        order.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_goes_first_while_turns_come_in_time() {
        assert_eq!(order(Duration::from_millis(200)).await, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn under_overload_who_came_last_goes_first() {
        assert_eq!(order(Duration::from_millis(300)).await, ["c", "b", "a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_and_one_that_nobody_leaves_end_the_wait() {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let started = Instant::now();
        let a = queues.enter(&mail, 1, TIMEOUT).unwrap();
        assert!(queues.enter(&mail, 1, TIMEOUT).is_none(), "the queue is full");
        assert!(!a.wait().await && started.elapsed() >= TIMEOUT, "nobody has left");
    }

    #[tokio::test(start_paused = true)]
    async fn under_overload_a_newcomer_waits_as_long_as_a_few_turns_take() {
        // Turns of a fast service, of one that takes its time, of a slow one, and of one that nobody leaves.
        for (turn_ms, turns, patience_ms) in [(2, 300, 50), (60, 10, 480), (300, 2, 1000), (600, 0, 1000)] {
            let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
            let _in_vain = queues.enter(&mail, 9, TIMEOUT).unwrap();
            for _ in 0..turns {
                advance(Duration::from_millis(turn_ms)).await;
                queues.one_left(&mail);
            }
            advance(Duration::from_millis(600 - turn_ms * turns)).await;
            let place = queues.enter(&mail, 9, TIMEOUT).unwrap();
            assert_eq!(place.until.duration_since(Instant::now()).as_millis(), patience_ms, "turns of {turn_ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn overload_is_over_when_the_queue_is_empty() {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let in_vain = queues.enter(&mail, 9, TIMEOUT).unwrap();
        (0..100).for_each(|_| queues.one_left(&mail));
        advance(Duration::from_millis(600)).await;
        assert!(queues.enter(&mail, 9, TIMEOUT).unwrap().until - Instant::now() < TIMEOUT);
        drop(in_vain);
        assert_eq!(queues.enter(&mail, 9, TIMEOUT).unwrap().until - Instant::now(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_lets_somebody_try() {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let a = queues.enter(&mail, 1, TIMEOUT).unwrap();
        let tick = async {
            tokio::task::yield_now().await;
            queues.tick();
        };
        assert!(tokio::join!(a.wait(), tick).0);
    }
}
