//! `/v1/broadcasts`: one message to each of many.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use service_kit::{Problem, json, tokens::Action};
use uuid::Uuid;

use super::{Api, REPLAYED, idempotency_key, invalid, may, outbox_problem, segment::Segment};
use crate::{
    broadcaster::{Broadcast, BroadcastRequest},
    outbox::{OutboxError, broadcast::Created, entry::IdempotencyKey},
    submission,
};

/// `POST /v1/broadcasts`
pub(super) async fn create(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Operate)?;
    let name = idempotency_key(request.headers())?;
    let body = json::read(request, json::BODY_MAX_BYTES).await?;
    let key = name.map(|name| IdempotencyKey::at("/v1/broadcasts", name, &body));
    if let Some(created) = api.recall(key.as_ref()).await? {
        return Ok(answer(&created, true));
    }
    let request: BroadcastRequest = json::parse(&body)?;
    submission::sender(request.from.as_deref(), &api.house).map_err(invalid)?;
    for taken in ["limit", "cursor", "status"] {
        if request.filter.contains_key(taken) {
            return Err(Problem::field(format!("filter.{taken}"), "it is set by the broadcast itself"));
        }
    }
    let template = match api.outbox.template(&request.template).await {
        Ok(shelved) => shelved.template,
        Err(OutboxError::NotFound) => return Err(Problem::field("template", "there is no template of this name")),
        Err(error) => return Err(outbox_problem(&error)),
    };
    let id = Uuid::now_v7().simple().to_string();
    let body = serde_json::to_string(&Broadcast { request, template }).map_err(|_| Problem::internal())?;
    let created = api.outbox.create_broadcast(&id, body, key).await.map_err(|error| outbox_problem(&error))?;
    Ok(answer(&created, created.id != id))
}

fn answer(created: &Created, replayed: bool) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(created)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/broadcasts/{}", created.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// `GET /v1/broadcasts`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    may(Action::Read)?;
    let broadcasts = api.outbox.broadcasts().await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(serde_json::json!({ "broadcasts": broadcasts })).into_response())
}

/// `GET /v1/broadcasts/{id}`
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    Ok(Json(api.outbox.broadcast(&id).await.map_err(|error| outbox_problem(&error))?).into_response())
}

/// `POST /v1/broadcasts/{id}/cancel`
pub(super) async fn cancel(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    api.outbox.cancel_broadcast(&id).await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(api.outbox.broadcast(&id).await.map_err(|error| outbox_problem(&error))?).into_response())
}
