//! A second framing: messages in frames with the number of their stream, several at a time on one connection, in
//! memory.
//!
//! Small, and as different from HTTP/1.1 as HTTP/2 is: a connection is shared, a body has no length that has to be
//! said, its end is a frame of its own, a stream is broken off without its connection, and data waits for room. No
//! bytes are encoded: a frame that is sent is in the other side's inbox at once.

pub(crate) mod downstream;
pub(crate) mod upstream;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use http1::{Head, Scan};

use crate::{io::buffered_stream::Read, upstream::http1::RESPONSE_LIMITS};

/// So many bytes of data may wait in an inbox.
pub(super) const WINDOW_BYTES: usize = 16 * 1024;

/// What passes over a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// The head of a message, in the form of RFC 9112.
    Head(Vec<u8>),
    Data(Vec<u8>),
    /// The message is complete.
    End,
    /// The stream is broken off.
    Reset,
}

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Opens,
    Accepts,
}

/// A connection; all clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Connection(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inboxes: RefCell<HashMap<(Side, u32), Inbox>>,
    opened: Cell<u32>,
    to_accept: RefCell<VecDeque<u32>>,
    accepts: RefCell<Option<Waker>>,
    is_closed: Cell<bool>,
}

/// What has come on one side of a stream and was not read.
#[derive(Debug, Default)]
struct Inbox {
    frames: VecDeque<Frame>,
    data_bytes: usize,
    reads: Option<Waker>,
    writes: Option<Waker>,
}

/// One side of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Connection,
    side: Side,
    id: u32,
}

// === impl Connection ===

impl Connection {
    /// A new stream on it; `None` when it is closed.
    pub(super) fn open(&self) -> Option<Stream> {
        let shared = &self.0;
        if shared.is_closed.get() {
            return None;
        }
        let id = shared.opened.get() + 1;
        shared.opened.set(id);
        shared.to_accept.borrow_mut().push_back(id);
        shared.accepts.take().into_iter().for_each(Waker::wake);
        Some(Stream { connection: self.clone(), side: Side::Opens, id })
    }

    /// The next stream that the other side opens; `None` at the end of the connection.
    pub(super) async fn accept(&self) -> Option<Stream> {
        poll_fn(|cx| {
            if let Some(id) = self.0.to_accept.borrow_mut().pop_front() {
                return Poll::Ready(Some(Stream { connection: self.clone(), side: Side::Accepts, id }));
            }
            if self.0.is_closed.get() {
                return Poll::Ready(None);
            }
            *self.0.accepts.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Either side's process has died.
    pub(super) fn close(&self) {
        self.0.is_closed.set(true);
        let mut inboxes = self.0.inboxes.borrow_mut();
        let wakers = inboxes.values_mut().flat_map(|inbox| [inbox.reads.take(), inbox.writes.take()]);
        wakers.chain([self.0.accepts.take()]).flatten().for_each(Waker::wake);
    }
}

// === impl Stream ===

impl Stream {
    /// Sends a frame, whatever waits already.
    pub(super) fn send(&self, frame: Frame) {
        self.inbox(self.other(), |inbox| {
            inbox.data_bytes += frame.data_bytes();
            inbox.frames.push_back(frame);
            inbox.reads.take().into_iter().for_each(Waker::wake);
        });
    }

    /// Sends as much of `data` as there is room for; an error when the connection is closed.
    pub(super) fn poll_send_data(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.0.is_closed.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = self.inbox(self.other(), |inbox| {
            let room = WINDOW_BYTES.saturating_sub(inbox.data_bytes).min(data.len());
            if room == 0 {
                inbox.writes = Some(cx.waker().clone());
            }
            room
        });
        if count == 0 {
            return Poll::Pending;
        }
        self.send(Frame::Data(data[..count].to_vec()));
        Poll::Ready(Ok(count))
    }

    /// The next frame; an error when there is none and the connection is closed.
    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<io::Result<Frame>> {
        let next = self.inbox(self.side, |inbox| {
            let frame = inbox.frames.pop_front();
            match &frame {
                Some(frame) => {
                    inbox.data_bytes -= frame.data_bytes();
                    inbox.writes.take().into_iter().for_each(Waker::wake);
                }
                None => inbox.reads = Some(cx.waker().clone()),
            }
            frame
        });
        match next {
            Some(frame) => Poll::Ready(Ok(frame)),
            None if self.connection.0.is_closed.get() => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            None => Poll::Pending,
        }
    }

    /// The same, waited for.
    pub(super) async fn frame(&self) -> io::Result<Frame> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Whether the other side has yet to read something.
    pub(super) fn has_unread(&self) -> bool {
        self.inbox(self.other(), |inbox| !inbox.frames.is_empty())
    }

    fn other(&self) -> Side {
        if self.side == Side::Opens { Side::Accepts } else { Side::Opens }
    }

    /// Whether the next frame is there, and such a one.
    pub(super) fn is_next(&self, is: impl FnOnce(&Frame) -> bool) -> bool {
        self.inbox(self.side, |inbox| inbox.frames.front().is_some_and(is))
    }

    fn inbox<R>(&self, side: Side, with: impl FnOnce(&mut Inbox) -> R) -> R {
        with(self.connection.0.inboxes.borrow_mut().entry((side, self.id)).or_default())
    }
}

// === impl Frame ===

impl Frame {
    fn data_bytes(&self) -> usize {
        if let Self::Data(data) = self { data.len() } else { 0 }
    }
}

/// What a side of an exchange has read of a message: its heads one by one, its body as a run.
#[derive(Debug, Default)]
struct Incoming {
    head: Option<Vec<u8>>,
    scan: Scan,
    run: Vec<u8>,
    has_come: bool,
}

// === impl Incoming ===

impl Incoming {
    fn head(&self) -> Option<Head<'_>> {
        self.scan.head(self.head.as_deref()?)
    }

    /// Reads what there is: not a second head before the first was used, and no end that would hide what came before
    /// it.
    fn poll_read(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        if self.has_come {
            return Poll::Ready(Ok(Read::End));
        }
        let mut has_read = false;
        loop {
            let must_wait = stream.is_next(|next| match next {
                Frame::Head(_) => self.head.is_some(),
                Frame::Reset => has_read,
                Frame::Data(_) | Frame::End => false,
            });
            if must_wait {
                break;
            }
            match stream.poll_frame(cx) {
                Poll::Ready(Ok(Frame::Head(head))) => {
                    self.scan.clear();
                    self.scan.read(&head, &RESPONSE_LIMITS);
                    self.head = Some(head);
                }
                Poll::Ready(Ok(Frame::Data(data))) => self.run.extend(data),
                Poll::Ready(Ok(Frame::End)) => self.has_come = true,
                Poll::Ready(Ok(Frame::Reset) | Err(_)) if has_read => break,
                Poll::Ready(Ok(Frame::Reset)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            has_read = true;
        }
        if has_read { Poll::Ready(Ok(Read::More)) } else { Poll::Pending }
    }
}
