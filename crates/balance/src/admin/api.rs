//! The operator's side, on a port of its own.
//!
//! `/healthz`, `/readyz` and `/metrics` as everywhere; `/v1/table`, the routing table with the
//! decision for every instance; `/explain?service=mail`, why it is so for one service.

use std::time::SystemTime;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use discovery::policy::Details;
use discovery_etcd::WatchHealth;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{Problem, app, browser::Guard, health::Readiness};

use crate::{
    admin::explain,
    clock::Millis,
    instance::{candidate::Candidate, outlier::Verdict},
    proxy::unavailable,
    table::{
        routing_table::{ExcludedInstance, RoutingTable, Service, Source, TableHandle},
        tombstones::Tombstone,
    },
};

/// The longest `/readyz` of the common ones; it has a line for each check.
const READINESS_BYTES_MAX: usize = 64 * 1024;

/// What the admin side shows.
#[derive(Debug, Clone)]
pub struct Admin {
    table: TableHandle,
    watch: WatchHealth,
    zone: Option<String>,
}

/// The admin side's router. `zone` is the gateway's own; `registry` holds the metrics.
pub fn router(
    table: TableHandle,
    watch: WatchHealth,
    zone: Option<String>,
    guard: Guard,
    readiness: Readiness,
    registry: Registry,
) -> Router {
    let admin = Admin { table, watch, zone };
    let api = Router::new().route("/v1/table", get(show_table)).route("/explain", get(show_service));
    let api = api.with_state(admin.clone());
    app::assemble(api, guard, readiness, registry).layer(middleware::from_fn_with_state(admin, tell_age))
}

/// Adds to what every service says at `/readyz` how old the table is: also while all is well.
async fn tell_age(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let is_readiness = request.method() == Method::GET && request.uri().path() == "/readyz";
    let response = next.run(request).await;
    if !is_readiness {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, READINESS_BYTES_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let body = match serde_json::from_slice::<serde_json::Map<String, Value>>(&body) {
        Ok(mut readiness) => {
            readiness.insert("table".to_owned(), admin.origin(&admin.table.load()));
            Value::Object(readiness).to_string().into()
        }
        Err(_) => body,
    };
    // It is longer now; the server counts again.
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}

async fn show_table(State(admin): State<Admin>) -> Json<Value> {
    let (table, now) = (admin.table.load(), Millis::now());
    let services: serde_json::Map<String, Value> =
        table.services().into_iter().map(|service| (service.name.to_string(), service_json(service, now))).collect();
    Json(json!({ "table": admin.origin(&table), "services": services }))
}

/// `?service=mail`.
#[derive(Debug, Deserialize)]
struct About {
    service: String,
}

async fn show_service(
    State(admin): State<Admin>,
    about: Result<Query<About>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Ok(Query(About { service: name })) = about else {
        let detail = "which service is missing; ask for /explain?service=mail";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "no_service_name", detail));
    };
    let (table, now) = (admin.table.load(), Millis::now());
    let Some(service) = table.service(&name) else {
        let problem = unavailable::unknown(&name, &table).problem();
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_service", problem.detail));
    };
    let mut explanation = explain::service(service, admin.zone.as_deref(), now, SystemTime::now());
    explanation["table"] = admin.origin(&table);
    Ok(Json(explanation))
}

impl Admin {
    /// Where the table comes from, and how old what it says is.
    fn origin(&self, table: &RoutingTable) -> Value {
        let watch = self.watch.state();
        let (source, age) = match table.source {
            Source::Nothing => ("nothing", None),
            Source::Disk(saved_at) => ("disk", SystemTime::now().duration_since(saved_at).ok()),
            Source::Etcd => ("etcd", self.watch.lag(tokio::time::Instant::now())),
        };
        json!({
            "source": source,
            "revision": table.revision,
            "age_ms": age.and_then(|age| u64::try_from(age.as_millis()).ok()),
            "etcd": { "connected": watch.connected, "last_error": watch.last_error },
        })
    }
}

fn service_json(service: &Service, now: Millis) -> Value {
    let uses_last_resort = std::ptr::eq(service.balancer.candidate_set(), &service.balancer.last_resort);
    let place = |one: &Candidate| if service.is_kept(one) { "kept" } else { "in_rotation" };
    let in_rotation = service.balancer.candidates.all().iter().map(|one| candidate_json(one, place(one), now));
    let last_resort = match uses_last_resort {
        true => "last_resort_in_use",
        false => "last_resort",
    };
    let suspects = service.balancer.last_resort.all().iter().map(|one| candidate_json(one, last_resort, now));
    let withheld = service.withheld.iter().map(withheld_json);
    let instances: Vec<Value> = in_rotation.chain(withheld).chain(suspects).collect();
    let tombstones: Vec<Value> = service.tombstones.iter().map(|tombstone| tombstone_json(tombstone, now)).collect();
    json!({ "instances": instances, "tombstones": tombstones })
}

fn candidate_json(candidate: &Candidate, place: &str, now: Millis) -> Value {
    let (decision, ejected_for) = match candidate.state.outlier.verdict(now) {
        Verdict::Healthy if candidate.is_unresolved() => ("unresolved", None),
        Verdict::Healthy => (place, None),
        Verdict::Ejected { until } => ("ejected", Some(until.since(now))),
        Verdict::Probation => ("probation", None),
        Verdict::Failing => ("failing", None),
    };
    json!({
        "key": candidate.key,
        "instance": candidate.instance,
        "decision": decision,
        "ejected_for_ms": ejected_for.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    })
}

fn withheld_json(withheld: &ExcludedInstance) -> Value {
    json!({
        "key": withheld.key,
        "instance": { "address": withheld.address },
        "decision": "withheld",
        "reason": format!("it {}", unavailable::reason(withheld, Details::Full)),
    })
}

fn tombstone_json(tombstone: &Tombstone, now: Millis) -> Value {
    let ago_ms = u64::try_from(now.since(tombstone.at).as_millis()).unwrap_or(u64::MAX);
    json!({ "key": tombstone.key, "address": tombstone.address, "cause": tombstone.cause, "ago_ms": ago_ms })
}
