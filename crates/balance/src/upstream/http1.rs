//! An exchange in HTTP/1.1: alone on its connection, which the next one may use after it.
//!
//! A request whose length is known leaves as it is kept, without a copy. One whose length is not is written in chunks
//! (RFC 9112, section 7.1): the frames are this file's, and what is kept for another attempt is the plain body. A
//! response is read out of its framing in place: its [body](Http1Exchange::run) is borrowed from the connection's
//! buffer, and chunk sizes, extensions and trailers end here.

use std::{
    io,
    task::{Context, Poll},
};

use http1::{Framing, Head, Limits, Refusal, write};

use crate::{
    io::{
        body_reader::BodyReader,
        buffered_stream::{BufferedStream, Read},
    },
    message::request::UpstreamRequest,
    upstream::{connection::Connection, failure::Kind, stream::UpstreamStream},
};

/// How much of a response's head is read.
pub(crate) const RESPONSE_LIMITS: Limits = Limits { head_max_bytes: 64 * 1024, fields_max: 256, target_max_bytes: 0 };

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Http1Exchange {
    connection: Box<Connection>,
    has_written: bool,
    /// How many of [`UpstreamRequest::bytes`] were sent, or stand in `frames`.
    sent: usize,
    /// Of a request of unknown length: what is framed and not sent.
    frames: Vec<u8>,
    has_framed_end: bool,
    /// The head's length, once it has come; 0 when it was used up.
    head_bytes: usize,
    body: BodyReader,
    /// Whether the connection can carry another exchange after this one.
    keeps_connection: bool,
}

// === impl Http1Exchange ===

impl Http1Exchange {
    pub(crate) fn new(connection: Box<Connection>) -> Self {
        Self {
            connection,
            has_written: false,
            sent: 0,
            frames: Vec::new(),
            has_framed_end: false,
            head_bytes: 0,
            body: BodyReader::new(Framing::Empty),
            keeps_connection: false,
        }
    }

    /// Sends what is there of the request, as far as the instance takes it.
    pub(crate) fn poll_send(&mut self, request: &UpstreamRequest, cx: &mut Context<'_>) {
        if request.has_known_length() {
            while self.sent < request.bytes().len() {
                let Some(count) = self.write(cx, &request.bytes()[self.sent..]) else { return };
                self.sent += count;
            }
            return;
        }
        self.frame(request);
        while !self.frames.is_empty() {
            let frames = std::mem::take(&mut self.frames);
            let written = self.write(cx, &frames);
            self.frames = frames;
            let Some(count) = written else { return };
            self.frames.drain(..count);
        }
    }

    /// Writes once; `None` when the instance takes nothing, for now or for ever.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<usize> {
        let stream = &mut self.connection.stream;
        if stream.has_failed() {
            return None;
        }
        let Poll::Ready(Ok(count)) = stream.poll_write(cx, bytes) else { return None };
        self.has_written = true;
        Some(count)
    }

    /// Frames what is there of the request and was not framed before.
    fn frame(&mut self, request: &UpstreamRequest) {
        let (head, body) = request.bytes().split_at(request.head_bytes());
        if self.sent < head.len() {
            self.frames.extend_from_slice(&head[self.sent..]);
            self.sent = head.len();
        }
        let new = &body[self.sent - head.len()..];
        if !new.is_empty() {
            write::chunk(&mut self.frames, new);
            self.sent += new.len();
        }
        if request.is_complete() && !std::mem::replace(&mut self.has_framed_end, true) {
            self.frames.extend_from_slice(write::LAST_CHUNK);
        }
    }

    pub(crate) fn has_sent_all(&self, request: &UpstreamRequest) -> bool {
        let is_end_due = request.is_complete() && !request.has_known_length();
        self.sent == request.bytes().len() && self.frames.is_empty() && (self.has_framed_end || !is_end_due)
    }

    pub(crate) fn has_sent_something(&self) -> bool {
        self.has_written
    }

    pub(crate) fn forget_sent(&mut self) {
        self.sent = 0;
    }

    pub(crate) fn find_head(&mut self) -> bool {
        let found = self.connection.stream.find_head(&RESPONSE_LIMITS);
        self.head_bytes = found.unwrap_or(0);
        found.is_some()
    }

    pub(crate) fn head(&self) -> Option<Head<'_>> {
        self.connection.stream.head()
    }

    /// What an end before the end of a head means.
    pub(crate) fn ended_before_head(&self) -> Kind {
        match self.connection.stream.unread() {
            [] => Kind::Closed(io::ErrorKind::UnexpectedEof.into()),
            some => Kind::Malformed(broken_off(some)),
        }
    }

    pub(crate) fn end_interim(&mut self) {
        self.connection.stream.consume(std::mem::take(&mut self.head_bytes));
    }

    pub(crate) fn begin_body(&mut self, framing: Framing, keep_alive: bool) {
        self.end_interim();
        self.body = BodyReader::new(framing);
        self.keeps_connection = keep_alive && framing != Framing::UntilClose;
    }

    /// Reads once: a head to its largest size, a body a buffer at most.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let stream = &mut self.connection.stream;
        if self.body.has_come() {
            stream.poll_read(cx, RESPONSE_LIMITS.head_max_bytes)
        } else {
            stream.poll_read_some(cx)
        }
    }

    /// Finds the next run of the body in what has come.
    pub(crate) fn next_run(&mut self) -> Result<(), Refusal> {
        self.body.next_run(&mut self.connection.stream)
    }

    pub(crate) fn run(&self) -> &[u8] {
        self.body.run(&self.connection.stream)
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.body.consume(&mut self.connection.stream, count);
    }

    pub(crate) fn close(&mut self) -> Result<(), Refusal> {
        self.body.close()
    }

    pub(crate) fn has_come(&self) -> bool {
        self.body.has_come()
    }

    /// Whether what has come is a run, and its framing, and nothing behind it.
    pub(crate) fn has_decoded_all(&self) -> bool {
        self.body.has_decoded_all(&self.connection.stream)
    }

    pub(crate) fn is_reused(&self) -> bool {
        self.connection.is_reused
    }

    pub(crate) fn tunnel(&mut self) -> &mut BufferedStream<UpstreamStream> {
        &mut self.connection.stream
    }

    pub(crate) fn into_tunnel(self) -> BufferedStream<UpstreamStream> {
        self.connection.stream
    }

    /// The connection, if another exchange may use it.
    pub(crate) fn into_reusable(self) -> Option<Box<Connection>> {
        let Self { connection, body, keeps_connection, .. } = self;
        let is_over = body.has_come() && connection.stream.unread().is_empty();
        (keeps_connection && is_over).then_some(connection)
    }
}

/// An answer that ended before its head did may begin with a record of TLS (RFC 8446, 5.1) or SETTINGS (RFC 9113, 3.4).
fn broken_off(answer: &[u8]) -> &'static str {
    match answer {
        [0x15 | 0x16, 3, ..] => "it speaks TLS, and the gateway plain HTTP/1.1 to it",
        [_, _, _, 4, _, 0, 0, 0, 0, ..] => "it speaks HTTP/2, and the gateway HTTP/1.1 to it",
        _ => "the head broke off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_another_protocol_is_told_from_one_that_broke_off() {
        for (answer, expected) in [
            (&b"\x15\x03\x03\0\x02\x02\x32"[..], "TLS"),
            (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", "HTTP/2"),
            (b"HTTP/1.1 200 OK\r\n", "broke off"),
            (b"HTT", "broke off"),
        ] {
            assert!(broken_off(answer).contains(expected), "{answer:?}");
        }
    }
}
