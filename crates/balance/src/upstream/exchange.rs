//! One exchange with an instance: a request's head and body out, a response's head and body in, whatever the framing.
//!
//! [`Attempt`](crate::upstream::attempt::Attempt) and everything above it know no more of a protocol than this. A
//! *framing* says how an exchange passes over a connection: HTTP/1.1 gives it the connection for as long as it lasts;
//! HTTP/2 would give it a stream beside others. Another framing is another variant: an enum and not a trait object,
//! because every byte of a response passes here.
//!
//! - Heads are bytes in the form of RFC 9112, also of a framing that has another form for them, so that there is one
//!   parser with one opinion, and one place where fields are judged.
//! - Bodies are *runs*: plain bytes without any framing, borrowed from where they arrived. A response's run is read in
//!   place ([`run`](UpstreamExchange::run)) and [consumed](UpstreamExchange::consume) when it has left.
//! - A request is kept unframed ([`UpstreamRequest::bytes`]), because the next attempt may use another framing.
//! - It is polled, and never by another task than that of its request. Dropping it ends it at the instance.

use std::{
    io,
    task::{Context, Poll},
};

use http1::{Framing, Head, Refusal};

#[cfg(test)]
use crate::tests::frames::upstream::FrameExchange;
use crate::{
    io::buffered_stream::{BufferedStream, Read},
    message::request::UpstreamRequest,
    upstream::{connection::Connection, failure::Kind, http1::Http1Exchange, stream::UpstreamStream},
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) enum UpstreamExchange {
    Http1(Http1Exchange),
    /// Holds the seam: the whole way of a request is tested with it, too.
    #[cfg(test)]
    Frames(Box<FrameExchange>),
}

/// The same call for each framing: another one is another line.
macro_rules! each {
    ($self:ident, $exchange:ident => $call:expr) => {
        match $self {
            Self::Http1($exchange) => $call,
            #[cfg(test)]
            Self::Frames($exchange) => $call,
        }
    };
}

// === impl UpstreamExchange ===

impl UpstreamExchange {
    /// One that has this connection for itself.
    pub(crate) fn on(connection: Box<Connection>) -> Self {
        Self::Http1(Http1Exchange::new(connection))
    }

    // --- the request

    /// Sends what is there of the request, as far as the instance takes it. An error is not looked at here: an instance
    /// that refuses a request early has answered it, and the answer can still be read.
    pub(crate) fn poll_send(&mut self, request: &UpstreamRequest, cx: &mut Context<'_>) {
        each!(self, exchange => exchange.poll_send(request, cx));
    }

    /// Whether everything that there is of the request was sent.
    pub(crate) fn has_sent_all(&self, request: &UpstreamRequest) -> bool {
        each!(self, exchange => exchange.has_sent_all(request))
    }

    /// Whether a byte has left, so that the instance may have begun to carry the request out.
    pub(crate) fn has_sent_something(&self) -> bool {
        each!(self, exchange => exchange.has_sent_something())
    }

    /// What was sent is [forgotten](UpstreamRequest::forget_sent).
    pub(crate) fn forget_sent(&mut self) {
        each!(self, exchange => exchange.forget_sent());
    }

    // --- the response

    /// Reads once, whatever there is.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        each!(self, exchange => exchange.poll_read(cx))
    }

    /// Looks for the head of a response, interim or final, in what has come; returns whether it is there.
    pub(crate) fn find_head(&mut self) -> bool {
        each!(self, exchange => exchange.find_head())
    }

    /// That head, until it is used up.
    pub(crate) fn head(&self) -> Option<Head<'_>> {
        each!(self, exchange => exchange.head())
    }

    /// What it means that the instance has ended before a head was complete.
    pub(crate) fn ended_before_head(&self) -> Kind {
        each!(self, exchange => exchange.ended_before_head())
    }

    /// The head was that of an interim response; another one follows.
    pub(crate) fn end_interim(&mut self) {
        each!(self, exchange => exchange.end_interim());
    }

    /// The head was that of the final response. Its body follows, framed as the head says where the framing goes by
    /// that; `keep_alive` says whether the instance keeps its connection.
    pub(crate) fn begin_body(&mut self, framing: Framing, keep_alive: bool) {
        each!(self, exchange => exchange.begin_body(framing, keep_alive));
    }

    /// Looks for the next run of the body in what has come, unless there is one.
    ///
    /// # Errors
    ///
    /// The body is not framed as it should be.
    pub(crate) fn next_run(&mut self) -> Result<(), Refusal> {
        each!(self, exchange => exchange.next_run())
    }

    /// The run of the body that is there; empty when there is none yet.
    pub(crate) fn run(&self) -> &[u8] {
        each!(self, exchange => exchange.run())
    }

    /// The first `count` bytes of the run have left.
    pub(crate) fn consume(&mut self, count: usize) {
        each!(self, exchange => exchange.consume(count));
    }

    /// The instance has ended its direction.
    ///
    /// # Errors
    ///
    /// That was not the end of the body.
    pub(crate) fn close(&mut self) -> Result<(), Refusal> {
        each!(self, exchange => exchange.close())
    }

    /// The exchange has failed; whether that was the end of the body all the same. An instance that answers before it
    /// has read the whole request resets its connection by closing it (RFC 9112, section 9.6), and a body that only the
    /// end of the connection delimits is complete with any end (section 8).
    pub(crate) fn close_by_reset(&mut self, request: &UpstreamRequest) -> bool {
        request.has_body() && self.close().is_ok()
    }

    /// Whether the whole body has come: the instance has done its part.
    pub(crate) fn has_come(&self) -> bool {
        each!(self, exchange => exchange.has_come())
    }

    /// Whether the whole body has come and was consumed.
    pub(crate) fn is_over(&self) -> bool {
        self.has_come() && self.run().is_empty()
    }

    /// Whether nothing has come that a [`run`](Self::run) has not brought.
    pub(crate) fn has_decoded_all(&self) -> bool {
        each!(self, exchange => exchange.has_decoded_all())
    }

    // --- the connection

    /// Whether it began on a connection that had served before: the instance may have closed that at any moment.
    pub(crate) fn is_reused(&self) -> bool {
        each!(self, exchange => exchange.is_reused())
    }

    /// The bytes both ways, after the instance has agreed to switch protocols; `None` in a framing that cannot.
    pub(crate) fn tunnel(&mut self) -> Option<&mut BufferedStream<UpstreamStream>> {
        match self {
            Self::Http1(exchange) => Some(exchange.tunnel()),
            #[cfg(test)]
            Self::Frames(_) => None,
        }
    }

    /// The same, to be ended.
    pub(crate) fn into_tunnel(self) -> Option<BufferedStream<UpstreamStream>> {
        match self {
            Self::Http1(exchange) => Some(exchange.into_tunnel()),
            #[cfg(test)]
            Self::Frames(_) => None,
        }
    }

    /// The connection, if another exchange may have it after this one.
    pub(crate) fn into_reusable(self) -> Option<Box<Connection>> {
        match self {
            Self::Http1(exchange) => exchange.into_reusable(),
            #[cfg(test)]
            Self::Frames(_) => None,
        }
    }
}
