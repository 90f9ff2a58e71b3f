//! One connection: handshake, requests, end.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    client::{Check, Socket},
    exchange::{Answered, Exchange, Watched},
    http2::{Connection, Http2Options},
    linger::linger,
    protocol::{self, Protocol},
};
use crate::browser::LocalAddr;

/// How long the end of a connection without anything unread may take, which over TLS is a record to be written.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long a shutdown waits for a client that still sends a body that was refused, and answered.
const LINGER_AT_END: Duration = Duration::from_secs(2);

/// What a connection needs.
pub(super) struct Conversation {
    pub(super) http: http1::Builder,
    /// If HTTP/2 is spoken as well.
    pub(super) http2: Option<Http2Options>,
    pub(super) header_deadline: Duration,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) handshake_deadline: Duration,
    pub(super) write_deadline: Duration,
    pub(super) router: Router,
    pub(super) client: SocketAddr,
    /// Our side, if the connection still stood when it was asked for it.
    pub(super) local: Option<SocketAddr>,
    pub(super) shutdown: CancellationToken,
}

impl Conversation {
    /// Serves until the client leaves, its place is needed, or the server drains.
    pub(super) async fn run(self, stream: TcpStream, exchange: Exchange) {
        let client = self.client;
        let conversation = pin!(self.converse(stream, &exchange));
        if exchange.place().hold(conversation).await.is_none() {
            tracing::debug!(%client, "closed an idle connection to make room for another client");
        }
    }

    async fn converse(self, mut stream: TcpStream, exchange: &Exchange) {
        let client = self.client;
        let first_by = Instant::now() + self.header_deadline;
        let Some(acceptor) = self.tls.clone() else {
            let Some((protocol, first)) = self.protocol(&mut stream).await else { return };
            let (socket, check) = Socket::new(stream, first);
            return self.speak(protocol, socket, check, first_by, exchange).await;
        };
        let (socket, check) = Socket::new(stream, Bytes::new());
        let handshake = timeout(self.handshake_deadline, acceptor.accept(socket));
        // Nothing is asked before its end, so a shutdown does not wait for it.
        let Some(handshake) = self.shutdown.run_until_cancelled(handshake).await else { return };
        match handshake {
            Ok(Ok(stream)) => {
                let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
                let first_by = Instant::now() + self.header_deadline;
                self.speak(protocol, stream, check, first_by, exchange).await;
            }
            Ok(Err(error)) => tracing::debug!(%client, error = %crate::chain(&error), "no TLS handshake"),
            Err(_) => tracing::debug!(%client, "the TLS handshake took too long"),
        }
    }

    /// What the client speaks without TLS, and what has been read to tell; `None` when it says nothing in time.
    async fn protocol(&self, stream: &mut TcpStream) -> Option<(Protocol, Bytes)> {
        if self.http2.is_none() {
            return Some((Protocol::Http1, Bytes::new()));
        }
        let told = timeout(self.header_deadline, protocol::of(stream));
        // Nothing is asked before, so a shutdown does not wait for it.
        self.shutdown.run_until_cancelled(told).await?.ok()?.ok()
    }

    async fn speak<S>(self, protocol: Protocol, stream: S, check: Check, first_by: Instant, exchange: &Exchange)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match (protocol, self.http2) {
            (Protocol::Http2, Some(options)) => {
                let Self { router, client, local, shutdown, write_deadline, header_deadline, .. } = self;
                check.share();
                let connection =
                    Connection { options, router, client, local, shutdown, write_deadline, header_deadline };
                connection.serve(stream, check, exchange).await;
            }
            (Protocol::Http1 | Protocol::Http2, _) => self.serve(stream, check, first_by, exchange).await,
        }
    }

    async fn serve<S>(self, stream: S, check: Check, first_by: Instant, exchange: &Exchange)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { http, router, client, local, shutdown, write_deadline, .. } = self;
        let io = TokioIo::new(Watched::new(stream, exchange.clone(), write_deadline));
        let routed = Routed { router, client, local, check, exchange: exchange.clone() };
        let mut connection = http.serve_connection(io, routed);
        let ended = tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(ended),
            () = shutdown.cancelled() => None,
            // hyper counts from here, not from the connection's beginning.
            () = exchange.late(first_by) => return,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        if let Err(error) = &ended {
            tracing::debug!(%client, error = %crate::chain(error), "connection ended early");
        }
        exchange.end();
        let mut stream = connection.into_parts().io.into_inner().into_inner();
        // Of what cannot be read as HTTP, hyper answers and forgets the rest.
        if exchange.is_unread() || ended.is_err_and(|error| error.is_parse()) {
            let until = async {
                shutdown.cancelled().await;
                sleep(LINGER_AT_END).await;
            };
            tokio::select! {
                () = linger(&mut stream) => {}
                () = until => {}
            }
        } else {
            let _best_effort = timeout(CLOSE_MAX, stream.shutdown()).await;
        }
    }
}

/// The router, with the addresses of both sides.
struct Routed {
    router: Router,
    client: SocketAddr,
    local: Option<SocketAddr>,
    check: Check,
    exchange: Exchange,
}

impl Service<Request<Incoming>> for Routed {
    type Response = Response<Answered>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(|body| Body::new(self.exchange.begin(body)));
        request.extensions_mut().insert(ConnectInfo(self.client));
        if let Some(local) = self.local {
            request.extensions_mut().insert(LocalAddr(local));
        }
        let router = self.router.clone();
        let exchange = self.exchange.clone();
        let check = self.check.clone();
        Box::pin(check.during(async move {
            let mut response = router.oneshot(request).await?.map(|body| exchange.answered(body));
            if exchange.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }))
    }
}
