//! The rest of a request's body, on its way from the client.
//!
//! It is read no faster than the instance takes it, and no slower than [`Limits::body_min_bytes_per_s`]: a client that drips
//! occupies an instance, and many of them occupy all (slow POST). A client that waits for `100 Continue` gets it
//! when its body is wanted.
//!
//! [`Limits::body_min_bytes_per_s`]: crate::config::Limits

use std::{
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    clock::Millis,
    config::GatewayOptions,
    downstream::{
        deadlines::{ConnectionTimers, Waiting},
        exchange::DownstreamExchange,
    },
    io::buffered_stream::Read,
    message::{gateway_error::GatewayError, request::UpstreamRequest},
};

/// How long a body may be slow: networks stall, and a client may have to think.
const GRACE: Duration = Duration::from_secs(10);

/// A request on its way: what has come of it, and how the rest comes along.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) request: Box<UpstreamRequest>,
    limits: UploadLimits,
    is_continued: bool,
    /// For how long the client has been waited for, by the ticks that saw it.
    waited: Duration,
    waits_since: Option<Millis>,
    /// How much of the body has been seen to come.
    seen: u64,
    /// Bytes that pay for what has been `waited`; never in advance, so that what came fast buys no time to drip.
    paid: u64,
}

/// How slow a body may come.
#[derive(Debug, Clone, Copy)]
struct UploadLimits {
    /// Between two runs.
    idle: Duration,
    /// Over the time for which the client was waited for; 0: no limit.
    min_bytes_per_s: u64,
}

// === impl Upload ===

impl Upload {
    pub(crate) fn new(request: Box<UpstreamRequest>, options: &GatewayOptions) -> Self {
        let (timeouts, limits) = (&options.timeouts, &options.limits);
        Self {
            request,
            limits: UploadLimits { idle: timeouts.body_idle_timeout, min_bytes_per_s: limits.body_min_bytes_per_s },
            is_continued: false,
            waited: Duration::ZERO,
            waits_since: None,
            seen: 0,
            paid: 0,
        }
    }

