//! An operator's order for an instance: `muster drain` and its end.
//!
//! It is written beside the instance, not into it, so that heartbeats do not undo it; the instance learns of it from the
//! reply to its next heartbeat, gateways learn of it from etcd. It is for the incarnation that holds the id when it is
//! given, and ends with that: a container that gets the same address later has done nothing. With `outlives` it stays
//! until it is taken back, the present holder of the id.

use std::time::SystemTime;

use axum::{Json, extract::State};
use discovery::{Incarnation, Status};
use serde::{Deserialize, Serialize};
use service_kit::{Problem, json::JsonBody, openapi::one_of};
use utoipa::{ToSchema, openapi::ObjectBuilder};

use super::{
    SharedApi,
    condition::IfMatch,
    heartbeats::Written,
    listing::{AsOf, OverrideEntry, unix_ms},
    openapi::{AnotherLife, NoSuch, Usual, UsualOfAList},
    path::InstancePath,
};
use crate::registrar::Order;

/// An order: `{"status":"draining","author":"kim","reason":"disk swap"}`
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Override)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    #[schema(schema_with = draining)]
    status: Status,
    /// Who orders it.
    #[schema(min_length = 1, max_length = 64)]
    author: Option<String>,
    /// Why.
    #[schema(min_length = 1, max_length = 256)]
    reason: Option<String>,
    /// Only if the instance is this incarnation; also by `If-Match`.
    incarnation: Option<Incarnation>,
    /// Whether it goes on when the life that it is given for has ended.
    #[serde(default)]
    #[schema(default = false)]
    outlives: bool,
}

/// Every operator's order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OverrideList {
    /// The etcd revision that is shown.
    #[schema(minimum = 0)]
    revision: i64,
    /// Milliseconds since etcd last confirmed it.
    age_ms: u64,
    overrides: Vec<OverrideEntry>,
}

/// The answer to a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cleared {
    /// Whether there was an override.
    existed: bool,
}

/// Every operator's order, also for instances that are not there.
#[utoipa::path(get, path = "/v1/overrides", operation_id = "overrides", tag = "registry",
    responses((status = 200, description = "The answer.", body = OverrideList), UsualOfAList))]
pub(super) async fn list(State(api): State<SharedApi>) -> Result<Json<OverrideList>, Problem> {
    let as_of = AsOf::new(&api.catalog, api.catalog.revision())?;
    let overrides = api.catalog.overrides();
    let overrides = overrides.iter().map(|(key, order, in_force)| OverrideEntry::new(key, order, *in_force)).collect();
    Ok(Json(OverrideList { revision: as_of.revision, age_ms: as_of.age_ms, overrides }))
}

/// Takes an instance out of rotation.
#[utoipa::path(put, path = "/v1/services/{service}/instances/{instance}/override", operation_id = "drain", tag = "registry",
    params(InstancePath, IfMatch), request_body = OverrideBody,
    responses((status = 200, description = "The answer.", body = Written), Usual, NoSuch, AnotherLife))]
pub(super) async fn set(
    State(api): State<SharedApi>,
    InstancePath(key): InstancePath,
    IfMatch(only): IfMatch,
    JsonBody(body): JsonBody<OverrideBody>,
) -> Result<Json<Written>, Problem> {
    let OverrideBody { status, author, reason, incarnation, outlives } = body;
    if status != Status::Draining {
        // An override cannot make an instance healthy, and one that should get no requests is better drained.
        let reason = format!("{status} cannot be ordered; put \"draining\", or DELETE this path to end it");
        return Err(Problem::field("status", reason));
    }
    if only.is_some() && incarnation.is_some() && only != incarnation {
        return Err(Problem::field("incarnation", "is another one than in If-Match; send one of them"));
    }
    let at_ms = unix_ms(SystemTime::now());
    let order = Order { status, author, reason, at_ms, incarnation: only.or(incarnation), outlives };
    let revision = api.registrar.set_override(key, order).await?;
    Ok(Json(Written { revision: revision.0 }))
}

/// Puts an instance back into rotation.
///
/// Succeeds as well when there is no override.
#[utoipa::path(delete, path = "/v1/services/{service}/instances/{instance}/override", operation_id = "end_drain", tag = "registry",
    params(InstancePath, IfMatch),
    responses((status = 200, description = "The answer.", body = Cleared), Usual, AnotherLife))]
pub(super) async fn clear(
    State(api): State<SharedApi>,
    InstancePath(key): InstancePath,
    IfMatch(only): IfMatch,
) -> Result<Json<Cleared>, Problem> {
    let existed = api.registrar.clear_override(key, only).await?;
    Ok(Json(Cleared { existed }))
}

/// The one status that can be ordered.
fn draining() -> ObjectBuilder {
    one_of(&["draining"])
}
