//! One long-lived keep-alive stream, shared by many leases.
//!
//! Requests go in, responses come out in the same order. So who waits stands in a queue: a caller puts its request into
//! the stream and itself at the end, and a task that reads responses hands each to the first one. The first caller opens
//! the stream with its own request. When the stream breaks, or one response is overdue, the stream is closed, every
//! call that waits for its response fails at once, and the next caller opens a new one.
//!
//! While the member takes no requests, callers wait for room in the stream, one at a time in front of it and the others
//! behind that one. When the stream is closed meanwhile, their own time limits cut them off at the latest.
//!
//! A caller may leave at any time: its response is read and forgotten, and no other caller notices. If it was the one whose
//! response is overdue, the next one that comes closes the stream.
//!
//! etcd answers a keep-alive for a lease that has expired but is not yet deleted only after its deletion, and
//! everything behind it on the stream waits as well. Therefore a member has several streams, and one that stalls is
//! closed.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use discovery::LeaseId;
use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use futures::FutureExt as _;
use tokio::{
    sync::{Mutex as AsyncMutex, oneshot},
    time::Instant,
};

use crate::client::failure::Failure;

/// How many streams one member gets: enough that one stalled lease delays few others.
const STREAMS: usize = 8;

/// The keep-alive streams of one member.
#[derive(Debug)]
pub(crate) struct KeepAliveStreams([Arc<KeepAliveStream>; STREAMS]);

#[derive(Debug, Default)]
pub(crate) struct KeepAliveStream {
    /// Held by the caller who opens the stream, so that the others wait for that instead of opening their own.
    opening: AsyncMutex<()>,
    open: Mutex<Option<Open>>,
}

/// An open stream.
#[derive(Debug)]
struct Open {
    keeper: LeaseKeeper,
    /// Whose requests are not answered yet, the oldest first.
    waiting: VecDeque<Waiting>,
    /// Held by the caller that waits for room until it has tried again. Room that is given back goes to the caller that
    /// has waited longest: several would pass it round, and none would find it when it tries.
    room: Arc<AsyncMutex<()>>,
    /// Which opening this is: an old reader or an old waiter must not close a new stream.
    generation: u64,
}

/// Who waits for a response.
#[derive(Debug)]
struct Waiting {
    lease: LeaseId,
    /// When the response is overdue.
    until: Instant,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Duration, Failure>;

/// A stream that was opened with a lease's request, and the TTL that its first response told.
pub(crate) type Opened = (Duration, LeaseKeeper, LeaseKeepAliveStream);

/// What became of a request that was to be put into an open stream.
enum Put {
    Sent(Sent),
    /// What was put in before is not sent yet.
    NoRoom,
    Closed,
}

/// A request that is on its way.
struct Sent {
    answer: oneshot::Receiver<Answer>,
    generation: u64,
}

/// Closes the stream when the waiting call is cut off by its time limit, and not when it is dropped before.
struct CloseIfLate<'a> {
    stream: &'a KeepAliveStream,
    generation: u64,
    until: Instant,
    is_answered: bool,
}

// === impl KeepAliveStreams ===

impl Default for KeepAliveStreams {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Arc::default()))
    }
}

impl KeepAliveStreams {
    /// The stream on which `lease` is kept alive.
    pub(crate) fn of(&self, lease: LeaseId) -> &Arc<KeepAliveStream> {
        // Ids that etcd chooses count up in their lowest bits, ours are random there.
        &self.0[usize::try_from(lease.0.unsigned_abs() % STREAMS as u64).expect("less than STREAMS")]
    }
}

// === impl KeepAliveStream ===

impl KeepAliveStream {
    /// Keeps `lease` alive over the member to which this stream belongs, on which `open_stream` opens a stream when
    /// there is none; returns its TTL.
    ///
    /// The caller drops this at `until`, which closes the stream, because a response that is late delays all others; or
    /// at any time before, which no other caller notices.
    pub(crate) async fn keep_alive<F>(
        self: &Arc<Self>,
        lease: LeaseId,
        until: Instant,
        open_stream: impl FnOnce() -> F,
    ) -> Answer
    where
        F: Future<Output = Result<Opened, Failure>>,
    {
        loop {
            if let Some(sent) = self.send(lease, until).await {
                return self.receive(sent, until).await;
            }
            let opening = self.opening.lock().await;
            if !self.is_open() {
                // The opener's first response is its own.
                return self.open(open_stream().await?);
            }
            drop(opening);
        }
    }

    /// Takes a stream into use, and has its responses read. A lease that is gone opens none.
    fn open(self: &Arc<Self>, (ttl, keeper, stream): Opened) -> Answer {
        let generation = rand::random();
        *self.lock() = Some(Open::new(keeper, generation));
        tokio::spawn(read(Arc::downgrade(self), generation, stream));
        Ok(ttl)
    }

    /// Sends a request, if the stream is open and not overdue.
    async fn send(&self, lease: LeaseId, until: Instant) -> Option<Sent> {
        let mut first_of = None;
        loop {
            let (requests, room, generation) = {
                let mut slot = self.lock();
                let open = slot.as_mut().filter(|open| !open.is_overdue(Instant::now()));
                match open.map(|open| open.send(lease, until)) {
                    Some(Put::Sent(sent)) => return Some(sent),
                    Some(Put::NoRoom) => {
                        let open = slot.as_ref()?;
                        (open.keeper.sender.clone(), Arc::clone(&open.room), open.generation)
                    }
                    Some(Put::Closed) | None => {
                        *slot = None;
                        return None;
                    }
                }
            };
            // The member takes nothing at the moment.
            if first_of.as_ref().is_none_or(|(of, _)| *of != generation) {
                drop(requests);
                first_of = Some((generation, room.lock_owned().await));
                continue;
            }
            let _room_or_closed = requests.reserve().await;
        }
    }

