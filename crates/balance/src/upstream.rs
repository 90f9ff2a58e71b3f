//! A connection to an instance.
//!
//! Nobody polls it but the task of the client whose request it carries: the request leaves in the same poll in which it was
//! read, the response likewise, and an unused connection is not a task but a value in the [`pool`](crate::pool). Dropping it
//! closes it, so a client that leaves ends its request at the instance.

use std::{future::Future, io, mem::MaybeUninit, pin::Pin, sync::Arc, time::Duration};

use nix::errno::Errno;
use service_kit::names::Unresolved;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::{
    addresses::{AddressPolicy, Forbidden},
    buffers::Buffers,
    dial,
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
    /// Its name has no address, for now: that says nothing about the instance.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Its name is being looked up for the first time; neither does that.
    #[error("has a name that is not resolved yet, after {0:?}")]
    Unanswered(Duration),
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
    /// No connection stands, because of that.
    pub(crate) fn connecting(error: io::Error) -> Self {
        if is_exhaustion(&error) { Self::Exhausted(error) } else { Self::Connect(error) }
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

/// Connects to the instance, within `limit`: see [`dial::connect`].
pub(crate) fn connect(candidate: &Arc<Candidate>, addresses: &AddressPolicy, limit: Duration) -> Connecting {
    let (candidate, addresses) = (Arc::clone(candidate), addresses.clone());
    Box::pin(async move { dial::connect(&candidate, &addresses, limit).await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_not_the_fault_of_an_instance() {
        let ours = [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM];
        for errno in ours {
            assert!(matches!(ConnectError::connecting(errno.into()), ConnectError::Exhausted(_)), "{errno}");
        }
        for errno in [Errno::ECONNREFUSED, Errno::EHOSTUNREACH, Errno::ENETUNREACH, Errno::ECONNRESET] {
            assert!(matches!(ConnectError::connecting(errno.into()), ConnectError::Connect(_)), "{errno}");
        }
    }
}
