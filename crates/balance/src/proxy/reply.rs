//! The gateway's own answers on their way to the client.

use std::{future::poll_fn, task::Poll};

use crate::{
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        exchange::{DownstreamExchange, Ended},
        unread_body::discard,
    },
    message::{gateway_error::GatewayError, problem_response::OwnResponse, request::RequestMeta, response::BodyLength},
    proxy::context::Gateway,
};

impl Gateway {
    /// Refuses a request. A small rest of its body is read before, so that the connection can go on.
    pub(super) async fn refuse<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        facts: &RequestMeta,
        refusal: &GatewayError,
    ) -> Ended {
        self.refusals.count(refusal);
        let is_read = !refusal.closes() && discard(client, facts, self.options.retries.replay_max_bytes).await;
        self.say(client, timers, facts, OwnResponse::problem(refusal, facts), is_read).await
    }

    /// Answers a request that is not forwarded.
    pub(super) async fn answer<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        facts: &RequestMeta,
        response: OwnResponse,
    ) -> Ended {
        let is_read = discard(client, facts, self.options.retries.replay_max_bytes).await;
        self.say(client, timers, facts, response, is_read).await
    }

    async fn say<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        facts: &RequestMeta,
        response: OwnResponse,
        is_read: bool,
    ) -> Ended {
        let is_last = !is_read || timers.is_draining();
        self.clock.with_date(|date| {
            client.respond(BodyLength::Known, is_last, |out, framing| response.write_head(out, facts, date, framing));
        });
        let has_left = self.send_all(client, timers, response.body(facts)).await;
        match (has_left, is_read) {
            (false, _) => Ended::Broken,
            (true, false) => Ended::Early,
            (true, true) => Ended::Whole,
        }
    }

    /// Sends what waits, and then `body`; false when the client is gone, or takes nothing for too long.
    pub(super) async fn send_all<D: DownstreamExchange>(
        &self,
        client: &mut D,
        timers: &ConnectionTimers,
        body: &[u8],
    ) -> bool {
        let mut run = &body[client.take(body)..];
        if run.is_empty() {
            client.end();
        }
        poll_fn(|cx| {
            while client.has_waiting() || !run.is_empty() {
                match client.poll_send(cx, run) {
                    Poll::Ready(Ok(sent)) => {
                        // What it is to take next has the whole time again.
                        timers.stop(Waiting::Client);
                        run = &run[sent.of_run..];
                        if sent.of_run > 0 && run.is_empty() {
                            client.end();
                        }
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(false),
                    Poll::Pending => {
                        timers.keep_waiting(Waiting::Client, self.options.timeouts.stream_idle_timeout);
                        return if timers.is_over(Waiting::Client) { Poll::Ready(false) } else { Poll::Pending };
                    }
                }
            }
            Poll::Ready(true)
        })
        .await
    }
}
