//! Requests that wait because every instance of their service has as many as it may have.
//!
//! A short queue turns a burst into a delay; a long one turns overload into an outage, because by the time that a request is
//! served its client has given up. So it is bounded twice, in length and in time, and whoever does not fit is told at once:
//! shedding early is what keeps the goodput up (Google SRE book, chapter 21). One queue per core and service; who has waited
//! longest goes first.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::poll_fn,
    task::{Poll, Waker},
};

use discovery::ServiceName;
use tokio::time::{Instant, timeout_at};

/// The queues of one core; of services for which somebody waits.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    waiting: RefCell<HashMap<ServiceName, VecDeque<Waiter>>>,
    tickets: Cell<u64>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// `None`: it was woken, or does not wait yet.
    waker: Option<Waker>,
}

/// A place in a queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    queues: &'a Queues,
    service: &'a ServiceName,
    ticket: u64,
}

// === impl Queues ===

impl Queues {
    /// A place at the end of the queue of `service`; `None` when `max` wait already.
    pub(crate) fn enter<'a>(&'a self, service: &'a ServiceName, max: u32) -> Option<Place<'a>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.get(service).map_or(0, VecDeque::len) >= max as usize {
            return None;
        }
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        waiting.entry(service.clone()).or_default().push_back(Waiter { ticket, waker: None });
        Some(Place { queues: self, service, ticket })
    }

    /// A request of `service` is over: whoever has waited longest may try.
    pub(crate) fn one_left(&self, service: &ServiceName) {
        let mut waiting = self.waiting.borrow_mut();
        // Mostly nobody waits for anything.
        if waiting.is_empty() {
            return;
        }
        let waker = waiting.get_mut(service).into_iter().flatten().find_map(|waiter| waiter.waker.take());
        drop(waiting);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Somebody may have left on another core.
    pub(crate) fn tick(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let wakers: Vec<_> = waiting.values_mut().filter_map(|queue| queue.front_mut()?.waker.take()).collect();
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }
}

// === impl Place ===

impl Place<'_> {
    /// Waits until it is worth trying; false when that is not before `until`.
    pub(crate) async fn wait(&self, until: Instant) -> bool {
        let mut has_waited = false;
        let woken = poll_fn(|cx| {
            let mut waiting = self.queues.waiting.borrow_mut();
            let mut queue = waiting.get_mut(self.service).into_iter().flatten();
            let Some(waiter) = queue.find(|waiter| waiter.ticket == self.ticket) else { return Poll::Ready(()) };
            if has_waited && waiter.waker.is_none() {
                return Poll::Ready(());
            }
            has_waited = true;
            waiter.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        timeout_at(until, woken).await.is_ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting.borrow_mut();
        if let Some(queue) = waiting.get_mut(self.service) {
            queue.retain(|waiter| waiter.ticket != self.ticket);
            if queue.is_empty() {
                waiting.remove(self.service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_goes_first() {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let (a, b) = (queues.enter(&mail, 2).unwrap(), queues.enter(&mail, 2).unwrap());
        assert!(queues.enter(&mail, 2).is_none(), "the queue is full");
        let first = async {
            assert!(a.wait(soon()).await);
            drop(a);
            "a"
        };
        let wake = async {
            tokio::task::yield_now().await;
            queues.one_left(&mail);
        };
        assert_eq!(tokio::join!(first, wake).0, "a");
        assert!(!b.wait(soon()).await, "nobody has left since");
        drop(b);
        assert!(queues.waiting.borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_lets_the_first_try() {
        let (queues, mail): (Queues, ServiceName) = (Queues::default(), "mail".parse().unwrap());
        let a = queues.enter(&mail, 1).unwrap();
        let tick = async {
            tokio::task::yield_now().await;
            queues.tick();
        };
        assert!(tokio::join!(a.wait(soon()), tick).0);
    }
}
