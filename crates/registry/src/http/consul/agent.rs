//! Registering as with a Consul agent.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::StatusCode,
};
use discovery::{FieldError, Host, Instance, InstanceId, InstanceKey, Reason, Status};
use serde_json::{Map, Value, json};
use service_kit::{Problem, json::JsonBody};
use utoipa::{IntoParams, ToSchema};

use super::{
    DATACENTER,
    registration::{self, CHECK_META, CHECK_PREFIX, ConsulRegistration},
};
use crate::{
    error,
    http::{
        Api, SharedApi,
        openapi::{NoSuch, SeveralHaveIt, Usual},
        path::TextPath,
        query::Pairs,
    },
};

/// The check's id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes a part of a path")]
struct CheckPath {
    /// The check's id: the instance's, with or without `service:` before it.
    check: String,
}

/// `?note=…`
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what is read from the query")]
struct Note {
    /// Why; becomes the reason.
    #[param(nullable = false)]
    note: Option<String>,
}

/// `{"Status":"passing","Output":"…"}`
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read from a map without looking at the case of names")]
struct ConsulUpdate {
    #[schema(rename = "Status")]
    status: ConsulStatus,
    #[schema(rename = "Output", required = false)]
    output: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes what is read from a map without looking at the case of names")]
enum ConsulStatus {
    Passing,
    Warning,
    Critical,
}

/// Who answers.
#[utoipa::path(get, path = "/v1/agent/self", operation_id = "consul_self", tag = "consul",
    responses((status = 200, description = "The answer.", body = Object), Usual))]
pub(super) async fn myself() -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "Config": {
            "Datacenter": DATACENTER, "PrimaryDatacenter": DATACENTER, "NodeName": "muster", "NodeID": "",
            "Server": true, "Revision": "", "Version": version, "BuildDate": "1970-01-01T00:00:00Z",
        },
        "Member": { "Name": "muster", "Tags": { "dc": DATACENTER, "role": "consul" }, "Status": 1 },
        "Meta": {},
    }))
}

/// Registers, with a TTL check.
///
/// Registering again keeps the state of the check, whatever the registration says, as a Consul agent has it: a program that repeats
/// its registration from time to time would otherwise be out of rotation until its next report.
#[utoipa::path(put, path = "/v1/agent/service/register", operation_id = "consul_register", tag = "consul", request_body = ConsulRegistration,
    responses((status = 200, description = "Done."), Usual))]
pub(super) async fn register(
    State(api): State<SharedApi>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<(), Problem> {
    let client = Host::from(client.ip().to_canonical());
    let mut heartbeat = registration::read(&body, client).map_err(error::field)?;
    if let Some(before) = api.registrar.registered(&heartbeat.key).await? {
        let Instance { address, status, reason, meta, .. } = before;
        let is_same = address == heartbeat.instance.address;
        if is_same && meta.get(CHECK_META) == heartbeat.instance.meta.get(CHECK_META) && status != Status::Draining {
            (heartbeat.instance.status, heartbeat.instance.reason) = (status, reason);
        }
    }
    api.registrar.accept(heartbeat).await?;
    Ok(())
}

/// Deregisters.
#[utoipa::path(put, path = "/v1/agent/service/deregister/{id}", operation_id = "consul_deregister", tag = "consul", params(("id" = String, Path, description = "The instance's id.")),
    responses((status = 200, description = "Done."), Usual, NoSuch, SeveralHaveIt))]
pub(super) async fn deregister(State(api): State<SharedApi>, TextPath(id): TextPath) -> Result<(), Problem> {
    let key = find(&api, &id)?;
    api.registrar.deregister(key, None).await?;
    Ok(())
}

/// A heartbeat: well.
#[utoipa::path(put, path = "/v1/agent/check/pass/{check}", operation_id = "consul_pass", tag = "consul", params(CheckPath),
    responses((status = 200, description = "Done."), Usual, NoSuch, SeveralHaveIt))]
pub(super) async fn pass(State(api): State<SharedApi>, TextPath(check): TextPath) -> Result<(), Problem> {
    report(&api, &check, Status::Passing, None).await
}

