//! `/v1/templates`: uploaded, looked at, taken away.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use service_kit::{Problem, json::JsonBody, tokens::Action};

use super::{Api, may, segment::Segment};
use crate::{
    error::{fill_problem, outbox_problem},
    templates::Template,
};

/// `PUT /v1/templates/{name}`
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Segment(name): Segment,
    JsonBody(template): JsonBody<Template>,
) -> Result<Response, Problem> {
    may(Action::Operate)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
        return Err(Problem::field("name", "it is 1 to 64 letters, digits, '-', '_' and '.'"));
    }
    api.compose_config.filler.check(&template).await.map_err(fill_problem)?;
    api.outbox.put_template(&name, &template).await.map_err(|error| outbox_problem(&error))?;
    get(State(api), Segment(name)).await
}

/// `GET /v1/templates/{name}`
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(name): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    Ok(Json(api.outbox.template(&name).await.map_err(|error| outbox_problem(&error))?).into_response())
}

/// `GET /v1/templates`
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    may(Action::Read)?;
    let templates = api.outbox.templates().await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(json!({ "templates": templates })).into_response())
}

/// `DELETE /v1/templates/{name}`
pub(super) async fn delete(State(api): State<Arc<Api>>, Segment(name): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    api.outbox.delete_template(&name).await.map_err(|error| outbox_problem(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