    /// Takes in what has come of the body already; returns whether that was anything.
    ///
    /// # Errors
    ///
    /// It is too large, or not framed as it should be.
    pub(crate) fn take_in<D: DownstreamExchange>(&mut self, client: &mut D) -> Result<bool, GatewayError> {
        let mut has_moved = false;
        while !self.request.is_complete() {
            client.next_run().map_err(|_| GatewayError::BodyBroken)?;
            let count = client.run().len();
            if count == 0 {
                if client.has_come() {
                    self.request.complete();
                    has_moved = true;
                }
                break;
            }
            self.request.take(client.run())?;
            client.consume(count);
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Takes in what comes next; ready when something did.
    ///
    /// Errors are the client's: it left, or sent what must not be passed on.
    pub(crate) fn poll_next<D: DownstreamExchange>(
        &mut self,
        client: &mut D,
        timers: &ConnectionTimers,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), GatewayError>> {
        loop {
            if self.take_in(client)? {
                let since = self.waits_since.take();
                self.waited += since.map_or(Duration::ZERO, |since| timers.now().since(since));
                timers.body_moved();
                return Poll::Ready(Ok(()));
            }
            if self.request.facts.expects_continue && !std::mem::replace(&mut self.is_continued, true) {
                client.send_continue();
            }
            if client.poll_flush(cx).is_err() {
                return Poll::Ready(Err(GatewayError::BodyBroken));
            }
            match client.poll_read(cx) {
                Poll::Ready(Ok(Read::More)) => {}
                Poll::Ready(Ok(Read::End | Read::Full) | Err(_)) => return Poll::Ready(Err(GatewayError::BodyBroken)),
                Poll::Pending => {
                    return self.wait(timers).map_or(Poll::Pending, |refusal| Poll::Ready(Err(refusal)));
                }
            }
        }
    }

    /// The client is slow; what it gets when it is too slow.
    fn wait(&mut self, timers: &ConnectionTimers) -> Option<GatewayError> {
        let UploadLimits { idle, min_bytes_per_s } = self.limits;
        timers.body_stalled(idle);
        if timers.is_over(Waiting::Body) {
            timers.stop(Waiting::Body);
            return Some(GatewayError::BodyTimeout(idle));
        }
        let now = timers.now();
        self.waited += now.since(*self.waits_since.get_or_insert(now));
        self.waits_since = Some(now);
        let owed =
            |time: Duration| u64::try_from(u128::from(min_bytes_per_s) * time.as_millis() / 1000).unwrap_or(u64::MAX);
        let (all, bytes) = (owed(self.waited), self.request.body_bytes());
        self.paid = (self.paid + (bytes - self.seen)).min(all);
        self.seen = bytes;
        let is_too_slow = all - self.paid > owed(GRACE);
        is_too_slow.then_some(GatewayError::BodyTooSlow { min_bytes_per_s })
    }
}

#[cfg(test)]
mod tests {
    use std::{rc::Rc, task::Waker};

    use http1::{Limits, Scan, parse_request};
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::{
        clock::Clock,
        downstream::http1::Http1Exchange,
        io::{buffered_stream::BufferedStream, buffers::Buffers},
        message::{
            headers::Client,
            request::{RequestMeta, Rewrite, Sizes},
            request_id::RequestId,
        },
    };

    /// The client of a POST whose head is there, and whose body of a megabyte is to come.
    struct Uploader {
        client: DuplexStream,
        stream: BufferedStream<DuplexStream>,
        upload: Upload,
        clock: Rc<Clock>,
        timers: ConnectionTimers,
    }

    impl Uploader {
        fn at(min_bytes_per_s: u64) -> Self {
            let head = b"POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
            let mut scan = Scan::default();
            let end = Scan::default().read(head, &Limits::default()).unwrap();
            let parsed = parse_request(&head[..end], &mut scan, &Limits::default()).unwrap();
            let facts = RequestMeta::of(&parsed, RequestId::settle(&parsed.fields));
            let sizes = Sizes { body_max_bytes: 1 << 20, replay_max_bytes: 64 };
            let from = Client::new("10.0.0.9".parse().unwrap(), false);
            let rewrite = Rewrite { rest: b"/", prefix: b"/mail", client: &from };
            let request = Box::new(UpstreamRequest::new(Vec::new(), &parsed, rewrite, facts, sizes));
            let (client, near) = duplex(1 << 16);
            let mut options = GatewayOptions::default();
            options.limits.body_min_bytes_per_s = min_bytes_per_s;
            let clock = Rc::new(Clock::default());
            let timers = ConnectionTimers::new(from, Rc::clone(&clock));
            let stream = BufferedStream::new(near, Buffers::default());
            Self { client, stream, upload: Upload::new(request, &options), clock, timers }
        }

        /// A second passes in which the gateway waits, and then `bytes` arrive.
        async fn second(&mut self, bytes: usize) -> Result<(), GatewayError> {
            self.poll()?;
            self.clock.set_to(self.clock.now() + Duration::from_secs(1));
            self.client.write_all(&vec![b'x'; bytes]).await.unwrap();
            self.poll()
        }

        fn poll(&mut self) -> Result<(), GatewayError> {
            let Self { stream, upload, timers, .. } = self;
            let mut cx = Context::from_waker(Waker::noop());
            // Its body goes on where it was: all that has come is taken in each time.
            let mut exchange = Http1Exchange::new(stream, timers, 0, 0);
            exchange.begin(&upload.request.facts);
            loop {
                match upload.poll_next(&mut exchange, timers, &mut cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(refusal)) => return Err(refusal),
                    Poll::Pending => return Ok(()),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_drips_without_a_pause_is_refused_after_the_grace() {
        let mut upload = Uploader::at(100);
        for second in 1..=10 {
            assert_eq!(upload.second(10).await, Ok(()), "second {second} is within the grace");
        }
        // 110 bytes have come by the end of the next second, 100 were owed then; and 200 a second later.
        assert_eq!(upload.second(10).await, Ok(()));
        assert_eq!(upload.second(10).await, Err(GatewayError::BodyTooSlow { min_bytes_per_s: 100 }));
    }

    #[tokio::test]
    async fn what_came_fast_buys_no_time_to_drip() {
        let mut upload = Uploader::at(100);
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
        let mut upload = Uploader::at(100);
        for _ in 0..1000 {
            assert_eq!(upload.second(100).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn without_a_limit_a_client_may_drip_for_ever() {
        let mut upload = Uploader::at(0);
        for _ in 0..1000 {
            assert_eq!(upload.second(1).await, Ok(()));
        }
    }
}
