//! The body of a request that is not forwarded: read to its end while it is small, so that the connection can carry the next
//! request.

use std::{future::poll_fn, task::Poll, time::Duration};

use tokio::time::timeout;

use crate::{downstream::exchange::DownstreamExchange, io::buffered_stream::Read, message::request::RequestMeta};

/// How long the rest of a small body may take when it is read only to keep the connection.
const DISCARD_MAX: Duration = Duration::from_secs(1);

/// Reads the rest of a small body, for a moment; false when it is not read to its end.
pub(crate) async fn discard<D: DownstreamExchange>(client: &mut D, facts: &RequestMeta, max_bytes: u64) -> bool {
    let is_small = client.has_come() || client.remaining().is_some_and(|rest| rest <= max_bytes);
    // A client that waits for "100 Continue" sends no body without it.
    if !is_small || (facts.expects_continue && !client.has_come()) {
        return false;
    }
    let read = poll_fn(|cx| {
        loop {
            if client.next_run().is_err() {
                return Poll::Ready(false);
            }
            let count = client.run().len();
            if count > 0 {
                client.consume(count);
            } else if client.has_come() {
                return Poll::Ready(true);
            } else {
                match client.poll_read(cx) {
                    Poll::Ready(Ok(Read::More)) => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    });
    timeout(DISCARD_MAX, read).await.unwrap_or(false)
}
