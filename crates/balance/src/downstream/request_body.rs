//! The rest of a request's body, on its way from the client.
//!
//! It is read no faster than the instance takes it, and no slower than [`Limits::body_min_bytes_per_s`]: a client that drips
//! occupies an instance, and many of them occupy all (slow POST). What the client waits for on its part, `100 Continue`, it is told
//! here, when its body is wanted.
//!
//! [`Limits::body_min_bytes_per_s`]: crate::config::Limits

use std::{
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    clock::Millis,
    config::GatewayOptions,
    downstream::deadlines::{ConnectionTimers, Waiting},
    io::buffered_stream::{BufferedStream, Read, Stream},
    message::{gateway_error::GatewayError, request::UpstreamRequest},
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
    /// How much of the body has been seen to come.
    seen: u64,
    /// Bytes that pay for what has been `waited`; never in advance, so that what came fast buys no time to drip.
    paid: u64,
}

// === impl Body ===

impl Body {
    /// `interim` is an empty buffer.
    pub(crate) fn new(interim: Vec<u8>) -> Self {
        Self { interim, is_continued: false, waited: Duration::ZERO, waits_since: None, seen: 0, paid: 0 }
    }

    /// Feeds `request` with what comes next; ready when something did.
    ///
    /// Errors are the client's: it left, or sent what must not be passed on.
    pub(crate) fn poll_next<S: Stream>(
        &mut self,
        client: &mut BufferedStream<S>,
        request: &mut UpstreamRequest,
        downstream: &ConnectionTimers,
        options: &GatewayOptions,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), GatewayError>> {
        loop {
            let used = request.feed(client.unread())?;
            client.consume(used);
            if used > 0 {
                let since = self.waits_since.take();
                self.waited += since.map_or(Duration::ZERO, |since| downstream.now().since(since));
                downstream.body_moved();
                return Poll::Ready(Ok(()));
            }
            if request.facts.expects_continue && !std::mem::replace(&mut self.is_continued, true) {
                self.interim.extend_from_slice(CONTINUE);
            }
            if self.poll_interim(client, cx).is_err() {
                return Poll::Ready(Err(GatewayError::BodyBroken));
            }
            match client.poll_read_some(cx) {
                Poll::Ready(Ok(Read::More)) => {}
                Poll::Ready(Ok(Read::End | Read::Full) | Err(_)) => return Poll::Ready(Err(GatewayError::BodyBroken)),
                Poll::Pending => {
                    return self
                        .wait(request, downstream, options)
                        .map_or(Poll::Pending, |refusal| Poll::Ready(Err(refusal)));
                }
            }
        }
    }

