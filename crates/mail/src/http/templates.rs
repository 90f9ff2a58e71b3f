//! `/v1/templates`: uploaded, looked at, taken away.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use service_kit::{Problem, json::JsonBody, openapi::joined, tokens::Action};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    Api, may,
    openapi::{DiskFull, Malformed, NewName, NoSuch, OfABody, PathName, Usual},
    segment::Segment,
};
use crate::{
    error::{fill_problem, outbox_problem},
    outbox::store::templates::StoredTemplate,
    templates::Template,
};

/// A [`StoredTemplate`] with what it is.
struct Shelved;

impl PartialSchema for Shelved {
    fn schema() -> RefOr<Schema> {
        joined(StoredTemplate::schema(), [Parts::schema()])
    }
}

impl ToSchema for Shelved {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        StoredTemplate::schemas(schemas);
    }
}

/// A [`Template`] as it is written: what is not there is left out.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what a template writes, which may read more")]
struct Parts {
    subject: String,
    #[schema(nullable = false)]
    text: Option<String>,
    #[schema(nullable = false)]
    html: Option<String>,
    #[schema(required)]
    sample: Value,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is put together by the handler")]
struct Templates {
    templates: Vec<Shelved>,
}

/// Upload a template, checked with its sample
///
/// Scope: mail:operate.
#[utoipa::path(put, path = "/v1/templates/{name}", operation_id = "putTemplate", params(NewName),
    request_body(content = Template,
        example = json!({
            "subject": "News for {{ user.name }}",
            "text": "Hello {{ user.name }}",
            "sample": { "user": { "name": "Dong" } },
        })),
    responses(
        (status = 200, description = "The template", body = Shelved),
        Malformed, Usual, OfABody, DiskFull, NoSuch,
    ))]
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

/// A template
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/templates/{name}", operation_id = "getTemplate", params(PathName),
    responses((status = 200, description = "The template", body = Shelved), Malformed, Usual, NoSuch))]
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(name): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    Ok(Json(api.outbox.template(&name).await.map_err(|error| outbox_problem(&error))?).into_response())
}

/// All templates, by name
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/templates", operation_id = "listTemplates",
    responses((status = 200, description = "The templates", body = Templates), Usual))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    may(Action::Read)?;
    let templates = api.outbox.templates().await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(json!({ "templates": templates })).into_response())
}

/// Take a template away
///
/// Scope: mail:operate.
#[utoipa::path(delete, path = "/v1/templates/{name}", operation_id = "deleteTemplate", params(PathName),
    responses((status = 204, description = "Done"), Malformed, Usual, NoSuch, DiskFull))]
pub(super) async fn delete(State(api): State<Arc<Api>>, Segment(name): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    api.outbox.delete_template(&name).await.map_err(|error| outbox_problem(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
