//! The HTTP server of `registry`, `mail`, `userlist` and of `balance`'s admin side.
//!
//! `axum::serve` has no deadline for a request's head: a client that sends half of one keeps its connection for ever.
//! This is hyper's HTTP/1.1 connection with the bounds that a service on a network needs, around the same router:
//!
//! - a request's head must be complete after [`ServeOptions::header_deadline`], which also ends idle connections;
//! - a client that takes nothing of its response for [`ServeOptions::write_deadline`] loses its connection, and does not
//!   hold its slot (on Linux, by `TCP_USER_TIMEOUT`; elsewhere the kernel's own patience decides);
//! - at most [`ServeOptions::connections_max`] connections; further ones wait in the kernel's queue;
//! - when `shutdown` is cancelled no connection is accepted any more, idle ones close, requests under way finish within
//!   [`ServeOptions::drain_deadline`].

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{port_holder::PortHolder, tls::Tls};

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Time for a request's head to arrive, from the connection's start or the previous response. Default 30 s: longer
    /// than the gateways and the clients keep an idle connection, so that the client is the one who closes it.
    pub header_deadline: Duration,
    /// How long a client may take nothing of a response that waits for it. Default 30 s.
    pub write_deadline: Duration,
    /// Connections at the same time. Default 4096.
    pub connections_max: usize,
    /// Time for requests under way to finish after the shutdown. Default 10 s.
    pub drain_deadline: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(30),
            connections_max: 4096,
            drain_deadline: Duration::from_secs(10),
        }
    }
}

/// Binds `address`; the error names it, and who has it.
///
/// # Errors
/// The address is taken, not of this host, or a port that needs privileges.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::new(address, source))
}

/// An address that could not be bound: `cannot listen on 127.0.0.1:8080: it is held by balance (process 123)`.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}{}", held_by(holder.as_ref()))]
pub struct BindError {
    address: SocketAddr,
    /// Who has it, as far as that can be seen.
    holder: Option<PortHolder>,
    source: std::io::Error,
}

impl BindError {
    /// `address` could not be had because of `source`. When another process has it, looks which one.
    #[must_use]
    pub fn new(address: SocketAddr, source: std::io::Error) -> Self {
        let is_taken = source.kind() == std::io::ErrorKind::AddrInUse;
        let holder = is_taken.then(|| PortHolder::of(address)).flatten();
        Self { address, holder, source }
    }
}

fn held_by(holder: Option<&PortHolder>) -> String {
    holder.map(|holder| format!(": it is held by {holder}")).unwrap_or_default()
}

/// Serves `router` until `shutdown` is cancelled and everything under way has finished. Handlers find the client's
/// address as `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, router: Router, options: ServeOptions, shutdown: CancellationToken) {
    serve_with(listener, router, options, None, shutdown).await;
}

/// [`serve`] over TLS, if there is any. A handshake has [`ServeOptions::header_deadline`], too.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_deadline);
    let mut shutdown = pin!(shutdown.cancelled_owned());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots, options.write_deadline) => accepted,
        };
        let Some((stream, client, slot)) = accepted else {
            continue;
        };
        let service = Routed { router: router.clone(), client };
        let conversation = Conversation { http: http.clone(), service, watcher: graceful.watcher() };
        let acceptor = tls.as_ref().map(Tls::acceptor);
        tokio::spawn(async move {
            match acceptor {
                None => conversation.hold(stream).await,
                Some(acceptor) => match tokio::time::timeout(options.header_deadline, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => conversation.hold(stream).await,
                    Ok(Err(error)) => tracing::debug!(%client, error = %crate::chain(&error), "no TLS handshake"),
                    Err(_) => tracing::debug!(%client, "the TLS handshake took too long"),
                },
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(options.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            drain_deadline_ms = options.drain_deadline.as_millis(),
            "requests were still under way at the end"
        );
    }
}

/// One connection's part of the server.
struct Conversation {
    http: http1::Builder,
    service: Routed,
    watcher: Watcher,
}

impl Conversation {
    /// Serves until the client leaves, or the server drains.
    async fn hold<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let client = self.service.client;
        let connection = self.http.serve_connection(TokioIo::new(stream), self.service);
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%client, error = %crate::chain(&error), "connection ended early");
        }
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, write_deadline: Duration) -> Option<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => {
            // Without it a small response waits for the acknowledgement of the one before.
            let _best_effort = stream.set_nodelay(true);
            bound_writes(&stream, write_deadline);
            Some((stream, client, slot))
        }
        Err(error) => {
            // Out of file descriptors, most likely: accepting again at once would spin.
            tracing::warn!(error = %crate::chain(&error), "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Lets the kernel end a connection whose other side acknowledges nothing, or takes nothing, for so long.
#[cfg(target_os = "linux")]
fn bound_writes(stream: &TcpStream, write_deadline: Duration) {
    let _best_effort = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(write_deadline));
}

#[cfg(not(target_os = "linux"))]
fn bound_writes(_: &TcpStream, _: Duration) {}

struct Routed {
    router: Router,
    client: SocketAddr,
}

impl Service<Request<Incoming>> for Routed {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(self.client));
        Box::pin(self.router.clone().oneshot(request))
    }
}
