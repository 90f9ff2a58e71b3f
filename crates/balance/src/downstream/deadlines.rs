//! One client connection: what it is doing, and what it is waiting for.
//!
//! A connection is one task, whatever it is busy with: reading a head, relaying a body, waiting for an instance. So its
//! deadlines need no timers of their own. A wait is a deadline in a cell; the core's ticker looks over all cells ten
//! times a second and wakes a task with a wait that is over; the task then finds out, where it waits, that its wait is
//! over. Moving a deadline is a store, and an idle connection costs no timer.
//!
//! | waits for | limit | then |
//! |---|---|---|
//! | [`Waiting::Request`] | `keep_alive`; half a second while draining | the connection closes |
//! | [`Waiting::Head`] | `header_timeout`, for the whole head | 408 |
//! | [`Waiting::Body`] | `body_idle_timeout`, between two pieces | 408 |
//! | [`Waiting::Response`] | `response_timeout`, since the request's last byte was sent | 504 |
//! | [`Waiting::Try`] | `stall_timeout` and others, for one attempt | another attempt |
//! | [`Waiting::ResponseBody`] | `stream_idle_timeout`, between two pieces | the connection breaks |
//! | [`Waiting::Client`] (to take what we write) | `stream_idle_timeout` | the connection breaks |
//! | [`Waiting::Pace`] (of the client, while it takes nothing) | a second | it is looked whether it takes more, and is fast enough |
//! | [`Waiting::Tunnel`] | `tunnel_idle_timeout`, in both directions; `half_closed_timeout`, in the one that is left | the connection closes |
//! | [`Waiting::Reset`] | half a second, from a client that has ended its direction | its socket is asked |

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
    time::Duration,
};

use service_kit::connections::Place;

use crate::{
    clock::{Clock, Millis, TICK},
    message::headers::Client,
};

/// How long a connection waits for a request while the core drains: one that was sent before its client could know of the
/// end is answered, with `Connection: close`.
const LAST_REQUEST_MAX: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ConnectionTimers {
    pub(crate) client: Client,
    /// Among the connections of all cores.
    seat: Place,
    clock: Rc<Clock>,
    phase: Cell<Phase>,
    /// Until when, by [`Waiting`]; zero: not waiting.
    deadlines: [Cell<Millis>; Waiting::COUNT],
    /// How long an instance that owes a response may take for it, once the client is no longer slow with the body.
    response_limit: Cell<Option<Duration>>,
    is_draining: Cell<bool>,
    /// Whether it came after the end had begun.
    is_late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Its place in [`CoreConnections`].
    place: Cell<usize>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests, or before the first.
    Idle,
    /// Some of a request's head has arrived.
    Head,
    /// A request is being served: its response is being made, or relayed.
    Serving,
    /// The response is complete, but for what the client has yet to take.
    Flushing,
}

/// What a connection may be waiting for, several at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Waiting {
    Request,
    Head,
    Body,
    Response,
    Try,
    ResponseBody,
    Client,
    Tunnel,
    Reset,
    Pace,
}

// === impl Waiting ===

impl Waiting {
    const COUNT: usize = Self::Pace as usize + 1;
}

// === impl ConnectionTimers ===

impl ConnectionTimers {
    /// One that is not counted.
    #[cfg(test)]
    pub(crate) fn new(client: Client, clock: Rc<Clock>) -> Self {
        Self::at(Place::uncounted(), client, clock)
    }

