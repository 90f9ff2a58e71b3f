//! One HTTP/2 connection.
//!
//! A connection carries many requests at once, so what bounds a connection of HTTP/1.1 has to bound each of its streams
//! as well:
//!
//! | bound | of |
//! |---|---|
//! | [`Http2Options::streams_max`] | requests at once on a connection |
//! | [`HEADERS_MAX_BYTES`] | a request's head, as it is unpacked |
//! | [`STREAM_WINDOW_BYTES`], [`CONNECTION_WINDOW_BYTES`] | what of requests' bodies waits to be read here |
//! | [`UNSENT_MAX_BYTES`] | what of a response waits to be sent; of all responses of a connection: `streams` |
//! | the write deadline | how long nothing of that may be sent, for a stream (`streams`) and for the connection |
//! | [`PING_INTERVAL`], [`PING_DEADLINE`] | how long a client that has gone silent keeps its connection |
//! | the header deadline | how long a connection may have no request |
//!
//! Resets and pings in great numbers are bounded by the h2 crate.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    client::Check,
    exchange::{Exchange, Watched},
    streams::{Part, Streams, Tasks},
};
use crate::browser::LocalAddr;

/// The largest head of a request, unpacked: name, value and 32 bytes for each field (RFC 9113, section 6.5.2).
const HEADERS_MAX_BYTES: u32 = 16 * 1024;

/// How much of one request's body may wait here to be read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The same of all requests of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How much of a response may wait here to be sent, beside the part that is made.
const UNSENT_MAX_BYTES: usize = 16 * 1024;

/// How often a client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long it may take for the answer.
const PING_DEADLINE: Duration = Duration::from_secs(10);

/// How long the end of an idle connection may take: both sides tell it each other, because a request may be under way.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// The bounds that HTTP/2 has beside those of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Options {
    /// Requests at the same time on one connection. Default 256: enough for a program that watches every service over
    /// one connection, which waits beyond that for one of them to end.
    pub streams_max: u32,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self { streams_max: 256 }
    }
}

/// What a connection needs.
pub(super) struct Connection {
    pub(super) options: Http2Options,
    pub(super) router: Router,
    pub(super) client: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) shutdown: CancellationToken,
    pub(super) write_deadline: Duration,
    pub(super) header_deadline: Duration,
}

// === impl Connection ===

impl Connection {
    /// Serves until the client leaves, has had no request for long, or the server drains.
    pub(super) async fn serve<S>(self, stream: S, check: Check, exchange: &Exchange)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { options, router, client, local, shutdown, write_deadline, header_deadline } = self;
        let streams = Streams::new(exchange.clone());
        let io = TokioIo::new(Watched::new(stream, exchange.clone(), write_deadline));
        let routed = Routed { router, client, local, check, streams: streams.clone() };
        let tasks = Tasks { exchange: exchange.clone(), write_deadline };
        let connection = builder(tasks, options).serve_connection(io, routed);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = streams.idle(header_deadline) => {
                connection.as_mut().graceful_shutdown();
                timeout(GOODBYE_MAX, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%client, error = %crate::chain(&error), "connection ended early");
        }
    }
}

fn builder(tasks: Tasks, options: Http2Options) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(HEADERS_MAX_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(UNSENT_MAX_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE);
    builder
}

/// The router, with the addresses of both sides.
struct Routed {
    router: Router,
    client: SocketAddr,
    local: Option<SocketAddr>,
    check: Check,
    streams: Streams,
}

impl Service<Request<Incoming>> for Routed {
    type Response = Response<Part>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let open = self.streams.open();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.client));
        if let Some(local) = self.local {
            request.extensions_mut().insert(LocalAddr(local));
        }
        let router = self.router.clone();
        let streams = self.streams.clone();
        let check = self.check.clone();
        let during = check.clone();
        Box::pin(during.during(streams.clone().during(async move {
            let response = router.oneshot(request).await?;
            Ok(streams.answer(open, check, response))
        })))
    }
}
