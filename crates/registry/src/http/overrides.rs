//! An operator's word about an instance: `muster drain` and its end.
//!
//! It is written beside the instance, not into it, so that heartbeats do not undo it; the instance learns of it from the
//! reply to its next heartbeat, gateways learn of it from etcd. It outlives the instance: one that restarts under the
//! same id is still drained, until the operator says otherwise.

use axum::{Json, extract::State};
use discovery::Status;
use serde::{Deserialize, Serialize};
use service_kit::{Problem, json::JsonBody};

use super::{Api, heartbeats::Written, path::InstancePath};

/// `{"status":"draining"}`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideBody {
    status: Status,
}

/// The answer to a deletion.
#[derive(Debug, Serialize)]
pub(super) struct Cleared {
    /// Whether there was an override.
    existed: bool,
}

/// `PUT …/override`
pub(super) async fn set(
    State(api): State<Api>,
    InstancePath(key): InstancePath,
    JsonBody(OverrideBody { status }): JsonBody<OverrideBody>,
) -> Result<Json<Written>, Problem> {
    if status != Status::Draining {
        // Nobody can make a service well by decree, and one that is made to look unwell is better drained.
        let reason = format!("{status} cannot be ordered; put \"draining\", or DELETE this path to end it");
        return Err(Problem::field("status", reason));
    }
    let revision = api.registrar.set_override(key, status).await?;
    Ok(Json(Written { revision: revision.0 }))
}

/// `DELETE …/override`; succeeds as well when there is none.
pub(super) async fn clear(State(api): State<Api>, InstancePath(key): InstancePath) -> Result<Json<Cleared>, Problem> {
    let existed = api.registrar.clear_override(key).await?;
    Ok(Json(Cleared { existed }))
}