    /// One that has this place among all.
    pub(crate) fn at(seat: Place, client: Client, clock: Rc<Clock>) -> Self {
        Self {
            client,
            seat,
            clock,
            phase: Cell::new(Phase::Idle),
            deadlines: Default::default(),
            response_limit: Cell::default(),
            is_draining: Cell::default(),
            is_late: Cell::default(),
            waker: RefCell::default(),
            place: Cell::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        match phase {
            // What is left to flush is the last of the connection: the client has its answer, or is slow to take it.
            Phase::Idle | Phase::Flushing => self.seat.wait(self.clock.now().0),
            // It waits as long as it has: dripping a head gains nothing.
            Phase::Head => {}
            Phase::Serving => self.seat.begin(),
        }
    }

    /// Its place among the connections of all cores.
    pub(crate) fn seat(&self) -> &Place {
        &self.seat
    }

    /// Starts to wait, anew if it waits already.
    pub(crate) fn wait(&self, waiting: Waiting, limit: Duration) {
        // The clock may be a tick behind; a limit is never cut short by that.
        self.deadlines[waiting as usize].set(self.clock.now() + limit + TICK);
    }

    /// Starts to wait, unless it waits already.
    pub(crate) fn keep_waiting(&self, waiting: Waiting, limit: Duration) {
        if self.deadlines[waiting as usize].get() == Millis(0) {
            self.wait(waiting, limit);
        }
    }

    /// If it waits, it has waited for long enough.
    fn hasten(&self, waiting: Waiting, now: Millis) {
        let deadline = &self.deadlines[waiting as usize];
        if deadline.get() > now {
            deadline.set(now);
        }
    }

    pub(crate) fn stop(&self, waiting: Waiting) {
        self.deadlines[waiting as usize].set(Millis(0));
    }

    /// Whether it has waited for too long.
    pub(crate) fn is_over(&self, waiting: Waiting) -> bool {
        let deadline = self.deadlines[waiting as usize].get();
        deadline != Millis(0) && deadline <= self.clock.now()
    }

    /// From now on an instance owes a response, `limit` after the last piece of the request; `None`: it does no longer.
    pub(crate) fn expect_response(&self, limit: Option<Duration>) {
        self.response_limit.set(limit);
        match limit {
            Some(limit) => self.wait(Waiting::Response, limit),
            None => self.stop(Waiting::Response),
        }
    }

    /// A piece of the request's body went to the instance: its time to answer starts again.
    pub(crate) fn body_moved(&self) {
        self.stop(Waiting::Body);
        if let Some(limit) = self.response_limit.get() {
            self.wait(Waiting::Response, limit);
        }
    }

    /// The instance would take more of the body, but the client is slow: that is not the instance's time.
    pub(crate) fn body_stalled(&self, body_limit: Duration) {
        self.keep_waiting(Waiting::Body, body_limit);
        self.stop(Waiting::Response);
    }

    /// The time of the core's last tick.
    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Waits for nothing any more.
    pub(crate) fn stop_all(&self) {
        self.deadlines.iter().for_each(|deadline| deadline.set(Millis(0)));
    }

    /// Whether the next response is the last one of the connection.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get() || self.seat.is_evicted()
    }

    /// Starts to wait for a request: for `keep_alive`, or while draining for no longer than it takes a client that has
    /// just sent one.
    pub(crate) fn wait_for_request(&self, keep_alive: Duration) {
        let limit = if self.is_draining() { keep_alive.min(LAST_REQUEST_MAX) } else { keep_alive };
        self.wait(Waiting::Request, limit);
    }

    /// From now on the next response is the last one. A connection that waits for a request does not wait much longer;
    /// one whose head has begun to arrive is awaited as ever.
    fn drain(&self) {
        self.is_draining.set(true);
        let deadline = &self.deadlines[Waiting::Request as usize];
        if deadline.get() != Millis(0) {
            deadline.set(deadline.get().min(self.clock.now() + LAST_REQUEST_MAX + TICK));
        }
    }

    /// Remembers the task to be woken.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn has_expired_wait(&self, now: Millis) -> bool {
        self.deadlines.iter().any(|deadline| deadline.get() != Millis(0) && deadline.get() <= now)
    }
}

/// The connections of one core.
#[derive(Debug, Default)]
pub(crate) struct CoreConnections {
    all: RefCell<Vec<Rc<ConnectionTimers>>>,
    is_draining: Cell<bool>,
    /// As of the last tick.
    findings: Cell<u64>,
}

impl CoreConnections {
    pub(crate) fn add(&self, timers: &Rc<ConnectionTimers>) {
        let mut all = self.all.borrow_mut();
        timers.is_draining.set(self.is_draining.get());
        timers.is_late.set(self.is_draining.get());
        timers.place.set(all.len());
        all.push(Rc::clone(timers));
    }