/// A heartbeat: well, with a remark.
///
/// It stays in rotation.
#[utoipa::path(put, path = "/v1/agent/check/warn/{check}", operation_id = "consul_warn", tag = "consul", params(CheckPath, Note),
    responses((status = 200, description = "Done."), Usual, NoSuch, SeveralHaveIt))]
pub(super) async fn warn(State(api): State<SharedApi>, TextPath(check): TextPath, pairs: Pairs) -> Result<(), Problem> {
    report(&api, &check, Status::Degraded, note(&pairs)).await
}

/// A heartbeat: not well.
#[utoipa::path(put, path = "/v1/agent/check/fail/{check}", operation_id = "consul_fail", tag = "consul", params(CheckPath, Note),
    responses((status = 200, description = "Done."), Usual, NoSuch, SeveralHaveIt))]
pub(super) async fn fail(State(api): State<SharedApi>, TextPath(check): TextPath, pairs: Pairs) -> Result<(), Problem> {
    report(&api, &check, Status::Critical, note(&pairs)).await
}

/// `?note=…`, as a reason.
fn note(Pairs(pairs): &Pairs) -> Option<&str> {
    pairs.iter().find(|(name, _)| name == "note").map(|(_, note)| note.as_str())
}

/// A heartbeat that says how it is.
#[utoipa::path(put, path = "/v1/agent/check/update/{check}", operation_id = "consul_update", tag = "consul", params(CheckPath), request_body = inline(ConsulUpdate),
    responses((status = 200, description = "Done."), Usual, NoSuch, SeveralHaveIt))]
pub(super) async fn update(
    State(api): State<SharedApi>,
    TextPath(check): TextPath,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Result<(), Problem> {
    let status = registration::text(&body, "Status").map_err(error::field)?.and_then(registration::status_of);
    let unknown = || error::field(FieldError::new("Status", registration::STATUSES));
    let output = registration::text(&body, "Output").map_err(error::field)?;
    report(&api, &check, status.ok_or_else(unknown)?, output).await
}

async fn report(api: &Api, check: &str, status: Status, said: Option<&str>) -> Result<(), Problem> {
    let key = find_check(api, check)?;
    let reason = said.and_then(Reason::shorten);
    if api.registrar.report(key, status, reason).await? { Ok(()) } else { Err(unknown_check(check)) }
}

/// The instance with this check: `service:ID`, or what it was registered with; an id alone will do, too.
fn find_check(api: &Api, check: &str) -> Result<InstanceKey, Problem> {
    api.catalog.age()?;
    let with_id =
        |id: &str| id.parse().map_or_else(|_| Vec::new(), |id: InstanceId| api.catalog.with_id(&id.in_one_spelling()));
    let mut found = check.strip_prefix(CHECK_PREFIX).map(with_id).unwrap_or_default();
    if found.is_empty() {
        found = api.catalog.with_meta(CHECK_META, check);
    }
    if found.is_empty() {
        found = with_id(check);
    }
    only(found, check)
}

/// The instance with this id, of whichever service. Ids are unique for an agent in Consul, and so they must be here for
/// this to work; `host:port` is.
fn find(api: &Api, id: &str) -> Result<InstanceKey, Problem> {
    api.catalog.age()?;
    let wanted = id.parse::<InstanceId>().map_err(error::field)?.in_one_spelling();
    only(api.catalog.with_id(&wanted), id)
}

fn only(mut found: Vec<InstanceKey>, id: &str) -> Result<InstanceKey, Problem> {
    match (found.pop(), found.pop()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(unknown_check(id)),
        (Some(one), Some(other)) => Err(Problem::new(
            StatusCode::CONFLICT,
            "ambiguous_id",
            format!("{one} and {other} have the same id; give each instance its own, or deregister by its full path"),
        )),
    }
}

/// 404, which makes Consul's clients register again.
fn unknown_check(id: &str) -> Problem {
    let shown: String = id.chars().take(160).flat_map(char::escape_default).collect();
    Problem::new(StatusCode::NOT_FOUND, "no_such_instance", format!("unknown id \"{shown}\"; register it (again)"))
}