    async fn receive(&self, Sent { answer, generation }: Sent, until: Instant) -> Answer {
        let mut close = CloseIfLate { stream: self, generation, until, is_answered: false };
        let answer = answer.await;
        close.is_answered = true;
        answer.unwrap_or_else(|_| Err(Failure::Unreachable("the keep-alive stream was closed".into())))
    }

    /// Closes the stream, if it is still this one. Waiting callers notice because their sender is dropped.
    fn close(&self, generation: u64) {
        let mut open = self.lock();
        if open.as_ref().is_some_and(|open| open.generation == generation) {
            *open = None;
        }
    }

    fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Open ===

impl Open {
    fn new(keeper: LeaseKeeper, generation: u64) -> Self {
        Self { keeper, waiting: VecDeque::new(), room: Arc::default(), generation }
    }

    /// Puts a request into the stream, and who waits for its response into the queue, in one step: so both have the same
    /// order.
    fn send(&mut self, lease: LeaseId, until: Instant) -> Put {
        self.keeper.id = lease.0;
        match self.keeper.keep_alive().now_or_never() {
            Some(Ok(())) => {}
            Some(Err(_)) => return Put::Closed,
            None => return Put::NoRoom,
        }
        let (sender, answer) = oneshot::channel();
        self.waiting.push_back(Waiting { lease, until, answer: sender });
        Put::Sent(Sent { answer, generation: self.generation })
    }

    /// Whether the oldest request should have been answered by `now`.
    fn is_overdue(&self, now: Instant) -> bool {
        self.waiting.front().is_some_and(|oldest| oldest.until <= now)
    }

    /// Takes the first one out of the queue that waits for `lease`: the very first, unless something between us and etcd
    /// has mixed up the responses.
    fn take(&mut self, lease: LeaseId) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| waiting.lease == lease)?;
        self.waiting.remove(place)
    }
}

/// Hands responses to the waiting callers, until the stream ends or its slot is dropped.
async fn read(this: Weak<KeepAliveStream>, generation: u64, mut stream: LeaseKeepAliveStream) {
    while let Ok(Some(response)) = stream.message().await {
        let Some(this) = this.upgrade() else { return };
        let mut open = this.lock();
        let Some(open) = open.as_mut().filter(|open| open.generation == generation) else { return };
        let answer = match response.ttl() {
            ttl if ttl > 0 => Ok(Duration::from_secs(ttl.unsigned_abs())),
            _ => Err(Failure::LeaseNotFound),
        };
        if let Some(waiting) = open.take(LeaseId(response.id())) {
            // One who has left needs no answer.
            let _left = waiting.answer.send(answer);
        }
    }
    if let Some(this) = this.upgrade() {
        this.close(generation);
    }
}

// === impl CloseIfLate ===

impl Drop for CloseIfLate<'_> {
    fn drop(&mut self) {
        if !self.is_answered && Instant::now() >= self.until {
            self.stream.close(self.generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        sync::mpsc,
        task::JoinSet,
        time::{advance, timeout},
    };

    use super::*;

    const CALLERS: i64 = 10;

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn opened(keeper: LeaseKeeper) -> Arc<KeepAliveStream> {
        let stream = KeepAliveStream::default();
        stream.lock().replace(Open::new(keeper, 0));
        Arc::new(stream)
    }

    #[tokio::test]
    async fn callers_that_wait_for_room_get_it_one_after_the_other() {
        let (sender, mut requests) = mpsc::channel(1);
        let stream = opened(LeaseKeeper { id: 0, sender });
        let mut callers = JoinSet::new();
        for lease in 0..CALLERS {
            let stream = Arc::clone(&stream);
            callers.spawn(async move { stream.send(LeaseId(lease), in_a_minute()).await.is_some() });
        }
        // All but the first wait.
        tokio::task::yield_now().await;
        let mut taken = Vec::new();
        for _ in 0..CALLERS {
            let request = timeout(Duration::from_secs(10), requests.recv()).await.expect("the next one has room");
            taken.push(request.expect("the stream is open").id);
        }
        assert_eq!(callers.join_all().await, vec![true; taken.len()]);
        let waiting = stream.lock().as_ref().unwrap().waiting.iter().map(|waiting| waiting.lease.0).collect::<Vec<_>>();
        assert_eq!(waiting, taken, "they stand in the order of their requests");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_overdue_closes_the_stream_for_the_next_one_although_its_caller_has_left() {
        let (sender, _requests) = mpsc::channel(8);
        let stream = opened(LeaseKeeper { id: 0, sender });
        drop(stream.send(LeaseId(1), in_a_minute()).await.expect("it is open"));
        advance(Duration::from_secs(30)).await;
        assert!(stream.send(LeaseId(2), in_a_minute()).await.is_some(), "it is not overdue yet");
        advance(Duration::from_secs(30)).await;
        assert!(stream.send(LeaseId(3), in_a_minute()).await.is_none() && !stream.is_open());
    }
}
