//! The socket of a client connection, with an eye on what passes.
//!
//! hyper reads and writes through this. It notices when a request's head begins (its deadline starts), when a response
//! has left (the wait for the next request starts), and when a client takes nothing any more. And it gives a body to the
//! answers that hyper makes itself when it cannot parse a head: every error of ours is a problem that says what to change.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    config::{Limits, Timeouts},
    downstream::{Downstream, Phase, Waiting},
    identity,
    metrics::Refusals,
    refusal::Refusal,
    reply, vectored,
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: TcpStream,
    downstream: Rc<Downstream>,
    timeouts: Timeouts,
    limits: Limits,
    refusals: Refusals,
    /// What is written instead of hyper's own answer, as far as it has not left yet.
    instead: Vec<u8>,
}

// === impl ClientStream ===

impl ClientStream {
    pub(crate) fn new(
        stream: TcpStream,
        downstream: Rc<Downstream>,
        timeouts: Timeouts,
        limits: Limits,
        refusals: Refusals,
    ) -> Self {
        downstream.wait_for_request(timeouts.keep_alive);
        Self { stream, downstream, timeouts, limits, refusals, instead: Vec::new() }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn note_read(&self) {
        if self.downstream.phase() == Phase::Idle {
            self.downstream.enter(Phase::Head);
            self.downstream.stop(Waiting::Request);
            self.downstream.wait(Waiting::Head, self.timeouts.header_timeout);
        }
    }

    /// Notes whether the client takes what is written.
    fn note_write<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.downstream.stop(Waiting::Client);
            return written;
        }
        self.downstream.keep_waiting(Waiting::Client, self.timeouts.stream_idle_timeout);
        if self.downstream.is_over(Waiting::Client) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing any more")));
        }
        Poll::Pending
    }

    /// The problem that belongs to an answer of hyper's own: one that is written although no request is being served.
    fn problem_for(&self, written: &[u8]) -> Option<Vec<u8>> {
        if !matches!(self.downstream.phase(), Phase::Idle | Phase::Head) {
            return None;
        }
        let status = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        let refusal = match status {
            b"431" => Refusal::HeaderTooLarge {
                max_bytes: self.limits.header_max_bytes,
                fields_max: self.limits.header_fields_max,
            },
            b"414" => Refusal::TargetTooLong { max_bytes: self.limits.target_max_bytes },
            [b'4', ..] => Refusal::Malformed("the head of the request is not HTTP/1.1 (RFC 9112)".into()),
            _ => return None,
        };
        self.refusals.count(&refusal);
        // Whatever the client sends after this is not read any more.
        self.downstream.set_leaves_unread(true);
        Some(reply::last_words(&refusal, &identity::new_id()))
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.instead);
            let written = ready!(self.note_write(written))?;
            self.instead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.note_read();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(problem) = self.problem_for(bytes) {
            self.instead = problem;
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(problem) = slices.first().and_then(|head| self.problem_for(head)) {
            self.instead = problem;
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = vectored::poll_write(Pin::new(&mut self.stream), cx, slices);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        if self.downstream.phase() == Phase::Flushing {
            self.downstream.enter(Phase::Idle);
            self.downstream.wait_for_request(self.timeouts.keep_alive);
        }
        Poll::Ready(Ok(()))
    }

    /// Only what is left to be written: `close` follows at once, and says the same to the client without a system call
    /// more. Where it would say too much, [`crate::connection`] shuts down by itself.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_instead(cx)
    }
}
