//! The body of a request that is not forwarded: read to its end while it is small, so that the connection can carry the next
//! request.

use std::{future::poll_fn, task::Poll, time::Duration};

use http1::BodyDecoder;
use tokio::time::timeout;

use crate::{
    io::buffered_stream::{BufferedStream, Read, Stream},
    message::request::RequestMeta,
};

/// How long the rest of a small body may take when it is read only to keep the connection.
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// What is left of a request that is not forwarded.
#[derive(Debug)]
pub(crate) struct Rest {
    body: BodyDecoder,
    /// Whether the client waits to be told to send it.
    waits: bool,
}

// === impl Rest ===

impl Rest {
    pub(crate) fn new(body: BodyDecoder, facts: &RequestMeta) -> Self {
        Self { body, waits: facts.expects_continue }
    }

    /// Reads the rest of a small body, for a moment; false when the connection must end instead.
    pub(crate) async fn discard<S: Stream>(mut self, client: &mut BufferedStream<S>, max_bytes: u64) -> bool {
        let is_small = self.body.is_at_end() || self.body.remaining().is_some_and(|rest| rest <= max_bytes);
        if !is_small || (self.waits && !self.body.is_at_end()) {
            return false;
        }
        let read = poll_fn(|cx| {
            loop {
                while let Ok(piece) = self.body.decode(client.unread()) {
                    client.consume(piece.consumed);
                    if piece.consumed == 0 || self.body.is_at_end() {
                        break;
                    }
                }
                if self.body.is_at_end() {
                    return Poll::Ready(true);
                }
                match client.poll_read_some(cx) {
                    Poll::Ready(Ok(Read::More)) => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        timeout(DISCARD_MAX, read).await.unwrap_or(false)
    }
}
