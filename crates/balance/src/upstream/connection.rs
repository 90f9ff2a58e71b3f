//! A connection to an instance.
//!
//! Only the task of the client whose request it carries polls it: the request leaves in the same poll in which it was
//! read, the response likewise, and an unused connection is not a task but a value in the [`pool`](crate::upstream::pool). Dropping it
//! closes it, so a client that leaves ends its request at the instance.

use std::{io, mem::MaybeUninit};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::io::{buffered_stream::BufferedStream, buffers::Buffers};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: BufferedStream<TcpStream>,
    /// Whether it has served a request before: then the instance may close it at any moment.
    pub(crate) is_reused: bool,
}

// === impl Upstream ===

impl Upstream {
    /// A connection that has just been opened.
    pub(crate) fn new(stream: TcpStream, buffers: &Buffers) -> Self {
        Self { stream: BufferedStream::new(stream, buffers.clone()), is_reused: false }
    }

    /// Whether nothing has come from the instance, by the kernel's word at this moment. Reading knows only what the runtime
    /// has heard, which may be a millisecond old; a request that must not be sent twice is worth a system call to learn that
    /// the instance has closed the connection.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(self.stream.stream()).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