    pub(crate) fn remove(&self, timers: &ConnectionTimers) {
        let mut all = self.all.borrow_mut();
        let place = timers.place.get();
        all.swap_remove(place);
        if let Some(moved) = all.get(place) {
            moved.place.set(place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Whether there are any from before the end began.
    pub(crate) fn has_old(&self) -> bool {
        self.all.borrow().iter().any(|timers| !timers.is_late.get())
    }

    /// How many have a request under way, or a part of one.
    pub(crate) fn busy(&self) -> usize {
        let is_busy = |timers: &ConnectionTimers| matches!(timers.phase(), Phase::Head | Phase::Serving);
        self.all.borrow().iter().filter(|timers| is_busy(timers)).count()
    }

    /// Wakes the connections whose deadline has passed; and when `findings` is another number than last time, those that wait for an
    /// attempt: its instance may be the one that was found silent (`vitals::findings`).
    pub(crate) fn tick(&self, now: Millis, findings: u64) {
        let is_news = self.findings.replace(findings) != findings;
        for timers in &*self.all.borrow() {
            if is_news {
                timers.hasten(Waiting::Try, now);
            }
            if timers.has_expired_wait(now) {
                timers.wake();
            }
        }
    }

    /// From now on every response is the last one of its connection, also of connections that are still to come, and no
    /// connection waits for a request for long.
    pub(crate) fn drain(&self) {
        self.is_draining.set(true);
        self.all.borrow().iter().for_each(|timers| timers.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Rc<ConnectionTimers>, Rc<Clock>) {
        let clock = Rc::new(Clock::default());
        let client = Client::new("10.0.0.9".parse().unwrap(), false);
        (Rc::new(ConnectionTimers::new(client, Rc::clone(&clock))), clock)
    }

    #[test]
    fn a_wait_is_over_after_its_limit_and_not_before() {
        let (timers, clock) = connection();
        assert!(!timers.is_over(Waiting::Head), "without a wait there is nothing to be over");
        timers.wait(Waiting::Head, Duration::from_secs(5));
        clock.set_to(Millis(5_000));
        assert!(!timers.is_over(Waiting::Head));
        timers.keep_waiting(Waiting::Head, Duration::from_secs(5));
        clock.set_to(Millis(5_100));
        assert!(timers.is_over(Waiting::Head) && timers.has_expired_wait(clock.now()));
        timers.stop(Waiting::Head);
        assert!(!timers.has_expired_wait(clock.now()));
    }

    #[test]
    fn a_wait_for_an_attempt_is_checked_at_once_when_an_instance_was_found_silent() {
        let (waiting, clock) = connection();
        let idle = Rc::new(ConnectionTimers::new(waiting.client.clone(), Rc::clone(&clock)));
        let all = CoreConnections::default();
        all.add(&waiting);
        all.add(&idle);
        clock.set_to(Millis(1_000));
        waiting.wait(Waiting::Try, Duration::from_millis(100));
        all.tick(clock.now(), 0);
        assert!(!waiting.is_over(Waiting::Try), "nothing was found");
        all.tick(clock.now(), 1);
        assert!(waiting.is_over(Waiting::Try) && !idle.is_over(Waiting::Try));
        waiting.wait(Waiting::Try, Duration::from_millis(100));
        all.tick(clock.now(), 1);
        assert!(!waiting.is_over(Waiting::Try), "it is hastened once");
    }

    #[test]
    fn a_slow_client_does_not_use_up_the_time_of_the_instance() {
        let (timers, clock) = connection();
        let limit = Duration::from_secs(1);
        timers.expect_response(Some(limit));
        timers.body_stalled(Duration::from_secs(30));
        clock.set_to(Millis(20_000));
        assert!(!timers.is_over(Waiting::Response));
        timers.body_moved();
        clock.set_to(Millis(21_100));
        assert!(timers.is_over(Waiting::Response));
        timers.expect_response(None);
        timers.body_moved();
        assert!(!timers.has_expired_wait(Millis(u64::MAX)), "no response is owed any more");
    }

    #[test]
    fn the_end_shortens_the_wait_for_a_request_and_no_other() {
        let all = CoreConnections::default();
        let (timers, clock) = connection();
        all.add(&timers);
        timers.wait_for_request(Duration::from_secs(60));
        timers.wait(Waiting::Head, Duration::from_secs(5));
        all.drain();
        clock.set_to(Millis(600));
        assert!(timers.is_over(Waiting::Request) && !timers.is_over(Waiting::Head));
        timers.wait_for_request(Duration::from_secs(60));
        assert!(!timers.is_over(Waiting::Request));
        clock.set_to(Millis(1200));
        assert!(timers.is_over(Waiting::Request), "the wait after a response is as short");
        let (late, _) = self::connection();
        all.add(&late);
        assert!(late.is_draining(), "a connection that comes after the end began is closed by its response as well");
        assert!(all.has_old());
        all.remove(&timers);
        assert!(!all.has_old() && !all.is_empty(), "and is not waited for as those from before are");
    }

    #[test]
    fn connections_come_and_go_in_any_order() {
        let all = CoreConnections::default();
        let three: Vec<_> = (0..3).map(|_| connection().0).collect();
        three.iter().for_each(|one| all.add(one));
        for gone in [0, 2, 1] {
            all.remove(&three[gone]);
        }
        assert!(all.is_empty());
    }
}
