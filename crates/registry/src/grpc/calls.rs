//! What is around every call: how many there may be, how long one may take to be asked, and what it came to.
//!
//! A call costs a stream of its connection, not a connection. So calls are bounded by themselves, [`CALLS_MAX`] in all
//! and half of them for one client network, and the connections of those who follow something, which are never closed
//! for another client's, count among the clients that wait over HTTP ([`LongPolls`]).
//!
//! Every call is counted once by what it came to: here when it was answered, or given up by its client; where the
//! answer is a problem, of a layer around the calls or of these bounds, by `statuses`.
//!
//! The calls of `grpc.`, health and reflection, have a bound of their own, so that those who need no token keep no
//! heartbeat out. Their streams know of no end: they end here, with the registry, and those of reflection after so many
//! messages and so much time, because only their beginning counts against the rate of their client.

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

/// Most calls of health and reflection at once.
const OPEN_CALLS_MAX: usize = 1024;

/// The same for one client network.
const OPEN_CALLS_PER_CLIENT_MAX: usize = 64;

/// How many answers a stream of reflection may have. A program that reads all of the contract needs a tenth.
const REFLECTION_ANSWERS_MAX: usize = 256;

/// How long it may last.
const REFLECTION_MAX: Duration = Duration::from_secs(60);

/// How long a call may take until its answer begins: at once for a stream of messages, otherwise when its message is
/// there.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(10);

/// Counts and bounds calls. Clones share everything; every request has one.
#[derive(Debug, Clone)]
pub struct Calls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: LongPolls,
    /// Those of health and reflection.
    open: LongPolls,
    followers: Followers,
    closing: CancellationToken,
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
    /// For a stream that knows of no end itself.
    limit: Option<Limit>,
    _permit: PollPermit,
    _follower: Option<Follower>,
}

/// When a stream ends that its service would not end.
struct Limit {
    /// Gives what to say.
    over: Pin<Box<dyn Future<Output = Status> + Send>>,
    answers: usize,
}

/// Counts a call when it ends, however it does.
struct End {
    calls: Calls,
    method: String,
    /// `None`: its client has given it up.
    code: Option<Code>,
    /// It is counted elsewhere.
    is_counted: bool,
}

// === impl Calls ===

impl Calls {
    /// Registers `registry_calls_total{method,code}`; `method` is empty for one that there is not. Connections are
    /// counted among `long_polls`; `admission` counts refusals.
    pub fn new(
        long_polls: &LongPolls,
        admission: Admission,
        closing: CancellationToken,
        metrics: &mut Registry,
    ) -> Self {
        let ended = Family::default();
        metrics.register("registry_calls", "gRPC calls that ended, by method and code", ended.clone());
        let open = LongPolls::bounded(admission.clone(), closing.clone(), OPEN_CALLS_MAX, OPEN_CALLS_PER_CLIENT_MAX);
        let all = LongPolls::bounded(admission, closing.clone(), CALLS_MAX, CALLS_PER_CLIENT_MAX);
        let followers = Followers { connections: Arc::default(), permits: long_polls.clone() };
        Self(Arc::new(Inner { all, open, followers, closing, ended }))
    }

    fn count(&self, method: String, code: Code) {
        self.0.ended.get_or_create(&CallLabels { method, code: name(code) }).inc();
    }

    /// For a call of `client`.
    fn enter(&self, method: &str, client: Option<SocketAddr>) -> Result<(PollPermit, Option<Follower>), RegistryError> {
        if is_open(method) {
            return Ok((self.0.open.acquire()?, None));
        }
        let follows = client.filter(|_| follows(method));
        let permit = self.0.all.acquire()?;
        let follower = follows.map(|client| self.0.followers.enter(client));
        Ok((permit, follower.transpose()?))
    }
}

/// Middleware: admits a call, and counts what it came to.
pub(super) async fn admit(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let method = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).trim_start_matches('/');
    let method = method.to_owned();
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(client)| *client);
    let (permit, follower) = match calls.enter(&method, client) {
        Ok(entered) => entered,
        Err(error) => return Problem::from(error).into_response(),
    };
    let limit = Limit::of(&method, calls.0.closing.clone());
    let mut end = End { calls, method, code: None, is_counted: false };
    let Ok(response) = timeout(MESSAGE_DEADLINE, next.run(request)).await else {
        end.is_counted = true;
        return too_slow().into_response();
    };
    end.code = told(response.headers());
    response.map(|body| Body::new(Answer { body, end, limit, _permit: permit, _follower: follower }))
}

