//! The same two requests over gRPC (`muster.v1`): a stream of heartbeats for each registry, and a deregistration.
//!
//! A stream is kept while each of its heartbeats is answered in time. Otherwise it is given up together with its connection, which
//! tells the registry to begin nothing for a heartbeat that it has not looked at yet; the next heartbeat opens both again. A stream
//! belongs to one token, so a renewed one opens another stream.
//!
//! What a status means is told by its `ErrorInfo`, which has the code and the status of the same problem over HTTP. One without
//! is not the registry's word: the connection broke, or what answers is something else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use discovery::{Incarnation, InstanceId, ServiceName, heartbeat::FullHeartbeat, heartbeat::HeartbeatReply};
use muster_proto::{
    ERROR_DOMAIN, HTTP_STATUS,
    v1::{self, registry_client::RegistryClient},
};
use service_kit::client::ClientError;
use tokio::{sync::mpsc, time::timeout};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{Credentials, HeartbeatError, RegistryUrl, refusal::Refusal};

/// What announces us, as logs of a registry show it.
const USER_AGENT: &str = concat!("muster-heartbeat/", env!("CARGO_PKG_VERSION"));

/// A reply is some hundred bytes: more is not read.
const MESSAGE_MAX_BYTES: usize = 16 * 1024;

/// The gRPC side of heartbeats. Clones share nothing: each opens its own connections.
#[derive(Debug, Default)]
pub(crate) struct Rpc {
    open: Mutex<HashMap<String, Open>>,
}

/// What is open to one registry.
#[derive(Debug)]
struct Open {
    calls: RegistryClient<Channel>,
    stream: Option<Stream>,
}

#[derive(Debug)]
struct Stream {
    heartbeats: mpsc::Sender<v1::Heartbeat>,
    replies: Streaming<v1::HeartbeatReply>,
    authorization: Option<HeaderValue>,
}

/// Why there is no answer.
enum Failure {
    Credentials(Arc<crate::Unreadable>),
    Connect(tonic::transport::Error),
    Status(Status),
    /// The registry has ended the stream, as one does that ends itself.
    Ended,
}

impl Clone for Rpc {
    fn clone(&self) -> Self {
        Self::default()
    }
}

// === impl Rpc ===

impl Rpc {
    /// Sends a heartbeat of `id` to `registry`.
    pub(crate) async fn put(
        &self,
        registry: &RegistryUrl,
        credentials: &Credentials,
        (service, id): (&ServiceName, &InstanceId),
        heartbeat: &FullHeartbeat,
        deadline: Duration,
    ) -> Result<HeartbeatReply, HeartbeatError> {
        let heartbeat = v1::Heartbeat::of(service, id, heartbeat);
        let said = self.within(deadline, registry, credentials, async |open, authorization| {
            open.say(heartbeat, authorization).await
        });
        let reply = said.await?;
        HeartbeatReply::try_from(reply).map_err(|error| HeartbeatError::Nonsense {
            registry: registry.clone(),
            reason: format!("a reply that is none to a heartbeat ({error})"),
        })
    }

    /// Deregisters the life `incarnation` at `registry`.
    pub(crate) async fn delete(
        &self,
        registry: &RegistryUrl,
        credentials: &Credentials,
        (service, id): (&ServiceName, &InstanceId),
        incarnation: Incarnation,
        deadline: Duration,
    ) -> Result<(), HeartbeatError> {
        let message = v1::DeregisterRequest {
            service: service.to_string(),
            id: id.to_string(),
            incarnation: incarnation.to_string(),
        };
        let left = self.within(deadline, registry, credentials, async |open, authorization| {
            let left = open.calls.deregister(request(message, authorization.as_ref())).await;
            left.map(drop).map_err(Failure::Status)
        });
        left.await
    }

