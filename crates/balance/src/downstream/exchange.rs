//! One exchange with a client: a request's head and body in, a response's head and body out, whatever the framing.
//!
//! The way of a request ([`crate::proxy`]) knows no more of a client than this. A *framing* says how an exchange passes
//! over a connection: HTTP/1.1 gives it the connection for as long as it lasts ([`crate::downstream::http1`]); HTTP/2
//! would give it a stream beside others. See [`UpstreamExchange`](crate::upstream::exchange::UpstreamExchange) for the
//! other side, where heads and runs are the same:
//!
//! - A head is bytes in the form of RFC 9112. Of a response the framing says which fields frame it ([`FramingFields`]).
//! - A body is runs: plain bytes, borrowed. What a framing [takes](DownstreamExchange::take) of a run waits in a buffer
//!   of its own; what it does not take leaves from where it is, behind what waits, or is offered again when there is
//!   room for it.
//!
//! Deadlines are not in here: they are cells that the core's ticker looks over ([`ConnectionTimers`]), one set an
//! exchange.
//!
//! [`ConnectionTimers`]: crate::downstream::deadlines::ConnectionTimers

use std::{
    io,
    task::{Context, Poll},
};

use http1::{Head, Refusal};

use crate::{
    io::{
        buffered_stream::{BufferedStream, Read},
        stream::Stream,
    },
    message::{
        request::RequestMeta,
        response::{BodyLength, FramingFields},
    },
};

/// What has left at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Bytes on the wire.
    pub(crate) bytes: usize,
    /// How many bytes of the run are used up.
    pub(crate) of_run: usize,
}

/// How an exchange has ended, as far as the client's connection is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The whole request was read, and the whole response has left.
    Whole,
    /// The whole response has left, and the client may still be sending.
    Early,
    /// The response has not left as a whole: the client must learn that.
    Broken,
}

/// See the [module](self).
pub(crate) trait DownstreamExchange {
    /// What a tunnel is made of.
    type Stream: Stream;

    // --- the request

    /// The request's head, which has come whole, until it [was judged](Self::begin).
    fn head(&self) -> Option<Head<'_>>;

    /// The head was judged, and says that; the body follows.
    fn begin(&mut self, request: &RequestMeta);

    /// Reads once, whatever there is of the body.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>>;

    /// Looks for the next run of the body in what has come, unless there is one.
    ///
    /// # Errors
    ///
    /// The body is not framed as it should be.
    fn next_run(&mut self) -> Result<(), Refusal>;

    /// The run of the body that is there; empty when there is none yet.
    fn run(&self) -> &[u8];

    /// The first `count` bytes of the run are used up.
    fn consume(&mut self, count: usize);

    /// Whether the whole body has come, though a run may be left.
    fn has_come(&self) -> bool;

    /// How many bytes of the body are still to come, where that is known.
    fn remaining(&self) -> Option<u64>;

    // --- the client

    /// Looks whether the client is still there, once its request is complete. Ready when it has left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Whether the client has ended its direction, so that only a write would show that it is gone.
    fn has_half_closed(&self) -> bool;

    // --- the response

    /// The client may send its body now (`100 Continue`); nothing, once a response has begun.
    fn send_continue(&mut self);

    /// Writes the head of an interim response, for a client that can read one.
    fn interim(&mut self, write: impl FnOnce(&mut Vec<u8>));

    /// Writes the head of a response. `is_last` says that the connection is to end for a reason of ours.
    fn respond(&mut self, length: BodyLength, is_last: bool, write: impl FnOnce(&mut Vec<u8>, FramingFields));

    /// Writes the head of a 101, after which the connection is a [tunnel](Self::tunnel).
    fn switch(&mut self, write: impl FnOnce(&mut Vec<u8>));

    /// The response that has begun is not sent: nothing of it has left. Another one may begin.
    fn abandon(&mut self);

    /// From now on the response is under way: any end of it but [`complete`](Self::complete) must not look like one to
    /// the client.
    fn start(&mut self);

    /// Takes in a run of the response's body, if it is to be framed, or small enough to leave together with what waits;
    /// returns how much of it.
    fn take(&mut self, run: &[u8]) -> usize;

    /// The whole body was taken in, or has left.
    fn end(&mut self);

    /// Whether something waits to be sent.
    fn has_waiting(&self) -> bool;

    /// Sends once: what waits, and then of the `run`, which was not [taken](Self::take); nothing of it if it must be.
    fn poll_send(&mut self, cx: &mut Context<'_>, run: &[u8]) -> Poll<io::Result<Sent>>;

    /// The same, asking the kernel itself how much it takes, whatever the runtime was notified of.
    fn send_at_once(&mut self, run: &[u8]) -> Poll<io::Result<Sent>>;

    /// Everything has left.
    fn complete(&mut self);

    /// The bytes both ways, after [`switch`](Self::switch); `None` in a framing that has no tunnels.
    fn tunnel(&mut self) -> Option<&mut BufferedStream<Self::Stream>>;

    /// Sends what waits, as far as the client takes it.
    ///
    /// # Errors
    ///
    /// The client has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.has_waiting() {
            match self.poll_send(cx, &[]) {
                Poll::Ready(sent) => drop(sent?),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}
