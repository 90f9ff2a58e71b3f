//! The byte stream to an instance. TCP is one transport; another one, as TLS, is another variant, and nothing above
//! changes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::io::stream::Stream;

/// See the [module](self).
#[derive(Debug)]
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
}

// === impl UpstreamStream ===

impl UpstreamStream {
    /// Whether nothing has come from the instance, by the kernel's word at this moment. Reading knows only what the
    /// runtime was notified of, which may be a millisecond old; a request that must not be sent twice is worth a system
    /// call to learn that the instance has closed the connection.
    pub(crate) fn is_quiet(&self) -> bool {
        let Self::Tcp(stream) = self;
        let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(stream) = self.get_mut();
        Pin::new(stream).poll_read(cx, into)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self.get_mut();
        Pin::new(stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(stream) = self.get_mut();
        Pin::new(stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        let Self::Tcp(stream) = self;
        stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(stream) = self.get_mut();
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Tcp(stream) = self.get_mut();
        Pin::new(stream).poll_shutdown(cx)
    }
}

impl Stream for UpstreamStream {
    fn resets_on_drop(&self, resets: bool) {
        let Self::Tcp(stream) = self;
        stream.resets_on_drop(resets);
    }

    fn read_at_once(&self, into: &mut [u8]) -> io::Result<usize> {
        let Self::Tcp(stream) = self;
        stream.read_at_once(into)
    }

    fn write_at_once(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tcp(stream) = self;
        stream.write_at_once(bytes)
    }

    fn write_if_writable(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Tcp(stream) = self;
        stream.write_if_writable(bytes)
    }

    fn has_error(&self) -> bool {
        let Self::Tcp(stream) = self;
        stream.has_error()
    }

    fn may_be_readable(&self) -> bool {
        let Self::Tcp(stream) = self;
        stream.may_be_readable()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Self::Tcp(stream) = self;
        stream.poll_readable(cx)
    }
}