    /// Does `work` with what is open to `registry`, which is kept if the registry answers in time. If this is cancelled, it is not.
    async fn within<T>(
        &self,
        deadline: Duration,
        registry: &RegistryUrl,
        credentials: &Credentials,
        work: impl AsyncFnOnce(&mut Open, Option<HeaderValue>) -> Result<T, Failure>,
    ) -> Result<T, HeartbeatError> {
        let key = registry.to_string();
        let known = self.lock().remove(&key);
        let exchange = async {
            let authorization = credentials.bearer().map_err(Failure::Credentials)?;
            let mut open = match known {
                Some(open) => open,
                None => Open::connect(registry, credentials).await?,
            };
            let outcome = work(&mut open, authorization).await;
            Ok::<_, Failure>((open, outcome))
        };
        let (open, outcome) = match timeout(deadline, exchange).await {
            Ok(Ok(done)) => done,
            Ok(Err(failure)) => return Err(failure.of(registry)),
            Err(_) => return Err(HeartbeatError::TimedOut { registry: registry.clone(), after: deadline }),
        };
        if outcome.as_ref().err().is_none_or(Failure::is_answer) {
            self.lock().insert(key, open);
        }
        outcome.map_err(|failure| failure.of(registry))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Open ===

impl Open {
    async fn connect(registry: &RegistryUrl, credentials: &Credentials) -> Result<Self, Failure> {
        let connector = credentials.http2_connector(registry.is_tls()).map_err(Failure::Credentials)?;
        // The connector speaks TLS; what it gives is plain for the channel.
        let endpoint = Endpoint::from_shared(format!("http://{}", registry.authority())).map_err(Failure::Connect)?;
        let endpoint = endpoint.user_agent(USER_AGENT).map_err(Failure::Connect)?;
        let channel = endpoint.connect_with_connector(connector).await.map_err(Failure::Connect)?;
        let calls = RegistryClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        Ok(Self { calls, stream: None })
    }

    /// Sends a heartbeat over the stream of this token, and waits for the reply.
    async fn say(
        &mut self,
        heartbeat: v1::Heartbeat,
        authorization: Option<HeaderValue>,
    ) -> Result<v1::HeartbeatReply, Failure> {
        let known = self.stream.take().filter(|stream| stream.authorization == authorization);
        let mut stream = match known {
            Some(stream) => stream,
            None => Stream::open(&mut self.calls, authorization).await?,
        };
        // One that has ended takes none, and says why below.
        let _ended = stream.heartbeats.send(heartbeat).await;
        let reply = stream.replies.message().await.map_err(Failure::Status)?.ok_or(Failure::Ended)?;
        self.stream = Some(stream);
        Ok(reply)
    }
}

// === impl Stream ===

impl Stream {
    async fn open(calls: &mut RegistryClient<Channel>, authorization: Option<HeaderValue>) -> Result<Self, Failure> {
        let (heartbeats, received) = mpsc::channel(1);
        let messages = tokio_stream::wrappers::ReceiverStream::new(received);
        let opened = calls.register(request(messages, authorization.as_ref())).await;
        let replies = opened.map_err(Failure::Status)?.into_inner();
        Ok(Self { heartbeats, replies, authorization })
    }
}

fn request<T>(message: T, authorization: Option<&HeaderValue>) -> Request<T> {
    let mut request = Request::new(message);
    // A token with a line break in it is no token that a registry would take.
    let value = authorization.and_then(|value| AsciiMetadataValue::try_from(value.as_bytes()).ok());
    if let Some(value) = value {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

// === impl Failure ===

impl Failure {
    /// Whether it is the registry's word, over a connection that works.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Status(status) if refusal(status).is_some())
    }

    fn of(self, registry: &RegistryUrl) -> HeartbeatError {
        let registry = registry.clone();
        let broken = |error| HeartbeatError::Unreachable {
            registry: registry.clone(),
            source: Arc::new(ClientError::Exchange(error)),
        };
        match self {
            Self::Credentials(unreadable) => HeartbeatError::Credentials(unreadable),
            Self::Connect(error) => {
                let source = Arc::new(ClientError::Connect(error.into()));
                HeartbeatError::Unreachable { registry, source }
            }
            Self::Ended => broken("the registry has ended the stream".into()),
            Self::Status(status) => match refusal(&status) {
                Some(refusal) => refusal.of(registry),
                None if status.code() == Code::Unimplemented => HeartbeatError::Nonsense {
                    registry,
                    reason: format!("it does not know muster.v1 ({})", status.message()),
                },
                None => broken(status.into()),
            },
        }
    }
}

/// What the registry says with a status, if it is a registry's.
fn refusal(status: &Status) -> Option<Refusal> {
    let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
    let number = |name: &str| info.metadata.get(name)?.parse::<u64>().ok();
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    Some(Refusal {
        status: u16::try_from(number(HTTP_STATUS)?).ok()?,
        code: info.reason.clone(),
        detail: status.message().to_owned(),
        fields: violations.into_iter().map(|violation| violation.field).collect(),
        retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        holds: number("holds_ms").map(Duration::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn registry() -> RegistryUrl {
        "grpc://a:8500".parse().unwrap()
    }

    fn said(code: Code, reason: &str, http_status: &str) -> HeartbeatError {
        let metadata = HashMap::from([(HTTP_STATUS.to_owned(), http_status.to_owned())]);
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        details.set_retry_info(Some(Duration::from_secs(1)));
        Failure::Status(Status::with_error_details(code, "because", details)).of(&registry())
    }

    #[test]
    fn a_status_means_what_the_same_problem_means_over_http() {
        let busy = said(Code::Unavailable, "etcd_unavailable", "503");
        assert!(matches!(busy, HeartbeatError::Busy { status: 503, retry_after, .. } if retry_after.as_secs() == 1));
        let other = said(Code::Aborted, "another_incarnation", "409");
        assert!(matches!(other, HeartbeatError::AnotherIncarnation { .. }));
        let ended = said(Code::FailedPrecondition, "incarnation_ended", "409");
        assert!(matches!(ended, HeartbeatError::IncarnationEnded { .. }));
        let refused = said(Code::PermissionDenied, "out_of_scope", "403");
        assert!(matches!(refused, HeartbeatError::Refused { status: 403, ref detail, .. } if detail == "because"));
        assert!(matches!(said(Code::Internal, "internal", "500"), HeartbeatError::Failed { .. }));
    }

    #[test]
    fn a_status_that_is_no_registrys_word_leaves_in_doubt_what_was_taken() {
        let broken = Failure::Status(Status::unavailable("broken pipe")).of(&registry());
        assert!(matches!(broken, HeartbeatError::Unreachable { .. }) && broken.is_in_doubt());
        let other = Failure::Status(Status::unimplemented("")).of(&registry());
        assert!(matches!(other, HeartbeatError::Nonsense { .. }));
    }
}
