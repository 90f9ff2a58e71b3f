//! The gateway's own answers on their way to the client, and what becomes of its connection after an answer.

use std::{future::poll_fn, task::Poll, time::Duration};

use crate::{
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        unread_body::Rest,
    },
    io::wire::{BufferedStream, Stream},
    message::{cors::Preflight, problem_response, refusal::GatewayError, request::RequestMeta},
    proxy::context::Gateway,
    routing::index,
    table::routing_table::RoutingTable,
};

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request.
    Keep,
    /// Its end.
    Close,
    /// Its end, as soon as the client has noticed: it may still be sending.
    Linger,
}

impl Gateway {
    /// Says which services there are.
    pub(super) async fn answer_index<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        facts: &RequestMeta,
        rest: Rest,
        table: &RoutingTable,
        downstream: &ConnectionTimers,
    ) -> Next {
        let is_read = rest.discard(client, self.options.retries.replay_max_bytes).await;
        let is_last = !is_read || !facts.keep_alive || downstream.is_draining();
        let mut bytes = self.buffers.vec();
        let listing = index::listing(table, self.options.index);
        self.clock.with_date(|date| problem_response::json(&mut bytes, &listing, facts, is_last, date));
        self.say(client, bytes, facts, is_last, is_read, downstream).await
    }

    /// Sends a browser to another location.
    pub(super) async fn send_elsewhere<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        location: &[u8],
        facts: &RequestMeta,
        rest: Rest,
        downstream: &ConnectionTimers,
    ) -> Next {
        let is_read = rest.discard(client, self.options.retries.replay_max_bytes).await;
        let is_last = !is_read || !facts.keep_alive || downstream.is_draining();
        let mut bytes = self.buffers.vec();
        self.clock.with_date(|date| problem_response::moved(&mut bytes, location, facts, is_last, date));
        self.say(client, bytes, facts, is_last, is_read, downstream).await
    }

    /// Tells a browser what pages of another site may send.
    pub(super) async fn answer_preflight<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        preflight: &Preflight,
        facts: &RequestMeta,
        rest: Rest,
        downstream: &ConnectionTimers,
    ) -> Next {
        let is_read = rest.discard(client, self.options.retries.replay_max_bytes).await;
        let is_last = !is_read || !facts.keep_alive || downstream.is_draining();
        let mut bytes = self.buffers.vec();
        self.clock.with_date(|date| problem_response::preflight(&mut bytes, preflight, facts, is_last, date));
        self.say(client, bytes, facts, is_last, is_read, downstream).await
    }

    /// Answers with a refusal, after the `bytes` that wait already. A small rest of the body is read before, so that the
    /// connection can go on.
    pub(super) async fn refuse<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        mut bytes: Vec<u8>,
        refusal: &GatewayError,
        facts: &RequestMeta,
        rest: Rest,
        downstream: &ConnectionTimers,
    ) -> Next {
        self.refusals.count(refusal);
        let is_read = !refusal.closes() && rest.discard(client, self.options.retries.replay_max_bytes).await;
        let is_last = !is_read || !facts.keep_alive || downstream.is_draining();
        self.clock.with_date(|date| problem_response::refuse(&mut bytes, refusal, facts, is_last, date));
        self.say(client, bytes, facts, is_last, is_read, downstream).await
    }

    async fn say<S: Stream>(
        &self,
        client: &mut BufferedStream<S>,
        bytes: Vec<u8>,
        facts: &RequestMeta,
        is_last: bool,
        is_read: bool,
        downstream: &ConnectionTimers,
    ) -> Next {
        let has_left = write_all(client, &bytes, downstream, self.options.timeouts.stream_idle_timeout).await;
        self.buffers.put_vec(bytes);
        match (has_left, is_last, is_read) {
            (false, ..) => Next::Close,
            (true, true, true) if !facts.keep_alive && client.unread().is_empty() => Next::Close,
            (true, true, _) => Next::Linger,
            (true, false, _) => Next::Keep,
        }
    }
}

/// Writes all of `bytes`; false when the client is gone, or takes nothing for `limit`.
pub(super) async fn write_all<S: Stream>(
    client: &mut BufferedStream<S>,
    bytes: &[u8],
    downstream: &ConnectionTimers,
    limit: Duration,
) -> bool {
    let mut written = 0;
    poll_fn(|cx| {
        while written < bytes.len() {
            match client.poll_write(cx, &bytes[written..]) {
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => {
                    downstream.keep_waiting(Waiting::Client, limit);
                    return if downstream.is_over(Waiting::Client) { Poll::Ready(false) } else { Poll::Pending };
                }
            }
        }
        Poll::Ready(true)
    })
    .await
}
