//! An exchange in HTTP/1.1: the next one on its connection comes after it.

mod response_writer;

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use http1::{Framing, Head, Refusal};
use response_writer::ResponseWriter;

use crate::{
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        exchange::{DownstreamExchange, Ended, Sent},
    },
    io::{
        body_reader::BodyReader,
        buffered_stream::{BufferedStream, Read},
        stream::Stream,
    },
    message::{
        request::RequestMeta,
        response::{BodyLength, FramingFields},
    },
};

/// How often a socket is asked whose client has ended its direction.
const LOOK: Duration = Duration::from_millis(500);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Http1Exchange<'c, S> {
    client: &'c mut BufferedStream<S>,
    timers: &'c ConnectionTimers,
    /// How much of the next request may come beforehand.
    read_ahead_max_bytes: usize,
    head_bytes: usize,
    body: BodyReader,
    response: ResponseWriter,
}

/// What becomes of the connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request.
    Keep,
    /// Its end.
    Close,
    /// Its end, as soon as the client has noticed: it may still be sending.
    Linger,
}

// === impl Http1Exchange ===

impl<'c, S: Stream> Http1Exchange<'c, S> {
    /// That of the request whose head is the first `head_bytes` that are unread.
    pub(crate) fn new(
        client: &'c mut BufferedStream<S>,
        timers: &'c ConnectionTimers,
        head_bytes: usize,
        read_ahead_max_bytes: usize,
    ) -> Self {
        let response = ResponseWriter::new(client.buffers().vec());
        Self { client, timers, read_ahead_max_bytes, head_bytes, body: BodyReader::new(Framing::Empty), response }
    }

    /// What becomes of the connection.
    pub(crate) fn next(&self, ended: Ended) -> Next {
        match ended {
            Ended::Broken => Next::Close,
            Ended::Whole if !self.response.is_last() => Next::Keep,
            Ended::Whole if self.response.is_asked_to_close() && self.client.unread().is_empty() => Next::Close,
            Ended::Whole | Ended::Early => Next::Linger,
        }
    }
}

impl<S> Drop for Http1Exchange<'_, S> {
    fn drop(&mut self) {
        self.client.buffers().put_vec(self.response.take_bytes());
    }
}

impl<S: Stream> DownstreamExchange for Http1Exchange<'_, S> {
    type Stream = S;

    fn head(&self) -> Option<Head<'_>> {
        self.client.head()
    }

    fn begin(&mut self, request: &RequestMeta) {
        self.client.consume(std::mem::take(&mut self.head_bytes));
        self.body = BodyReader::new(request.body);
        self.response.answer(request);
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        self.client.poll_read_some(cx)
    }

    fn next_run(&mut self) -> Result<(), Refusal> {
        self.body.next_run(self.client)
    }

    fn run(&self) -> &[u8] {
        self.body.run(self.client)
    }

    fn consume(&mut self, count: usize) {
        self.body.consume(self.client, count);
    }

    fn has_come(&self) -> bool {
        self.body.has_come()
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    /// A client may end its direction once its request is complete, and still wait for the answer (RFC 9112, section
    /// 9.6): `printf … | nc` does, and so do health checkers and old libraries. Only a reset says that it is gone. Of
    /// one that has merely closed its socket nothing can be known until something is written to it; then its kernel
    /// answers with a reset.
    ///
    /// A reset after the end of its direction makes nothing readable, and the runtime reports the end again and again.
    /// So that nothing spins, such a client is not polled: the socket is asked every [`LOOK`] whether it has failed.
    ///
    /// What a client sends beforehand of its next request is taken in.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.client.is_at_end() {
            match ready!(self.client.poll_read(cx, self.read_ahead_max_bytes)) {
                Ok(Read::More | Read::End) => {}
                // It may have left since; that will show when the response is written.
                Ok(Read::Full) => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.timers.is_over(Waiting::Reset) {
            self.timers.stop(Waiting::Reset);
            if self.client.stream().has_error() {
                return Poll::Ready(());
            }
        }
        self.timers.keep_waiting(Waiting::Reset, LOOK);
        Poll::Pending
    }

    fn has_half_closed(&self) -> bool {
        self.client.is_at_end()
    }

    fn send_continue(&mut self) {
        self.response.interim(|out| out.extend_from_slice(CONTINUE));
    }

    fn interim(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.response.interim(write);
    }

    fn respond(&mut self, length: BodyLength, is_last: bool, write: impl FnOnce(&mut Vec<u8>, FramingFields)) {
        self.response.begin(length, is_last, write);
    }

    fn switch(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.response.begin(BodyLength::Known, false, |out, _| write(out));
    }

    fn abandon(&mut self) {
        self.response.abandon();
    }

    /// A client that would take any end of its connection for the end of the response has its connection reset when
    /// that is not so (RFC 9112, section 8), whatever becomes of this task or process.
    fn start(&mut self) {
        if self.response.ends_with_connection() {
            self.client.stream().resets_on_drop(true);
        }
    }

    fn take(&mut self, run: &[u8]) -> usize {
        self.response.take(run)
    }

    fn end(&mut self) {
        self.response.end();
    }

    fn has_waiting(&self) -> bool {
        !self.response.waiting().is_empty()
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, run: &[u8]) -> Poll<io::Result<Sent>> {
        let run = self.response.leaves_as_it_is(run);
        let bytes = ready!(self.client.poll_write_both(cx, self.response.waiting(), run))?;
        Poll::Ready(Ok(Sent { bytes, of_run: self.response.wrote(bytes) }))
    }

    fn send_at_once(&mut self, run: &[u8]) -> Poll<io::Result<Sent>> {
        let (waiting, run) = (self.response.waiting(), self.response.leaves_as_it_is(run));
        let bytes = ready!(self.client.write_at_once(if waiting.is_empty() { run } else { waiting }))?;
        Poll::Ready(Ok(Sent { bytes, of_run: self.response.wrote(bytes) }))
    }

    fn complete(&mut self) {
        if self.response.ends_with_connection() {
            self.client.stream().resets_on_drop(false);
        }
    }

    fn tunnel(&mut self) -> Option<&mut BufferedStream<S>> {
        Some(self.client)
    }
}

#[cfg(test)]
mod tests;
