//! What is asked of a socket.

use std::{
    io::{self, Read as _, Write as _},
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::TcpStream,
};

/// A byte stream, as TCP gives one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Whether dropping it from now on is an error for the other side, instead of the end of what was sent.
    fn resets_on_drop(&self, resets: bool);

    /// Reads what the kernel has at this moment, whatever the runtime was notified of; `WouldBlock`: nothing yet.
    fn read_at_once(&self, into: &mut [u8]) -> io::Result<usize>;

    /// Writes what the kernel takes at this moment, whatever the runtime was notified of; `WouldBlock`: nothing.
    fn write_at_once(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes, if the runtime was notified that the kernel takes something; `WouldBlock`: it was not, or the kernel
    /// takes nothing.
    fn write_if_writable(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether the other side has reset it, as the kernel has it at this moment. Reported once.
    fn has_error(&self) -> bool;

    /// Whether there may be something to be read, an end or an error included, as far as the runtime was notified.
    /// Costs no system call.
    fn may_be_readable(&self) -> bool;

    /// Waits until there [may be](Self::may_be_readable) something to be read. Cheaper than a read, which needs a place
    /// to read to.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Stream for TcpStream {
    fn resets_on_drop(&self, resets: bool) {
        // Fails only when the other side is gone.
        let _gone = SockRef::from(self).set_linger(resets.then_some(Duration::ZERO));
    }

    fn read_at_once(&self, into: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self)).read(into)
    }

    fn write_at_once(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*SockRef::from(self)).write(bytes)
    }

    fn write_if_writable(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }

    fn has_error(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }

    fn may_be_readable(&self) -> bool {
        // Nothing is done, so that the runtime is only asked, and takes nothing back.
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is for who reads.
        self.poll_read_ready(cx).map(drop)
    }
}

#[cfg(test)]
impl Stream for tokio::io::DuplexStream {
    fn resets_on_drop(&self, _: bool) {}

    fn read_at_once(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_at_once(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_if_writable(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn has_error(&self) -> bool {
        false
    }

    fn may_be_readable(&self) -> bool {
        true
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
