//! `/v1/broadcasts`: one message to each of many.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lettre::message::Mailbox;
use serde_json::Value;
use service_kit::{
    Problem,
    json::{self as body, BODY_MAX_BYTES},
    openapi::joined,
    tokens::Action,
};
use url::Url;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};
use uuid::Uuid;

use super::{
    Api, REPLAYED, idempotency_key, may, messages,
    openapi::{BroadcastKey, Conflict, DiskFull, Invalid, Malformed, NoSuch, OfABody, PathId, SkipCursor, Usual},
    segment::Segment,
};
use crate::{
    broadcaster::{AudienceError, Broadcast, BroadcastRequest, Broadcaster, Count, NO_PUBLIC_URL, RehearsalError},
    error::{invalid, outbox_problem, spool_problem},
    message::{
        openapi::Parties,
        recipient_spec::{self, RecipientSpec},
    },
    outbox::{
        OutboxError,
        store::{
            broadcasts::{BroadcastView, Created},
            entry::{Accepted, IdempotencyKey},
            labels::Labels,
            skips::SkipPage,
        },
    },
    submission,
    userlist::UserlistError,
};

/// The most addresses of a test.
const TEST_TO_MAX: usize = 10;
/// Who was left out, a page at a time.
const SKIPPED_MAX: u32 = 200;

/// A [`BroadcastRequest`] with what is not kept of it.
struct NewBroadcast;

impl PartialSchema for NewBroadcast {
    fn schema() -> RefOr<Schema> {
        joined(BroadcastRequest::schema(), [Rehearsal::schema()])
    }
}

impl ToSchema for NewBroadcast {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        BroadcastRequest::schemas(schemas);
        Rehearsal::schemas(schemas);
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes fields of a request that are not written again")]
struct Rehearsal {
    /// Only says whom the broadcast would reach.
    #[schema(default = false, required = false)]
    dry_run: bool,
    /// Only sends the message of the first user to these addresses.
    #[schema(required = false)]
    test_to: Parties,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is put together by the handler")]
struct Broadcasts {
    broadcasts: Vec<BroadcastView>,
}

/// A message to each active user whom userlist finds
///
/// Scope: mail:operate. With `dry_run` it only counts whom it would reach; with `test_to` it only sends the
/// first user's message to those addresses.
#[utoipa::path(post, path = "/v1/broadcasts", operation_id = "broadcast", params(BroadcastKey),
    request_body(content = NewBroadcast,
        example = json!({ "template": "news", "filter": { "tag": "beta" } })),
    responses(
        (status = 200, description = "The count of a dry run", body = Count),
        (status = 202, description = "It begins; or the test is on disk", body = Created,
            headers(
                ("Location" = String, description = "Relative to this service"),
                ("idempotent-replayed" = String, description = "true: the answer to the same request that came before"),
            )),
        Malformed, Usual, OfABody, DiskFull, Conflict,
    ))]
pub(super) async fn create(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Operate)?;
    let name = idempotency_key(request.headers())?;
    let bytes = body::read(request, BODY_MAX_BYTES).await?;
    let key = name.map(|name| IdempotencyKey::at("/v1/broadcasts", name, &bytes));
    let mut request: BroadcastRequest = body::parse(&bytes)?;
    let test_to = test_recipients(&request.test_to.take())?;
    let is_dry_run = request.dry_run;
    if !is_dry_run && let Some(before) = known(&api, test_to.is_some(), key.as_ref()).await? {
        return Ok(before);
    }
    let broadcast = checked(&api, request).await?;
    let public = api.compose_config.options.public.as_ref();
    let public = public.ok_or_else(|| Problem::new(StatusCode::CONFLICT, "public_url_missing", NO_PUBLIC_URL))?;
    match test_to {
        _ if is_dry_run => count(&api, broadcast, public).await,
        Some(recipients) => test(&api, broadcast, public, recipients, key).await,
        None => begin(&api, &broadcast, key).await,
    }
}

/// The answer to the same request that came before.
async fn known(api: &Api, is_test: bool, key: Option<&IdempotencyKey>) -> Result<Option<Response>, Problem> {
    Ok(match is_test {
        true => api.recall(key).await?.map(|accepted: Accepted| messages::answer(&accepted, true)),
        false => api.recall(key).await?.map(|created: Created| answer(&created, true)),
    })
}

/// With its template, as it is now.
async fn checked(api: &Api, request: BroadcastRequest) -> Result<Broadcast, Problem> {
    submission::sender(request.from.as_deref(), &api.compose_config).map_err(invalid)?;
    Labels::new(request.tag.clone(), request.metadata.clone()).map_err(invalid)?;
    // In another order than that of ids, a user who is changed meanwhile comes twice, or never.
    for taken in ["limit", "cursor", "status", "sort"] {
        if request.filter.contains_key(taken) {
            return Err(Problem::field(format!("filter.{taken}"), "it is set by the broadcast itself"));
        }
    }
    // Userlist passes over a parameter without a value: the message would go to all whom the others let through.
    if let Some((name, _)) = request.filter.iter().find(|(_, value)| value.trim().is_empty()) {
        return Err(Problem::field(format!("filter.{name}"), "it is empty; give it a value, or leave it out"));
    }
    match api.outbox.template(&request.template).await {
        Ok(stored_template) => Ok(Broadcast { request, template: stored_template.template }),
        Err(OutboxError::NotFound) => Err(Problem::field("template", "there is no template of this name")),
        Err(error) => Err(outbox_problem(&error)),
    }
}

