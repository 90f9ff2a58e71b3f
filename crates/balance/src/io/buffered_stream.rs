//! One end of a connection, a client's or an instance's: what has arrived and is not used up yet, and the stream behind
//! it.
//!
//! Generic over the stream, so that TLS is another stream and not another path. Reading appends to
//! [`BufferedStream::unread`]; a buffer is borrowed from the core's [`Buffers`] for it and given back as soon as it is
//! empty. Waiting costs no system call: the runtime remembers that the last read took everything there was.
//!
//! A write error is not the end of a connection. An instance that refuses a body answers, closes, and resets what still
//! comes; the error is about the reset, and the answer is there to be read (RFC 9112, section 9.6). The runtime may not
//! know of it: the kernel notifies it of events, and a write error is none. So from a [failed
//! write](BufferedStream::has_failed) on, the kernel itself is asked, until it says end or error.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use http1::{Head, Limits};
use tokio::io::ReadBuf;

use crate::io::{
    buffers::{BUFFER_BYTES, Buffer, Buffers},
    stream::Stream,
};

/// A write up to this size, of heads mostly, is tried before the runtime is asked to wait for room: there nearly always
/// is. Larger ones are pieces of bodies, which the runtime counts, so that a fast one gives way to other connections.
const SMALL_BYTES: usize = 4 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct BufferedStream<S> {
    stream: S,
    unread: Option<Box<Buffer>>,
    buffers: Buffers,
    /// The other side will send nothing more.
    is_at_end: bool,
    /// A write has failed: the other side takes nothing any more.
    has_failed: bool,
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Bytes were added.
    More,
    /// The other side has ended its direction, or there never will be more for another reason.
    End,
    /// As much waits already as may wait; nothing was read.
    Full,
}

// === impl BufferedStream ===

impl<S> BufferedStream<S> {
    /// Where its buffer comes from.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }
}

impl<S: Stream> BufferedStream<S> {
    pub(crate) fn new(stream: S, buffers: Buffers) -> Self {
        Self { stream, unread: None, buffers, is_at_end: false, has_failed: false }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn into_stream(self) -> S {
        let Self { stream, unread, buffers, .. } = self;
        unread.into_iter().for_each(|buffer| buffers.put_buffer(buffer));
        stream
    }

    /// What has arrived and is not used up.
    pub(crate) fn unread(&self) -> &[u8] {
        self.unread.as_ref().map_or(&[], |buffer| buffer.filled())
    }

    /// Reads on in the head at the front of what is unread: its length, once it is complete or unacceptable.
    pub(crate) fn find_head(&mut self, limits: &Limits) -> Option<usize> {
        self.unread.as_mut()?.find_head(limits)
    }

    /// That head, once it was [found](Self::find_head), until it is used up.
    pub(crate) fn head(&self) -> Option<Head<'_>> {
        self.unread.as_ref()?.head()
    }

    /// Uses up `count` of the unread bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.unread {
            buffer.consume(count);
            if buffer.is_empty() {
                self.give_back();
            }
        }
    }

    /// Reads once, unless `max_bytes` are unread already (or a whole buffer, if that is more).
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, max_bytes: usize) -> Poll<io::Result<Read>> {
        if self.is_at_end {
            return Poll::Ready(Ok(Read::End));
        }
        if self.unread.is_none() && !self.has_failed && !self.stream.may_be_readable() {
            ready!(self.stream.poll_readable(cx));
        }
        let buffer = self.unread.get_or_insert_with(|| self.buffers.buffer());
        let Some(room) = buffer.room(max_bytes) else { return Poll::Ready(Ok(Read::Full)) };
        let at_once = if self.has_failed { would_not_block(self.stream.read_at_once(room)) } else { None };
        let read = match at_once {
            Some(read) => Poll::Ready(read),
            None => {
                let mut into = ReadBuf::new(room);
                let read = Pin::new(&mut self.stream).poll_read(cx, &mut into);
                read.map_ok(|()| into.filled().len())
            }
        };
        if let Poll::Ready(Ok(count)) = read {
            buffer.advance(count);
        }
        if buffer.is_empty() {
            self.give_back();
        }
        let count = ready!(read)?;
        self.is_at_end = count == 0;
        Poll::Ready(Ok(if count == 0 { Read::End } else { Read::More }))
    }

    /// Reads once, a buffer at most.
    pub(crate) fn poll_read_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        self.poll_read(cx, BUFFER_BYTES)
    }

    /// Writes once.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() <= SMALL_BYTES
            && let Some(written) = would_not_block(self.stream.write_if_writable(bytes))
        {
            return self.wrote(Poll::Ready(written));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    /// Writes once, from both.
    pub(crate) fn poll_write_both(&mut self, cx: &mut Context<'_>, a: &[u8], b: &[u8]) -> Poll<io::Result<usize>> {
        match (a, b) {
            ([], one) | (one, []) => self.poll_write(cx, one),
            _ => {
                let slices = [IoSlice::new(a), IoSlice::new(b)];
                let written = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices);
                self.wrote(written)
            }
        }
    }

    /// Writes once, asking the kernel itself.
    pub(crate) fn write_at_once(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match would_not_block(self.stream.write_at_once(bytes)) {
            None => Poll::Pending,
            Some(written) => self.wrote(Poll::Ready(written)),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Whether nothing has come that is not used up, no end and no error either, as far as the runtime was notified.
    pub(crate) fn is_quiet(&self) -> bool {
        self.unread.is_none() && !self.is_at_end && !self.has_failed && !self.stream.may_be_readable()
    }

    /// Whether the other side has ended its direction.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether a write has failed; what can be read is worth reading nevertheless.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = match written {
            // A stream that takes nothing of something would be asked for ever.
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => written,
        };
        self.has_failed |= matches!(written, Poll::Ready(Err(_)));
        written
    }

    fn give_back(&mut self) {
        if let Some(buffer) = self.unread.take() {
            self.buffers.put_buffer(buffer);
        }
    }
}

