//! The registry over gRPC: `muster.v1` on the same port as HTTP, for the same registrar.
//!
//! | call | what it does |
//! |---|---|
//! | `muster.v1.Registry/Register` | a stream of heartbeats: `register` |
//! | `muster.v1.Registry/Deregister` | deregisters at once |
//! | `muster.v1.Registry/List` | what is registered, in parts: `list` |
//! | `muster.v1.Registry/Watch` | what happens to one service: `watch` |
//! | `grpc.health.v1.Health` | what `/readyz` says: `health` |
//! | `grpc.reflection.v1.ServerReflection` | the contract, for programs that have not compiled it |
//!
//! The contract is published at `GET /v1/muster.proto` ([`crate::http`]).
//!
//! A call is a POST over HTTP/2, so it comes through the layers of every request: rate, token, request id, counters.
//! What is around calls alone is in `calls`; a message of a stream of heartbeats is let pass like a request of its own
//! ([`Requester`](crate::admission::access::Requester)). Handlers do what those of [`crate::http`] do: they call the
//! [`Registrar`] or look into the [`Catalog`]. Errors are the same problems, as statuses (`statuses`).

mod calls;
mod entries;
mod health;
mod list;
mod register;
mod statuses;
mod watch;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state, routing::post_service};
use discovery::{Incarnation, InstanceId, InstanceKey, ServiceName};
use futures::stream::BoxStream;
use muster_proto::v1::{
    DeregisterReply, DeregisterRequest, Heartbeat, HeartbeatReply, ListReply, ListRequest, WatchReply, WatchRequest,
    registry_server::{Registry, RegistryServer},
};
use service_kit::{Problem, serve::SmallParts};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub use self::{calls::Calls, health::run as follow_readiness, statuses::convert};
use crate::{
    admission::{
        Admission,
        access::{HEARTBEAT_STREAM, limit},
    },
    catalog::Catalog,
    error,
    registrar::Registrar,
};

/// The largest message: as much as the body of an HTTP request.
const MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// What the calls work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// Decides about heartbeats and writes to etcd.
    pub registrar: Arc<Registrar>,
    /// Answers every question about what is registered.
    pub catalog: Catalog,
    /// Streams end when it is cancelled: shutdown does not wait for them.
    pub closing: CancellationToken,
}

type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// The calls that a token may be needed for.
///
/// # Panics
///
/// What `muster-proto` has compiled is no descriptor; a test would have failed.
pub fn routes(rpc: Rpc, calls: Calls) -> Router {
    let registry = RegistryServer::new(rpc).max_decoding_message_size(MESSAGE_MAX_BYTES);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(muster_proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the compiler's own descriptors can be read")
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    Router::new()
        .route(HEARTBEAT_STREAM, post_service(registry.clone()))
        .route("/muster.v1.Registry/Deregister", post_service(registry.clone()))
        .route("/muster.v1.Registry/List", post_service(registry.clone()))
        .route("/muster.v1.Registry/Watch", post_service(registry))
        .route("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", post_service(reflection))
        .layer(from_fn_with_state(calls, calls::admit))
}

/// The calls that need no token: `grpc.health.v1`, which says of `ready` what `/readyz` says.
pub fn open_routes(admission: Admission, calls: Calls) -> (Router, tonic_health::server::HealthReporter) {
    let (reporter, health) = health::service();
    let health = health.max_decoding_message_size(MESSAGE_MAX_BYTES);
    let routes = Router::new()
        .route("/grpc.health.v1.Health/Check", post_service(health.clone()))
        .route("/grpc.health.v1.Health/Watch", post_service(health))
        .layer(from_fn_with_state(calls, calls::admit));
    (limit(routes, admission), reporter)
}

#[tonic::async_trait]
impl Registry for Rpc {
    type RegisterStream = Replies<HeartbeatReply>;
    type ListStream = Replies<ListReply>;
    type WatchStream = Replies<WatchReply>;

    async fn register(&self, request: Request<Streaming<Heartbeat>>) -> Result<Response<Self::RegisterStream>, Status> {
        let opened = register::replies(self.clone(), request).map_err(|problem| statuses::status(&problem))?;
        let mut response = Response::new(opened);
        response.extensions_mut().insert(SmallParts);
        Ok(response)
    }

    async fn deregister(&self, request: Request<DeregisterRequest>) -> Result<Response<DeregisterReply>, Status> {
        let left = self.leave(request.into_inner()).await;
        left.map(Response::new).map_err(|problem| statuses::status(&problem))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let listed = list::list(&self.catalog, request.into_inner());
        listed.map(Response::new).map_err(|problem| statuses::status(&problem))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let followed = watch::follow(self, &request.into_inner());
        followed.map(Response::new).map_err(|problem| statuses::status(&problem))
    }
}

impl Rpc {
    async fn leave(&self, request: DeregisterRequest) -> Result<DeregisterReply, Problem> {
        let under = |field: &'static str| move |wrong: discovery::FieldError| error::field(wrong.under(field));
        let service = request.service.parse::<ServiceName>().map_err(under("service"))?;
        let id = request.id.parse::<InstanceId>().map_err(under("id"))?.in_one_spelling();
        let only = match request.incarnation.as_str() {
            "" => None,
            text => Some(text.parse::<Incarnation>().map_err(under("incarnation"))?),
        };
        let revision = self.registrar.deregister(InstanceKey::new(service, id), only).await?;
        Ok(DeregisterReply { revision: revision.0 })
    }
}