fn test_recipients(value: &Value) -> Result<Option<Vec<Mailbox>>, Problem> {
    if value.is_null() {
        return Ok(None);
    }
    let mailbox = |spec| match spec {
        RecipientSpec::Mailbox(mailbox) => Ok(mailbox),
        RecipientSpec::User(_) => Err(Problem::field("test_to", "it names a user; write an address")),
    };
    let specs = recipient_spec::list("test_to", value).map_err(invalid)?;
    if !(1..=TEST_TO_MAX).contains(&specs.len()) {
        return Err(Problem::field("test_to", "it is 1 to 10 addresses"));
    }
    specs.into_iter().map(mailbox).collect::<Result<_, _>>().map(Some)
}

async fn begin(api: &Api, broadcast: &Broadcast, key: Option<IdempotencyKey>) -> Result<Response, Problem> {
    let body = serde_json::to_string(broadcast).map_err(|_| Problem::internal())?;
    let id = Uuid::now_v7().simple().to_string();
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

async fn count(api: &Api, broadcast: Broadcast, public: &Url) -> Result<Response, Problem> {
    let count = broadcaster(api).count(broadcast, public).await.map_err(rehearsal_problem)?;
    Ok(Json(count).into_response())
}

async fn test(
    api: &Api,
    broadcast: Broadcast,
    public: &Url,
    recipients: Vec<Mailbox>,
    key: Option<IdempotencyKey>,
) -> Result<Response, Problem> {
    let broadcaster = broadcaster(api);
    let writing = broadcaster.sample(broadcast, public, recipients, key);
    let message = writing.await.map_err(rehearsal_problem)?;
    let result = api.outbox.accept(Arc::new(message)).await.map_err(|error| outbox_problem(&error))?;
    api.metrics.accepted(result.replayed);
    Ok(messages::answer(&result.accepted, result.replayed))
}

fn broadcaster(api: &Api) -> Broadcaster {
    Broadcaster {
        outbox: api.outbox.clone(),
        userlist: api.userlist.clone(),
        compose_config: Arc::clone(&api.compose_config),
    }
}

fn rehearsal_problem(error: RehearsalError) -> Problem {
    match error {
        RehearsalError::Audience(AudienceError::Outbox(error)) => outbox_problem(&error),
        RehearsalError::Audience(AudienceError::Userlist(error @ UserlistError::Refused(_))) => {
            Problem::field("filter", error.to_string())
        }
        RehearsalError::Audience(AudienceError::Userlist(error)) => {
            Problem::unavailable("userlist_unavailable", error.to_string(), Duration::from_secs(2))
        }
        RehearsalError::NoUser => Problem::field("filter", error.to_string()),
        RehearsalError::Unwritable(reason) => Problem::field("data", reason),
        RehearsalError::Spool(error) => spool_problem(&error),
    }
}

/// The last 200 broadcasts
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/broadcasts", operation_id = "listBroadcasts",
    responses((status = 200, description = "The broadcasts", body = Broadcasts), Usual))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    may(Action::Read)?;
    let broadcasts = api.outbox.broadcasts().await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(serde_json::json!({ "broadcasts": broadcasts })).into_response())
}

/// How far it is
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/broadcasts/{id}", operation_id = "getBroadcast", params(PathId),
    responses((status = 200, description = "The broadcast", body = BroadcastView), Malformed, Usual, NoSuch))]
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    Ok(Json(api.outbox.broadcast(&id).await.map_err(|error| outbox_problem(&error))?).into_response())
}

/// Who was left out, and why
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/broadcasts/{id}/skipped", operation_id = "listSkipped", params(PathId, SkipCursor),
    responses((status = 200, description = "Some of them", body = SkipPage), Malformed, Usual, NoSuch, Invalid))]
pub(super) async fn skipped(
    State(api): State<Arc<Api>>,
    Segment(id): Segment,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may(Action::Read)?;
    let mut cursor = 0;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let given = if name == "cursor" { value.parse().ok() } else { None };
        cursor = given.ok_or_else(|| Problem::field(name, "there is only cursor, as next_cursor gave it"))?;
    }
    let page = api.outbox.skips(&id, cursor, SKIPPED_MAX).await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(page).into_response())
}

/// Stop it, and take back what waits
///
/// Scope: mail:operate.
#[utoipa::path(post, path = "/v1/broadcasts/{id}/cancel", operation_id = "cancelBroadcast", params(PathId),
    responses(
        (status = 200, description = "The broadcast", body = BroadcastView),
        Malformed, Usual, NoSuch, DiskFull,
    ))]
pub(super) async fn cancel(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    api.outbox.cancel_broadcast(&id).await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(api.outbox.broadcast(&id).await.map_err(|error| outbox_problem(&error))?).into_response())
}
