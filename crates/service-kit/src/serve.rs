//! The HTTP server of `registry`, `mail`, `userlist` and of `balance`'s admin side.
//!
//! `axum::serve` has no deadline for a request's head: a client that sends half of one keeps its connection for ever.
//! This is hyper's HTTP/1.1 connection with the bounds that a service on a network needs, around the same router:
//!
//! - a request's head must be complete after [`ServeOptions::header_deadline`], which also ends idle connections;
//! - a client that takes nothing of its response for [`ServeOptions::write_deadline`] loses its connection, does not
//!   hold its slot, and is counted ([`Connections::register_unread`]);
//! - what waits for a client is bounded, here ([`UNWRITTEN_MAX_BYTES`]) and, on Linux, in the kernel
//!   ([`UNSENT_MAX_BYTES`]): a response that is made while it is read ([`axum::body::Body::from_stream`]) costs no more
//!   than that, however long it is;
//! - connections are bounded, in all and by client ([`crate::connections`]): at a bound the longest waiting one is
//!   closed for a new one. While all have a request under way, new ones wait in the kernel's queue, and those of a
//!   client that has its share get 503;
//! - a client that still sends a body that was refused can read the answer: the connection is closed in one direction,
//!   and what comes is read and forgotten for a while (RFC 9112, section 9.6);
//! - with [`ServeOptions::http2`], HTTP/2 is spoken on the same port, within the same bounds and those of
//!   [`Http2Options`];
//! - when `shutdown` is cancelled no connection is accepted any more, idle ones close, requests under way finish within
//!   [`ServeOptions::drain_deadline`].

mod client;
mod conversation;
mod exchange;
mod full;
mod http2;
mod linger;
mod protocol;
mod streams;

use std::{net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    client::ensure_client_connected,
    http2::Http2Options,
    streams::{SmallParts, wait_for_client},
};
use self::{
    conversation::Conversation,
    exchange::{Exchange, now_ms},
    full::Teller,
};
use crate::{connections::Connections, open_files, port_holder::PortHolder, tls::Tls};

/// How long a TLS handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);

/// How much of a response waits here until the kernel takes it, in bytes; also the largest head of a request.
pub const UNWRITTEN_MAX_BYTES: usize = 64 * 1024;

/// How much of a response waits in the kernel until it is sent (`TCP_NOTSENT_LOWAT`), in bytes: a fast connection does
/// not run dry, and a client that does not read holds no 4 MiB.
pub const UNSENT_MAX_BYTES: u32 = 128 * 1024;

/// How much later the kernel gives a connection up of its own accord (`TCP_USER_TIMEOUT`): when even the end of it is
/// not acknowledged.
const KERNEL_LATER: Duration = Duration::from_secs(5);

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Time for a request's head to arrive, from the connection's start or the previous response. Default 75 s: longer
    /// than gateways and clients keep an idle connection (nginx's upstreams and AWS's ALB for 60 s), so that the client
    /// is the one who closes it. One that closes first may do so while a request is on its way, which then fails.
    pub header_deadline: Duration,
    /// How long a client may take nothing of a response that waits for it. Default 30 s.
    pub write_deadline: Duration,
    /// The connections, and how many there may be. Default: 4096, and of one client half of them.
    pub connections: Connections,
    /// HTTP/2 beside HTTP/1.1, told by ALPN over TLS and by its preface otherwise. Default: HTTP/1.1 alone.
    pub http2: Option<Http2Options>,
    /// Time for requests under way to finish after the shutdown. Default 10 s.
    pub drain_deadline: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(75),
            write_deadline: Duration::from_secs(30),
            connections: Connections::default(),
            http2: None,
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

/// Serves `router` until `shutdown` is cancelled and everything under way has finished.
///
/// Handlers find the client's address as `ConnectInfo<SocketAddr>`, and our own as
/// [`LocalAddr`](crate::browser::LocalAddr).
pub async fn serve(listener: TcpListener, router: Router, options: ServeOptions, shutdown: CancellationToken) {
    serve_with(listener, router, options, None, shutdown).await;
}

/// [`serve`] over TLS, if there is any. A handshake has 30 s, or [`ServeOptions::header_deadline`] if that is less.
///
/// Boxed, so that the server is compiled here and not once more in every crate that waits for it.
pub fn serve_with(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(accept_until(listener, router, options, tls, shutdown))
}

async fn accept_until(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) {
    open_files::raise(options.connections.max());
    let connections = &options.connections;
    let tracker = TaskTracker::new();
    let teller = Teller::default();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_deadline).max_buf_size(UNWRITTEN_MAX_BYTES);
    let mut end = pin!(shutdown.cancelled());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut end => break,
            accepted = accept(&listener, &options) => accepted,
        };
        let Some((stream, client)) = accepted else { continue };
        let Ok(place) = connections.admit(client.ip(), false, now_ms()) else {
            // Over TLS nothing can be said before the handshake.
            if tls.is_none() {
                teller.tell(stream);
            }
            continue;
        };
        let conversation = Conversation {
            http: http.clone(),
            http2: options.http2,
            header_deadline: options.header_deadline,
            tls: tls.as_ref().map(|tls| tls.acceptor(options.http2.is_some())),
            handshake_deadline: HANDSHAKE_DEADLINE.min(options.header_deadline),
            write_deadline: options.write_deadline,
            router: router.clone(),
            client,
            local: stream.local_addr().ok(),
            shutdown: shutdown.clone(),
        };
        tracker.spawn(conversation.run(stream, Exchange::new(place)));
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(options.drain_deadline, tracker.wait()).await.is_err() {
        tracing::warn!(
            drain_deadline_ms = options.drain_deadline.as_millis(),
            "requests were still under way at the end"
        );
    }
}

async fn accept(listener: &TcpListener, options: &ServeOptions) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, client)) => {
            // Without it a small response waits for the acknowledgement of the one before.
            let _best_effort = stream.set_nodelay(true);
            bound_writes(&stream, options.write_deadline);
            // After it was accepted, so that a connection that may go now has not begun a request by then.
            options.connections.room(now_ms).await;
            Some((stream, client))
        }
        Err(error) => {
            // Accepting again at once would spin, unless another connection is about to give its file back.
            let is_given_back = open_files::is_exhausted(&error) && options.connections.evict_for_files(now_ms());
            if !is_given_back {
                tracing::warn!(error = %crate::chain(&error), "cannot accept a connection");
            }
            tokio::time::sleep(Duration::from_millis(if is_given_back { 1 } else { 100 })).await;
            None
        }
    }
}

/// Lets the kernel keep little that is not sent, and end a connection whose other side acknowledges nothing, or takes
/// nothing, for long.
#[cfg(target_os = "linux")]
fn bound_writes(stream: &TcpStream, write_deadline: Duration) {
    let socket = socket2::SockRef::from(stream);
    let _best_effort = socket.set_tcp_notsent_lowat(UNSENT_MAX_BYTES);
    let _best_effort = socket.set_tcp_user_timeout(Some(write_deadline + KERNEL_LATER));
}

#[cfg(not(target_os = "linux"))]
fn bound_writes(_: &TcpStream, _: Duration) {}
