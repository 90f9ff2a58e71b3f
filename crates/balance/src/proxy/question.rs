//! A question of the gateway's own as an exchange: it has no body, and its answer is kept and goes nowhere.
//!
//! So a question is served as a request is, attempt by attempt, beside the request that waits for it. That request's
//! body stays with its client; an answer that is for the client is written for it afterwards, whole and in its framing.

use std::{
    io,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use http1::Refusal;

use crate::{
    downstream::exchange::{DownstreamExchange, Sent},
    io::buffered_stream::{BufferedStream, Read},
    message::{
        problem_response::OwnResponse,
        request::RequestMeta,
        response::{BodyLength, FramingFields},
    },
};

/// The longest answer that is kept: a page that says how to log in.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Question<'c, D> {
    /// Whose request waits.
    client: &'c mut D,
    /// The answer's head.
    head: Vec<u8>,
    body: Vec<u8>,
    is_too_long: bool,
}

// === impl Question ===

impl<'c, D> Question<'c, D> {
    /// One about the request of `client`.
    pub(super) fn of(client: &'c mut D) -> Self {
        Self { client, head: Vec::new(), body: Vec::new(), is_too_long: false }
    }

    /// Whether the answer was longer than is kept.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The fields of the answer.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        lines.skip(1).take_while(|line| !line.is_empty()).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The answer, for the client.
    pub(super) fn into_answer(mut self, status: StatusCode) -> OwnResponse {
        let body = std::mem::take(&mut self.body);
        OwnResponse::of_service(status, self.fields(), body)
    }
}

impl<D: DownstreamExchange> DownstreamExchange for Question<'_, D> {
    type Stream = D::Stream;

    fn head(&self) -> Option<http1::Head<'_>> {
        None
    }

    fn begin(&mut self, _: &RequestMeta) {}

    fn poll_read(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Read>> {
        Poll::Ready(Ok(Read::End))
    }

    fn next_run(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn run(&self) -> &[u8] {
        b""
    }

    fn consume(&mut self, _: usize) {}

    fn has_come(&self) -> bool {
        true
    }

    fn remaining(&self) -> Option<u64> {
        Some(0)
    }

    /// Of a body that is still to come a buffer is read, and nothing used up. Its end may be in there, so that the end of
    /// the client's direction says nothing.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.client.has_come() {
            match ready!(self.client.poll_read(cx)) {
                Ok(Read::More) => {}
                Ok(Read::Full | Read::End) => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
        self.client.poll_left(cx)
    }

    fn has_half_closed(&self) -> bool {
        self.client.has_half_closed()
    }

    fn send_continue(&mut self) {}

    fn interim(&mut self, _: impl FnOnce(&mut Vec<u8>)) {}

    fn respond(&mut self, _: BodyLength, _: bool, write: impl FnOnce(&mut Vec<u8>, FramingFields)) {
        self.abandon();
        write(&mut self.head, FramingFields { is_chunked: false, connection: None });
    }

    fn switch(&mut self, _: impl FnOnce(&mut Vec<u8>)) {}

    fn abandon(&mut self) {
        self.head.clear();
        self.body.clear();
    }

    fn start(&mut self) {}

    fn take(&mut self, run: &[u8]) -> usize {
        if self.body.len() + run.len() > ANSWER_MAX_BYTES {
            self.is_too_long = true;
            return 0;
        }
        self.body.extend_from_slice(run);
        run.len()
    }

    fn end(&mut self) {}

    fn has_waiting(&self) -> bool {
        false
    }

    /// Only what was not taken comes here.
    fn poll_send(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<Sent>> {
        Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()))
    }

    fn send_at_once(&mut self, _: &[u8]) -> Poll<io::Result<Sent>> {
        Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()))
    }

    fn complete(&mut self) {}

    fn tunnel(&mut self) -> Option<&mut BufferedStream<D::Stream>> {
        None
    }
}