/// What the kernel says, unless that is to ask again.
fn would_not_block(done: io::Result<usize>) -> Option<io::Result<usize>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        done => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A stream that waits for what the other end will send, and asks nothing of it but that.
    async fn waiting(buffers: &Buffers) -> (BufferedStream<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let mut stream = BufferedStream::new(near.unwrap(), buffers.clone());
        // The runtime may take a new socket for readable until it was read once.
        while stream.stream().may_be_readable() {
            assert!(is_pending(&mut stream).await);
        }
        (stream, far.unwrap().0)
    }

    async fn is_pending(stream: &mut BufferedStream<TcpStream>) -> bool {
        poll_fn(|cx| Poll::Ready(stream.poll_read_some(cx).is_pending())).await
    }

    #[tokio::test]
    async fn waiting_asks_for_no_buffer() {
        let buffers = Buffers::default();
        let (mut stream, mut far) = waiting(&buffers).await;
        while buffers.unused() > 0 {
            drop(buffers.buffer());
        }
        assert!(is_pending(&mut stream).await);
        assert_eq!(buffers.unused(), 0, "one was taken and given back");
        far.write_all(b"hello").await.unwrap();
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::More);
        assert_eq!(stream.unread(), b"hello");
    }

    #[tokio::test]
    async fn a_stream_is_quiet_until_something_comes_or_the_other_end_closes() {
        let (mut stream, mut far) = waiting(&Buffers::default()).await;
        assert!(stream.is_quiet());
        far.write_all(b"hello").await.unwrap();
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::More);
        assert!(!stream.is_quiet(), "it is unread");
        stream.consume(5);
        assert!(stream.is_quiet());
        drop(far);
        poll_fn(|cx| stream.stream().poll_readable(cx)).await;
        assert!(!stream.is_quiet(), "the end is to be read");
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::End);
        assert!(!stream.is_quiet(), "it has come");
    }

    #[tokio::test]
    async fn a_stream_with_nothing_unread_owns_no_buffer() {
        let (near, mut far) = duplex(1024);
        let mut stream = BufferedStream::new(near, Buffers::default());
        far.write_all(b"hello").await.unwrap();
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::More);
        assert!(stream.unread() == b"hello" && stream.unread.is_some());
        stream.consume(5);
        assert!(stream.unread.is_none());
        poll_fn(|cx| {
            assert!(stream.poll_read_some(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(stream.unread.is_none(), "waiting needs none either");
        drop(far);
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::End);
    }

    #[tokio::test]
    async fn reading_stops_where_enough_waits() {
        let (near, mut far) = duplex(4 * BUFFER_BYTES);
        let mut stream = BufferedStream::new(near, Buffers::default());
        far.write_all(&vec![7; 3 * BUFFER_BYTES]).await.unwrap();
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::More);
        assert_eq!(poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap(), Read::Full);
        assert_eq!(stream.unread().len(), BUFFER_BYTES);
    }

    #[tokio::test]
    async fn both_slices_arrive_in_order() {
        let (near, mut far) = duplex(1024);
        let mut stream = BufferedStream::new(near, Buffers::default());
        let mut sent = 0;
        while sent < 10 {
            let (a, b): (&[u8], &[u8]) = (b"hello", b"world");
            let (a, b) = (&a[sent.min(5)..], &b[sent.saturating_sub(5)..]);
            sent += poll_fn(|cx| stream.poll_write_both(cx, a, b)).await.unwrap();
        }
        let mut arrived = [0; 10];
        far.read_exact(&mut arrived).await.unwrap();
        assert_eq!(&arrived, b"helloworld");
    }
}
