//! Whether the client of a request has closed its connection, as the kernel knows it.
//!
//! hyper drops a request whose connection has ended, once it reads the end. tokio lets it read only when its driver has
//! reported something, which another thread may be about to do: a server that was stopped for a while begins with requests
//! whose end is in the kernel and not yet known here. [`ensure_client_connected`] asks the kernel instead.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

tokio::task_local! {
    static CHECK: Check;
}

/// Goes on only while the client of this request is connected; otherwise the request is dropped here.
///
/// For what must not be begun for a client that has given up. It must be awaited in the request's own task. Costs one poll(2)
/// and one more turn of the connection. Does nothing outside of a request that [`serve`](super::serve) has taken in, or
/// while a next request is waiting behind it in hyper's buffer.
pub async fn ensure_client_connected() {
    if CHECK.try_with(Check::ask).is_ok() {
        // The connection's task reads before it polls its request again.
        tokio::task::yield_now().await;
    }
}

/// Asks a connection to look for its end; clones ask the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Check(Arc<AtomicBool>);

/// A client's connection, below TLS.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    check: Check,
}

// === impl Check ===

impl Check {
    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }

    /// Runs a request of the connection.
    pub(super) async fn during<F: Future>(self, request: F) -> F::Output {
        CHECK.scope(self, request).await
    }
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, Check) {
        let check = Check::default();
        (Self { stream, check: check.clone() }, check)
    }

    /// Whether the client sends nothing more (`POLLRDHUP`) or the connection is broken, whatever is still to be read.
    fn is_closed_by_client(&self) -> bool {
        let mut ends = [PollFd::new(self.stream.as_fd(), end_of_input())];
        poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
    }
}

/// poll(2); errors and hang-ups are always told.
fn end_of_input() -> PollFlags {
    #[cfg(target_os = "linux")]
    return PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
    #[cfg(not(target_os = "linux"))]
    PollFlags::empty()
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.check.take() && self.is_closed_by_client() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
