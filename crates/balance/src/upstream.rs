//! A connection to an instance.
//!
//! Nobody polls it but the task of the client whose request it carries: the request leaves in the same poll in which it was
//! read, the response likewise, and an unused connection is not a task but a value in the [`pool`](crate::pool). Dropping it
//! closes it, so a client that leaves ends its request at the instance.

use std::{future::Future, io, mem::MaybeUninit, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use nix::errno::Errno;
use socket2::SockRef;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    addresses::{AddressPolicy, Forbidden},
    buffers::Buffers,
    routing_table::Candidate,
    wire::Wire,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) wire: Wire<TcpStream>,
    /// Whether it has served a request before: then the instance may close it at any moment.
    pub(crate) is_reused: bool,
}

/// A connection that is being opened.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, ConnectError>>>>;

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
    /// A connection that has just been opened.
    pub(crate) fn new(stream: TcpStream, buffers: &Buffers) -> Self {
        Self { wire: Wire::new(stream, buffers.clone()), is_reused: false }
    }

    /// Whether nothing has come from the instance, by the kernel's word at this moment. Reading knows only what the runtime
    /// has heard, which may be a millisecond old; a request that must not be sent twice is worth a system call to learn that
    /// the instance has closed the connection.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(self.wire.stream()).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Connects to the instance, within `limit` altogether.
pub(crate) fn connect(candidate: &Arc<Candidate>, addresses: &AddressPolicy, limit: Duration) -> Connecting {
    let (candidate, addresses) = (Arc::clone(candidate), addresses.clone());
    Box::pin(async move {
        let opened = timeout(limit, open(&candidate, &addresses)).await;
        opened.map_err(|_| ConnectError::Timeout(limit))?
    })
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
