//! An operator's word about an instance: `muster drain` and its end.
//!
//! It is written beside the instance, not into it, so that heartbeats do not undo it; the instance learns of it from the
//! reply to its next heartbeat, gateways learn of it from etcd. It is for the incarnation that holds the id when it is
//! given, and ends with that: a container that gets the same address later has done nothing. With `outlives` it stays
//! until it is taken back, the present holder of the id.

use std::time::SystemTime;

use axum::{Json, extract::State};
use discovery::{Incarnation, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::{Problem, json::JsonBody};

use super::{
    Api,
    condition::IfMatch,
    heartbeats::Written,
    listing::{AsOf, OverrideEntry, unix_ms},
    path::InstancePath,
};
use crate::registrar::Order;

/// `{"status":"draining","author":"kim","reason":"disk swap"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    status: Status,
    author: Option<String>,
    reason: Option<String>,
    incarnation: Option<Incarnation>,
    #[serde(default)]
    outlives: bool,
}

/// The answer to a deletion.
#[derive(Debug, Serialize)]
pub(super) struct Cleared {
    /// Whether there was an override.
    existed: bool,
}

/// `GET /v1/overrides`
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    let as_of = AsOf::new(&api.catalog, api.catalog.revision())?;
    let overrides = api.catalog.overrides();
    let overrides: Vec<_> =
        overrides.iter().map(|(key, order, in_force)| OverrideEntry::new(key, order, *in_force)).collect();
    Ok(Json(json!({ "revision": as_of.revision, "age_ms": as_of.age_ms, "overrides": overrides })))
}

/// `PUT …/override`
pub(super) async fn set(
    State(api): State<Api>,
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

/// `DELETE …/override`; succeeds as well when there is none.
pub(super) async fn clear(
    State(api): State<Api>,
    InstancePath(key): InstancePath,
    IfMatch(only): IfMatch,
) -> Result<Json<Cleared>, Problem> {
    let existed = api.registrar.clear_override(key, only).await?;
    Ok(Json(Cleared { existed }))
}
