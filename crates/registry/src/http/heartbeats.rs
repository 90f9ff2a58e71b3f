//! Heartbeats in both forms, and their end.

use axum::{Json, extract::State};
use discovery::{
    InstanceKey, Life, Ttl,
    heartbeat::{FullHeartbeat, HeartbeatReply, PlainHeartbeat},
};
use serde::Serialize;
use service_kit::{
    Problem,
    json::JsonBody,
    openapi::{named, reference},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, schema::AnyOfBuilder},
};

use super::{
    Api, SharedApi,
    condition::IfMatch,
    openapi::{AnotherLife, Usual},
    path::InstancePath,
};
use crate::{error, registrar::Heartbeat};

/// What an instance is told that would leave with the life that it is yet to begin.
const NOT_NEW: &str = "is \"new\", but what leaves is not new; give the one that the last reply told, or none";

/// What was written, and when: the answer to everything that is not a heartbeat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// The etcd revision from which on it holds.
    #[schema(minimum = 0)]
    pub(super) revision: i64,
}

/// What is answered to the plain form.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PlainReply {
    Registered(HeartbeatReply),
    Left(Written),
}

/// A heartbeat in the plain form.
///
/// With `"leaving":true` it is the end, which is answered like a DELETE in the full form.
#[utoipa::path(post, path = "/", operation_id = "heartbeat_plain", tag = "registry", request_body = PlainHeartbeat,
    responses(
        (status = 200, description = "The answer; `Written` to an instance that leaves.", body = PlainReply),
        Usual, AnotherLife,
    ))]
pub(super) async fn plain(
    State(api): State<SharedApi>,
    JsonBody(body): JsonBody<PlainHeartbeat>,
) -> Result<Json<PlainReply>, Problem> {
    let leaving = body.leaving;
    let life = body.incarnation;
    let (service, id, instance) = body.into_parts().map_err(error::field)?;
    let key = InstanceKey::new(service, id);
    if leaving {
        let only = match life {
            Some(Life::Of(incarnation) | Life::NewAs(incarnation)) => Some(incarnation),
            Some(Life::New) => return Err(Problem::field("incarnation", NOT_NEW)),
            None => None,
        };
        let revision = api.registrar.deregister(key, only).await?;
        return Ok(Json(PlainReply::Left(Written { revision: revision.0 })));
    }
    let Json(reply) = accept(&api, Heartbeat { key, instance, ttl: Ttl::default(), life }).await?;
    Ok(Json(PlainReply::Registered(reply)))
}

/// A heartbeat in the full form.
#[utoipa::path(put, path = "/v1/services/{service}/instances/{instance}", operation_id = "heartbeat_full", tag = "registry",
    params(InstancePath), request_body = FullHeartbeat,
    responses((status = 200, description = "The answer.", body = HeartbeatReply), Usual, AnotherLife))]
pub(super) async fn full(
    State(api): State<SharedApi>,
    InstancePath(key): InstancePath,
    JsonBody(body): JsonBody<FullHeartbeat>,
) -> Result<Json<HeartbeatReply>, Problem> {
    let life = body.incarnation;
    let (instance, ttl) = body.into_parts().map_err(error::field)?;
    accept(&api, Heartbeat { key, instance, ttl, life }).await
}

/// Deregisters at once; harmless to repeat.
///
/// Succeeds as well when there is no such instance (any more): a client that deregisters twice, because the first answer was
/// lost, has what it wants. With `If-Match`, what another incarnation holds is not touched.
#[utoipa::path(delete, path = "/v1/services/{service}/instances/{instance}", operation_id = "deregister", tag = "registry",
    params(InstancePath, IfMatch),
    responses((status = 200, description = "The answer.", body = Written), Usual, AnotherLife))]
pub(super) async fn deregister(
    State(api): State<SharedApi>,
    InstancePath(key): InstancePath,
    IfMatch(only): IfMatch,
) -> Result<Json<Written>, Problem> {
    let revision = api.registrar.deregister(key, only).await?;
    Ok(Json(Written { revision: revision.0 }))
}

// === impl PlainReply ===

/// Either, told apart by what is in it: a reply has all that the answer to a deregistration has.
impl PartialSchema for PlainReply {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new().item(reference::<HeartbeatReply>()).item(reference::<Written>()).into()
    }
}

impl ToSchema for PlainReply {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend(named::<HeartbeatReply>());
        schemas.extend(named::<Written>());
    }
}

async fn accept(api: &Api, heartbeat: Heartbeat) -> Result<Json<HeartbeatReply>, Problem> {
    let reply = api.registrar.accept(heartbeat).await?;
    Ok(Json(reply))
}
