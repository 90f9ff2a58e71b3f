//! The rest of a request's body, on its way from the client.
//!
//! It is read no faster than the instance takes it, and no slower than [`Limits::body_min_bytes_per_s`]: a client that drips
//! occupies an instance, and many of them occupy all (slow POST). What the client waits for on its part, `100 Continue`, it is told
//! here, when somebody wants its body.
//!
//! [`Limits::body_min_bytes_per_s`]: crate::config::Limits

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    clock::Millis,
    config::GatewayOptions,
    downstream::{Downstream, Waiting},
    outgoing::Outgoing,
    refusal::Refusal,
    wire::{Read, Stream, Wire},
};

/// How long a body may be slow: networks stall, and a client may have to think.
const GRACE: Duration = Duration::from_secs(10);

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a request's client is to be told before the response, and how its body comes along.
#[derive(Debug)]
pub(crate) struct Body {
    /// Interim responses that have not left yet; they leave before anything else.
    pub(crate) interim: Vec<u8>,
    is_continued: bool,
    /// For how long the client has been waited for, by the ticks that saw it.
    waited: Duration,
    waits_since: Option<Millis>,
}

// === impl Body ===

impl Body {
    /// `interim` is an empty buffer.
    pub(crate) fn new(interim: Vec<u8>) -> Self {
        Self { interim, is_continued: false, waited: Duration::ZERO, waits_since: None }
    }

    /// Feeds `request` with what comes next; ready when something did.
    ///
    /// Errors are the client's: it left, or sent what must not be passed on.
    pub(crate) fn poll_next<S: Stream>(
        &mut self,
        client: &mut Wire<S>,
        request: &mut Outgoing,
        downstream: &Downstream,
        options: &GatewayOptions,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Refusal>> {
        loop {
            let used = request.feed(client.unread())?;
            client.consume(used);
            if used > 0 {
                self.waits_since = None;
                downstream.body_moved(options.timeouts.response_timeout);
                return Poll::Ready(Ok(()));
            }
            if request.facts.expects_continue && !std::mem::replace(&mut self.is_continued, true) {
                self.interim.extend_from_slice(CONTINUE);
            }
            if self.poll_interim(client, cx).is_err() {
                return Poll::Ready(Err(Refusal::BodyBroken));
            }
            match client.poll_read_some(cx) {
                Poll::Ready(Ok(Read::More)) => {}
                Poll::Ready(Ok(Read::End | Read::Full) | Err(_)) => return Poll::Ready(Err(Refusal::BodyBroken)),
                Poll::Pending => {
                    return self
                        .wait(request, downstream, options)
                        .map_or(Poll::Pending, |refusal| Poll::Ready(Err(refusal)));
                }
            }
        }
    }

    /// Writes what can be written of the interim responses. The error is that the client has left.
    pub(crate) fn poll_interim<S: Stream>(&mut self, client: &mut Wire<S>, cx: &mut Context<'_>) -> Result<(), ()> {
        while !self.interim.is_empty() {
            match client.poll_write(cx, &self.interim) {
                Poll::Ready(Ok(count)) => drop(self.interim.drain(..count)),
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The client is slow; what it gets when it is too slow.
    fn wait(&mut self, request: &Outgoing, downstream: &Downstream, options: &GatewayOptions) -> Option<Refusal> {
        let limit = options.timeouts.body_idle_timeout;
        downstream.body_stalled(limit);
        if downstream.is_over(Waiting::Body) {
            downstream.stop(Waiting::Body);
            return Some(Refusal::BodyTimeout(limit));
        }
        let now = downstream.now();
        self.waited += now.since(*self.waits_since.get_or_insert(now));
        self.waits_since = Some(now);
        let min_bytes_per_s = options.limits.body_min_bytes_per_s;
        let is_too_slow = self.waited > GRACE && {
            let owed = u128::from(min_bytes_per_s) * (self.waited - GRACE).as_millis() / 1000;
            u128::from(request.body_bytes()) < owed
        };
        is_too_slow.then_some(Refusal::BodyTooSlow { min_bytes_per_s })
    }

    /// The buffer, for the response: interim responses that have not left wait in it.
    pub(crate) fn into_interim(self) -> Vec<u8> {
        self.interim
    }
}

/// Looks whether the client is still there, and takes in what it sends beforehand of its next request, up to `max_bytes`.
/// Ready when it has left.
pub(crate) fn poll_left<S: Stream>(client: &mut Wire<S>, max_bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match ready!(client.poll_read(cx, max_bytes)) {
            Ok(Read::More) => {}
            // It may have left since; that will show when the response is written.
            Ok(Read::Full) => return Poll::Pending,
            Ok(Read::End) | Err(_) => return Poll::Ready(()),
        }
    }
}
