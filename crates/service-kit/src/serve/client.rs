//! Whether the client of a request has closed its connection, as the kernel knows it.
//!
//! hyper drops a request whose connection has ended, once it reads the end. tokio lets it read only when its driver has
//! reported something, which another thread may be about to do: a server that was stopped for a while begins with
//! requests whose end is in the kernel and not yet known here. [`ensure_client_connected`] asks the kernel instead.
//!
//! Over HTTP/2 a request ends with a frame (`RST_STREAM`) as well as with its connection, and another task reads it. So
//! all that the kernel holds of the connection is read before the request goes on.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use futures::task::AtomicWaker;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

tokio::task_local! {
    static CHECK: Check;
}

/// Goes on only while the client of this request is connected; otherwise the request is dropped here.
///
/// For what must not be begun for a client that has given up. It must be awaited in the request's own task. Costs one
/// poll(2) and one more turn of the connection. Does nothing outside of a request that [`serve`](super::serve) has
/// taken in, or while a next request is waiting behind it in hyper's buffer.
pub async fn ensure_client_connected() {
    let Ok(check) = CHECK.try_with(Check::clone) else { return };
    if check.is_shared() {
        check.read_all().await;
    } else {
        check.ask();
    }
    // HTTP/1: the connection's task reads before it polls its request again. HTTP/2: it drops what has been reset
    // before that.
    tokio::task::yield_now().await;
}

/// Asks a connection to look for its end; clones ask the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Check(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_asked: AtomicBool,
    /// Requests have tasks of their own (HTTP/2).
    is_shared: AtomicBool,
    /// There is nothing to be read any more.
    is_ended: AtomicBool,
    /// The task that reads the connection.
    reader: AtomicWaker,
    /// What the kernel held has been read.
    read: Notify,
}

/// A client's connection, below TLS.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// What has been read of it to tell the protocol.
    first: Bytes,
    check: Check,
}

// === impl Check ===

impl Check {
    fn ask(&self) {
        self.0.is_asked.store(true, Ordering::Release);
    }

    fn is_asked(&self) -> bool {
        self.0.is_asked.load(Ordering::Acquire)
    }

    fn answer(&self) {
        self.0.is_asked.store(false, Ordering::Release);
        self.0.read.notify_waiters();
    }

    /// From now on requests have tasks of their own.
    pub(super) fn share(&self) {
        self.0.is_shared.store(true, Ordering::Relaxed);
    }

    fn is_shared(&self) -> bool {
        self.0.is_shared.load(Ordering::Relaxed)
    }

    /// Returns when the connection's task has read what the kernel holds by now, or the connection has ended.
    async fn read_all(&self) {
        let mut read = std::pin::pin!(self.0.read.notified());
        read.as_mut().enable();
        self.ask();
        self.0.reader.wake();
        if !self.0.is_ended.load(Ordering::Acquire) {
            read.await;
        }
    }

    /// Runs a request of the connection.
    pub(super) async fn during<F: Future>(self, request: F) -> F::Output {
        CHECK.scope(self, request).await
    }

    /// Makes a part of an answer, which is made while it is sent.
    pub(super) fn while_polling<T>(&self, poll: impl FnOnce() -> T) -> T {
        CHECK.sync_scope(self.clone(), poll)
    }
}

// === impl Socket ===

impl Socket {
    /// `first` has been read from `stream`.
    pub(super) fn new(stream: TcpStream, first: Bytes) -> (Self, Check) {
        let check = Check::default();
        (Self { stream, first, check: check.clone() }, check)
    }

    /// Whether the client sends nothing more (`POLLRDHUP`) or the connection is broken, whatever is still to be read.
    fn is_closed_by_client(&self) -> bool {
        self.polls(end_of_input())
    }

    /// Whether the kernel holds what has not been read.
    fn has_input(&self) -> bool {
        self.polls(PollFlags::POLLIN)
    }

    fn polls(&self, flags: PollFlags) -> bool {
        let mut ends = [PollFd::new(self.stream.as_fd(), flags)];
        poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(count));
        Poll::Ready(Ok(()))
    }
}

/// poll(2); errors and hang-ups are always told.
fn end_of_input() -> PollFlags {
    #[cfg(target_os = "linux")]
    return PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    #[cfg(not(target_os = "linux"))]
    PollFlags::empty()
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.check.0.is_ended.store(true, Ordering::Release);
        self.check.answer();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.check.is_shared() {
            self.check.0.reader.register(cx.waker());
        }
        if !self.check.is_asked() {
            return self.poll_stream(cx, buffer);
        }
        if self.is_closed_by_client() {
            self.check.answer();
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let read = self.poll_stream(cx, buffer);
        // While the kernel holds something, this is polled again.
        if read.is_pending() && !self.has_input() {
            self.check.answer();
        }
        Poll::Ready(ready!(read))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::atomic::AtomicUsize};

    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    /// On one thread, where tokio looks for what sockets have only when there is nothing else to do.
    #[tokio::test]
    async fn what_the_kernel_holds_of_a_shared_connection_is_read_before_a_request_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (mut socket, check) = Socket::new(stream, Bytes::new());
        check.share();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 16];
            while let Ok(bytes @ 1..) = socket.read(&mut buffer).await {
                count.fetch_add(bytes, Ordering::Relaxed);
            }
        });
        for sent in 1..=100 {
            client.write_all(b"x").unwrap();
            check.clone().during(ensure_client_connected()).await;
            assert_eq!(seen.load(Ordering::Relaxed), sent);
        }
        drop(client);
        check.clone().during(ensure_client_connected()).await;
        reader.await.unwrap();
        check.during(ensure_client_connected()).await;
    }
}
