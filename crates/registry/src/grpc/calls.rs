//! What is around every call: how many there may be, how long one may take to be asked, and what it came to.
//!
//! A call costs a stream of its connection, not a connection. So calls are bounded by themselves, [`CALLS_MAX`] in all and half
//! of them for one client network, and the connections of those who follow something, which are never closed for another
//! client's, count among the clients that wait over HTTP ([`LongPolls`]).

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use service_kit::Problem;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    admission::Admission,
    error::RegistryError,
    http::{LongPolls, PollPermit},
};

/// Most calls at once: watchers, streams of heartbeats and all others.
const CALLS_MAX: usize = 20_480;

/// The same for one client network.
const CALLS_PER_CLIENT_MAX: usize = CALLS_MAX / 2;

/// How long a call may take until its answer begins: at once for a stream of messages, otherwise when its message is there.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(10);

/// Counts and bounds calls. Clones share everything.
#[derive(Debug, Clone)]
pub struct Calls {
    all: LongPolls,
    followers: Followers,
    ended: Family<CallLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: String,
    code: &'static str,
}

/// The connections over which something is followed, by their clients' addresses: a permit for each.
#[derive(Debug, Clone)]
struct Followers {
    connections: Arc<Mutex<HashMap<SocketAddr, (usize, PollPermit)>>>,
    permits: LongPolls,
}

/// One call that follows something, until it is dropped.
struct Follower {
    connections: Arc<Mutex<HashMap<SocketAddr, (usize, PollPermit)>>>,
    client: SocketAddr,
}

/// A call's answer, until its end.
struct Answer {
    body: Body,
    end: End,
    _permit: PollPermit,
    _follower: Option<Follower>,
}

/// Counts a call when it ends, however it does.
struct End {
    ended: Family<CallLabels, Counter>,
    method: String,
    code: Option<Code>,
}

// === impl Calls ===

impl Calls {
    /// Registers `registry_calls_total{method,code}`. Connections are counted among `long_polls`; `admission` counts refusals.
    pub fn new(
        long_polls: &LongPolls,
        admission: Admission,
        closing: CancellationToken,
        metrics: &mut Registry,
    ) -> Self {
        let ended = Family::default();
        metrics.register("registry_calls", "gRPC calls that ended, by method and code", ended.clone());
        let all = LongPolls::bounded(admission, closing, CALLS_MAX, CALLS_PER_CLIENT_MAX);
        let followers = Followers { connections: Arc::default(), permits: long_polls.clone() };
        Self { all, followers, ended }
    }

    /// For a call of `client`, if it is one that follows something.
    fn enter(&self, follows: Option<SocketAddr>) -> Result<(PollPermit, Option<Follower>), RegistryError> {
        let permit = self.all.acquire()?;
        let follower = follows.map(|client| self.followers.enter(client));
        Ok((permit, follower.transpose()?))
    }
}

/// Middleware: admits a call, and counts what it came to.
pub(super) async fn admit(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let method = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).trim_start_matches('/');
    let method = method.to_owned();
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(client)| *client);
    let (permit, follower) = match calls.enter(client.filter(|_| follows(&method))) {
        Ok(entered) => entered,
        Err(error) => return Problem::from(error).into_response(),
    };
    let Ok(response) = timeout(MESSAGE_DEADLINE, next.run(request)).await else { return too_slow().into_response() };
    let code = told(response.headers());
    let end = End { ended: calls.ended.clone(), method, code };
    response.map(|body| Body::new(Answer { body, end, _permit: permit, _follower: follower }))
}

/// What a call came to that did not say in time what it wants.
pub(super) fn too_slow() -> Problem {
    let detail = format!("no message came within {} s", MESSAGE_DEADLINE.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
}

/// Whether a call lasts, and its connection must stay meanwhile. Heartbeats need none between them.
fn follows(method: &str) -> bool {
    let others = ["Registry/Register", "Registry/Deregister", "Registry/List", "Health/Check"];
    !others.iter().any(|other| method.ends_with(other))
}

fn told(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

// === impl Followers ===

impl Followers {
    fn enter(&self, client: SocketAddr) -> Result<Follower, RegistryError> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match connections.get_mut(&client) {
            Some((count, _)) => *count += 1,
            None => drop(connections.insert(client, (1, self.permits.acquire()?))),
        }
        Ok(Follower { connections: Arc::clone(&self.connections), client })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = connections.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.client);
            }
        }
    }
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.end.code = told(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl End ===

impl Drop for End {
    fn drop(&mut self) {
        let code = name(self.code.unwrap_or(Code::Cancelled));
        self.ended.get_or_create(&CallLabels { method: std::mem::take(&mut self.method), code }).inc();
    }
}

/// As gRPC writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
