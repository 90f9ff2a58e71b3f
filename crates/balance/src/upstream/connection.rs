//! An HTTP/1.1 connection to an instance: one exchange after the other.
//!
//! Only the task of the client whose request it carries polls it: the request leaves in the same poll in which it was
//! read, the response likewise, and an unused connection is not a task but a value in the [`pool`](crate::upstream::pool). Dropping it
//! closes it, so a client that leaves ends its request at the instance.

use crate::{
    io::{buffered_stream::BufferedStream, buffers::Buffers},
    upstream::stream::UpstreamStream,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: BufferedStream<UpstreamStream>,
    /// Whether it has served a request before: then the instance may close it at any moment.
    pub(crate) is_reused: bool,
}

// === impl Connection ===

impl Connection {
    /// A connection that has just been opened. Boxed for its life: it changes hands several times a request.
    pub(crate) fn new(stream: UpstreamStream, buffers: &Buffers) -> Box<Self> {
        Box::new(Self { stream: BufferedStream::new(stream, buffers.clone()), is_reused: false })
    }
}
