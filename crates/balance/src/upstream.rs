//! A connection to an instance.
//!
//! hyper's connection is a future that somebody must poll. Usually a task of its own does, and every request and
//! response crosses between two tasks. Here it is polled by whoever uses it, the request's own task: the request leaves in
//! the same poll in which it was read, the response likewise, and an unused connection is not a task but a value in the
//! [`pool`](crate::pool). Dropping it closes it, so a client that leaves ends its request at the instance.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    addresses::{AddressPolicy, Forbidden},
    request_body::RequestBody,
    routing_table::Candidate,
    vectored,
};

/// Largest head of a response, and the largest buffer for a part of a body.
const BUFFER_MAX_BYTES: usize = 64 * 1024;

/// See the [module](self).
pub(crate) struct Upstream {
    pub(crate) sender: SendRequest<RequestBody>,
    connection: Box<Connection<TokioIo<Wire>, RequestBody>>,
    is_over: bool,
    socket: Rc<Socket>,
    /// Whether it has served a request before: then the instance may close it at any moment.
    pub(crate) is_reused: bool,
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// There is no such name.
    #[error("cannot be resolved")]
    Resolve(#[source] io::Error),
    /// The resolver does not know, for now: that says nothing about the instance.
    #[error("cannot be resolved for now")]
    NoResolver(#[source] io::Error),
    /// This host has no file descriptor, port or memory left for a connection, to whomever.
    #[error("cannot be connected to, because this host is exhausted")]
    Exhausted(#[source] io::Error),
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("cannot be connected to")]
    Connect(#[source] io::Error),
    #[error("did not accept a connection within {0:?}")]
    Timeout(Duration),
    #[error("does not speak HTTP/1.1")]
    Handshake(#[source] hyper::Error),
}

// === impl ConnectError ===

impl ConnectError {
    fn connecting(error: io::Error) -> Self {
        if is_exhaustion(&error) { Self::Exhausted(error) } else { Self::Connect(error) }
    }

    fn resolving(error: io::Error) -> Self {
        // The code of getaddrinfo (EAI_AGAIN) is lost on the way; its sentence is glibc's or musl's, in English always.
        let says = |sentence| error.to_string().contains(sentence);
        if is_exhaustion(&error) {
            Self::Exhausted(error)
        } else if says("Temporary failure") || says("Try again") {
            Self::NoResolver(error)
        } else {
            Self::Resolve(error)
        }
    }
}

/// Whether the error is about this host and not about the one at the other end.
fn is_exhaustion(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::EADDRNOTAVAIL | Errno::ENOBUFS | Errno::ENOMEM))
}

// === impl Upstream ===

impl Upstream {
    /// Connects to the instance, within `limit` altogether.
    pub(crate) async fn connect(
        candidate: &Candidate,
        addresses: &AddressPolicy,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let stream = timeout(limit, open(candidate, addresses)).await.map_err(|_| ConnectError::Timeout(limit))??;
        let socket = Rc::new(Socket { stream: RefCell::new(stream), has_written: Cell::new(false) });
        let wire = Wire(Rc::clone(&socket));
        let mut http = http1::Builder::new();
        http.max_buf_size(BUFFER_MAX_BYTES).max_header_size(BUFFER_MAX_BYTES);
        let (sender, connection) = http.handshake(TokioIo::new(wire)).await.map_err(ConnectError::Handshake)?;
        Ok(Self { sender, connection: Box::new(connection), is_over: false, socket, is_reused: false })
    }

    /// Moves the connection forward: writes what is to be written, reads what has come. True when it is over.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_over = self.is_over || Pin::new(&mut *self.connection).poll(cx).is_ready();
        self.is_over
    }

    /// Whether another request may be sent on it, as far as is known without looking at the socket again.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.is_over && self.sender.is_ready()
    }

    /// Forgets what was written before.
    pub(crate) fn start(&mut self) {
        self.socket.has_written.set(false);
    }

    /// Whether anything was written since the [start](Self::start).
    pub(crate) fn has_written(&self) -> bool {
        self.socket.has_written.get()
    }

    /// Whether nothing has come from the instance, by the kernel's word at this moment. [`drive`](Self::drive) knows only
    /// what the runtime has heard, which may be a millisecond old; a request that must not be sent twice is worth a
    /// system call to learn that the instance has closed the connection.
    pub(crate) fn is_quiet(&self) -> bool {
        let stream = self.socket.stream.borrow();
        let peeked = SockRef::from(&*stream).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

/// Opens the socket; a host name may have several addresses, which are tried in order.
async fn open(candidate: &Candidate, addresses: &AddressPolicy) -> Result<TcpStream, ConnectError> {
    let address = candidate.address();
    if let Some(socket) = address.socket_addr() {
        return open_at(socket, addresses).await;
    }
    let host = (address.host.to_string(), address.port.get());
    let mut failure = None;
    for socket in lookup_host(host).await.map_err(ConnectError::resolving)? {
        match open_at(socket, addresses).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| ConnectError::Resolve(io::ErrorKind::NotFound.into())))
}

async fn open_at(socket: SocketAddr, addresses: &AddressPolicy) -> Result<TcpStream, ConnectError> {
    addresses.check_socket(socket)?;
    let stream = TcpStream::connect(socket).await.map_err(ConnectError::connecting)?;
    if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
        && addresses.is_loop(local, peer)
    {
        return Err(Forbidden::Own.into());
    }
    // Without it a small request waits for the acknowledgement of the one before.
    let _best_effort = stream.set_nodelay(true);
    Ok(stream)
}

/// The socket, shared by hyper's connection and whoever asks about it.
struct Socket {
    stream: RefCell<TcpStream>,
    /// Only when something was written may the instance have got something.
    has_written: Cell<bool>,
}

/// hyper's end of it.
struct Wire(Rc<Socket>);

impl Wire {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.0.has_written.set(true);
        }
        written
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream.borrow_mut()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.0.stream.borrow_mut()).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = vectored::poll_write(Pin::new(&mut *self.0.stream.borrow_mut()), cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Nothing: `close` follows.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_not_the_fault_of_an_instance() {
        let ours = [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM];
        for errno in ours {
            assert!(matches!(ConnectError::connecting(errno.into()), ConnectError::Exhausted(_)), "{errno}");
            assert!(matches!(ConnectError::resolving(errno.into()), ConnectError::Exhausted(_)), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ECONNRESET] {
            assert!(matches!(ConnectError::connecting(errno.into()), ConnectError::Connect(_)), "{errno}");
        }
    }

    #[test]
    fn a_resolver_that_is_down_is_told_from_a_name_that_is_not_there() {
        let error = |sentence| io::Error::other(format!("failed to lookup address information: {sentence}"));
        let later = ConnectError::resolving(error("Temporary failure in name resolution"));
        assert!(matches!(later, ConnectError::NoResolver(_)));
        let never = ConnectError::resolving(error("Name or service not known"));
        assert!(matches!(never, ConnectError::Resolve(_)));
    }
}
