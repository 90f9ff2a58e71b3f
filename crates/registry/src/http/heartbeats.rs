//! Heartbeats in both forms, and their end.

use axum::{Json, extract::State};
use discovery::{
    InstanceKey, Life, Ttl,
    heartbeat::{FullHeartbeat, HeartbeatReply, PlainHeartbeat},
};
use serde::Serialize;
use service_kit::{Problem, json::JsonBody};

use super::{Api, condition::IfMatch, path::InstancePath};
use crate::{error, registrar::Heartbeat};

/// What an instance is told that would leave with the life that it is yet to begin.
const NOT_NEW: &str = "is \"new\", but what leaves is not new; give the one that the last reply told, or none";

/// What was written, and when: the answer to everything that is not a heartbeat.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    /// The etcd revision from which on it holds.
    pub(super) revision: i64,
}

/// What is answered to the plain form.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PlainReply {
    Registered(HeartbeatReply),
    Left(Written),
}

/// `POST /`: a heartbeat, or with `"leaving":true` the end, which is answered like a DELETE.
pub(super) async fn plain(
    State(api): State<Api>,
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

/// `PUT /v1/services/{service}/instances/{instance}`
pub(super) async fn full(
    State(api): State<Api>,
    InstancePath(key): InstancePath,
    JsonBody(body): JsonBody<FullHeartbeat>,
) -> Result<Json<HeartbeatReply>, Problem> {
    let life = body.incarnation;
    let (instance, ttl) = body.into_parts().map_err(error::field)?;
    accept(&api, Heartbeat { key, instance, ttl, life }).await
}

/// `DELETE /v1/services/{service}/instances/{instance}`
///
/// Succeeds as well when there is no such instance (any more): a client that deregisters twice, because the first answer was
/// lost, has what it wants. With `If-Match`, what another incarnation holds is not touched.
pub(super) async fn deregister(
    State(api): State<Api>,
    InstancePath(key): InstancePath,
    IfMatch(only): IfMatch,
) -> Result<Json<Written>, Problem> {
    let revision = api.registrar.deregister(key, only).await?;
    Ok(Json(Written { revision: revision.0 }))
}

async fn accept(api: &Api, heartbeat: Heartbeat) -> Result<Json<HeartbeatReply>, Problem> {
    let reply = api.registrar.accept(heartbeat).await?;
    Ok(Json(reply))
}