    /// Writes what can be written of the interim responses. The error is that the client has left.
    pub(crate) fn poll_interim<S: Stream>(
        &mut self,
        client: &mut BufferedStream<S>,
        cx: &mut Context<'_>,
    ) -> Result<(), ()> {
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
    fn wait(
        &mut self,
        request: &UpstreamRequest,
        downstream: &ConnectionTimers,
        options: &GatewayOptions,
    ) -> Option<GatewayError> {
        let limit = options.timeouts.body_idle_timeout;
        downstream.body_stalled(limit);
        if downstream.is_over(Waiting::Body) {
            downstream.stop(Waiting::Body);
            return Some(GatewayError::BodyTimeout(limit));
        }
        let now = downstream.now();
        self.waited += now.since(*self.waits_since.get_or_insert(now));
        self.waits_since = Some(now);
        let min_bytes_per_s = options.limits.body_min_bytes_per_s;
        let owed =
            |time: Duration| u64::try_from(u128::from(min_bytes_per_s) * time.as_millis() / 1000).unwrap_or(u64::MAX);
        let (all, bytes) = (owed(self.waited), request.body_bytes());
        self.paid = (self.paid + (bytes - self.seen)).min(all);
        self.seen = bytes;
        let is_too_slow = all - self.paid > owed(GRACE);
        is_too_slow.then_some(GatewayError::BodyTooSlow { min_bytes_per_s })
    }

    /// The buffer, for the response: interim responses that have not left wait in it.
    pub(crate) fn into_interim(self) -> Vec<u8> {
        self.interim
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, task::Waker};

    use http1::{Limits, Scratch, find_head_end, parse_request};
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::{
        clock::Clock,
        io::buffers::Buffers,
        message::{
            headers::Client,
            request::{RequestMeta, Sizes},
            request_id::RequestId,
        },
    };

    /// A POST whose head is there, and whose body of a megabyte is to come.
    struct Upload {
        client: DuplexStream,
        stream: BufferedStream<DuplexStream>,
        request: UpstreamRequest,
        body: Body,
        clock: Rc<Clock>,
        downstream: ConnectionTimers,
        options: GatewayOptions,
    }

    impl Upload {
        fn at(min_bytes_per_s: u64) -> Self {
            let head = b"POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
            let mut scratch = Scratch::default();
            let end = find_head_end(head, &mut 0).unwrap();
            let parsed = parse_request(&head[..end], &mut scratch, &Limits::default()).unwrap();
            let facts = RequestMeta::of(&parsed, RequestId::settle(&parsed.fields));
            let sizes = Sizes { body_max_bytes: 1 << 20, replay_max_bytes: 64 };
            let from = Client::new("10.0.0.9".parse().unwrap(), false);
            let request = UpstreamRequest::new(Vec::new(), &parsed, b"/", b"/mail", &from, facts, sizes);
            let (client, near) = duplex(1 << 16);
            let mut options = GatewayOptions::default();
            options.limits.body_min_bytes_per_s = min_bytes_per_s;
            let clock = Rc::new(Clock::default());
            let downstream = ConnectionTimers::new(from, Rc::clone(&clock));
            let stream = BufferedStream::new(near, Buffers::default());
            Self { client, stream, request, body: Body::new(Vec::new()), clock, downstream, options }
        }

        /// A second passes in which the gateway waits, and then `bytes` arrive.
        async fn second(&mut self, bytes: usize) -> Result<(), GatewayError> {
            self.poll()?;
            self.clock.set_to(self.clock.now() + Duration::from_secs(1));
            self.client.write_all(&vec![b'x'; bytes]).await.unwrap();
            self.poll()
        }

        fn poll(&mut self) -> Result<(), GatewayError> {
            let Self { stream, request, body, downstream, options, .. } = self;
            let mut cx = Context::from_waker(Waker::noop());
            loop {
                match body.poll_next(stream, request, downstream, options, &mut cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(refusal)) => return Err(refusal),
                    Poll::Pending => return Ok(()),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_drips_without_a_pause_is_refused_after_the_grace() {
        let mut upload = Upload::at(100);
        for second in 1..=10 {
            assert_eq!(upload.second(10).await, Ok(()), "second {second} is within the grace");
        }
        // 110 bytes have come by the end of the next second, 100 were owed then; and 200 a second later.
        assert_eq!(upload.second(10).await, Ok(()));
        assert_eq!(upload.second(10).await, Err(GatewayError::BodyTooSlow { min_bytes_per_s: 100 }));
    }

    #[tokio::test]
    async fn what_came_fast_buys_no_time_to_drip() {
        let mut upload = Upload::at(100);
        assert_eq!(upload.second(50_000).await, Ok(()));
        let mut seconds = 0;
        while upload.second(1).await.is_ok() {
            seconds += 1;
            assert!(seconds < 60, "it drips for {seconds} s");
        }
        assert!(seconds >= 10, "{seconds} s");
    }

    #[tokio::test]
    async fn a_client_that_is_fast_enough_is_never_refused() {
        let mut upload = Upload::at(100);
        for _ in 0..1000 {
            assert_eq!(upload.second(100).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn without_a_limit_a_client_may_drip_for_ever() {
        let mut upload = Upload::at(0);
        for _ in 0..1000 {
            assert_eq!(upload.second(1).await, Ok(()));
        }
    }
}