/// Counts a call to `path` that ended with a problem.
pub(super) fn count_refused(calls: &Calls, path: Option<&MatchedPath>, code: Code) {
    let method = path.map_or("", MatchedPath::as_str).trim_start_matches('/');
    // Whatever else has the content type of a call is none.
    let method = if method.starts_with("muster.v1.") || is_open(method) { method } else { "" };
    calls.count(method.to_owned(), code);
}

/// What a call came to that did not say in time what it wants.
pub(super) fn too_slow() -> Problem {
    let detail = format!("no message came within {} s", MESSAGE_DEADLINE.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
}

/// Whether a call lasts, and its connection must stay meanwhile. Heartbeats need none between them.
fn follows(method: &str) -> bool {
    let others = ["Registry/Register", "Registry/Deregister", "Registry/List"];
    !others.iter().any(|other| method.ends_with(other))
}

/// Whether a call is of health or reflection.
fn is_open(method: &str) -> bool {
    method.starts_with("grpc.")
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

// === impl Limit ===

impl Limit {
    fn of(method: &str, closing: CancellationToken) -> Option<Self> {
        let is_reflection = method.ends_with("/ServerReflectionInfo");
        if !is_reflection && !method.ends_with("Health/Watch") {
            return None;
        }
        let over = async move {
            let closed = closing.cancelled();
            let closing = || Status::unavailable("the registry ends");
            if !is_reflection {
                closed.await;
                return closing();
            }
            match timeout(REFLECTION_MAX, closed).await {
                Ok(()) => closing(),
                Err(_) => Status::deadline_exceeded("the stream has lasted for long; open another one"),
            }
        };
        let answers = if is_reflection { REFLECTION_ANSWERS_MAX } else { usize::MAX };
        Some(Self { over: Box::pin(over), answers })
    }

    /// What the stream ends with, if it is to end.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.answers == 0 {
            return Poll::Ready(Status::resource_exhausted("the stream has had many answers; open another one"));
        }
        self.over.as_mut().poll(cx)
    }

    fn count(&mut self, data: &[u8]) {
        self.answers = self.answers.saturating_sub(messages(data));
    }
}

/// How many messages begin in `data`, which begins with one: a byte, the length in four, and the message.
fn messages(mut data: &[u8]) -> usize {
    let mut count = 0;
    while let Some(([_, length @ ..], rest)) = data.split_first_chunk::<5>() {
        count += 1;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        data = rest.get(length..).unwrap_or_default();
    }
    count
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(limit) = &mut self.limit
            && let Poll::Ready(status) = limit.poll_over(cx)
        {
            // Asked for once more, it is over.
            self.limit = None;
            self.body = Body::empty();
            self.end.code = Some(status.code());
            let mut trailers = HeaderMap::new();
            let _always_valid = status.add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
            && let Some(limit) = &mut self.limit
        {
            limit.count(data);
        }
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
        if !self.is_counted {
            self.calls.count(std::mem::take(&mut self.method), self.code.unwrap_or(Code::Cancelled));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_reflection_that_lasts_is_ended_after_its_time() {
        let opened = tokio::time::Instant::now();
        let mut limit = Limit::of("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", CancellationToken::new());
        let over = std::future::poll_fn(|cx| limit.as_mut().unwrap().poll_over(cx)).await;
        assert_eq!((over.code(), opened.elapsed().as_secs()), (Code::DeadlineExceeded, REFLECTION_MAX.as_secs()));
        assert!(Limit::of("muster.v1.Registry/Watch", CancellationToken::new()).is_none(), "it knows its own end");
    }

    #[test]
    fn messages_are_counted_however_many_come_at_once() {
        let empty = [0, 0, 0, 0, 0];
        let three = [&[0, 0, 0, 0, 2, 7, 7][..], &empty, &empty].concat();
        assert_eq!(messages(&three), 3);
        assert_eq!(messages(&[0, 0, 0, 1, 0, 7]), 1, "the rest comes later");
        assert_eq!(messages(&[]), 0);
    }
}
