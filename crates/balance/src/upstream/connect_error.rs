//! Why there is no connection to an instance, and whether that says anything about it.

use std::{io, time::Duration};

use nix::errno::Errno;
use service_kit::names::Unresolved;

use crate::addresses::Forbidden;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Its name has no address, for now: that says nothing about the instance.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Its name is being looked up for the first time; neither does that.
    #[error("has a name that is not resolved yet, after {0:?}")]
    Unanswered(Duration),
    /// This host has no file descriptor, port or memory left for a connection, whatever its destination.
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
