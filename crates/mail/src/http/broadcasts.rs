//! `/v1/broadcasts`: one message to each of many.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use service_kit::{Problem, json::JsonBody, tokens::Action};
use uuid::Uuid;

use super::{Api, invalid, may, outbox_problem, segment::Segment};
use crate::{
    broadcaster::{Broadcast, BroadcastRequest},
    outbox::OutboxError,
    submission,
};

/// `POST /v1/broadcasts`
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<BroadcastRequest>,
) -> Result<Response, Problem> {
    may(Action::Operate)?;
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
    api.outbox.create_broadcast(&id, body).await.map_err(|error| outbox_problem(&error))?;
    let mut response = (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/broadcasts/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `GET /v1/broadcasts`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    may(Action::Read)?;
    let broadcasts = api.outbox.broadcasts().await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(json!({ "broadcasts": broadcasts })).into_response())
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
