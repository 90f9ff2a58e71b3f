//! Whether a client is still there while it waits for its answer.
//!
//! A client may end its direction once its request is complete, and still wait for the answer (RFC 9112, section 9.6):
//! `printf … | nc` does, and so do health checkers and old libraries. Only a reset says that it is gone. From one that has
//! merely closed its socket nothing can be told until something is written to it; then its kernel answers with a reset.
//!
//! A reset after the end of its direction makes nothing readable, and the runtime reports the end again and again. So that
//! nothing spins, such a client is not polled: the socket is asked every [`LOOK`] whether it has failed.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    downstream::deadlines::{ConnectionTimers, Waiting},
    io::buffered_stream::{BufferedStream, Read, Stream},
};

/// How often a socket is asked whose client has ended its direction.
const LOOK: Duration = Duration::from_millis(500);

/// Looks whether the client is still there, and takes in what it sends beforehand of its next request, up to `max_bytes`.
/// Ready when it has left.
pub(crate) fn poll_left<S: Stream>(
    client: &mut BufferedStream<S>,
    max_bytes: usize,
    downstream: &ConnectionTimers,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while !client.is_at_end() {
        match ready!(client.poll_read(cx, max_bytes)) {
            Ok(Read::More | Read::End) => {}
            // It may have left since; that will show when the response is written.
            Ok(Read::Full) => return Poll::Pending,
            Err(_) => return Poll::Ready(()),
        }
    }
    if downstream.is_over(Waiting::Reset) {
        downstream.stop(Waiting::Reset);
        if client.stream().has_error() {
            return Poll::Ready(());
        }
    }
    downstream.keep_waiting(Waiting::Reset, LOOK);
    Poll::Pending
}
