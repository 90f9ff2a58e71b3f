//! `/v1/suppressions`: whom nothing is sent to; `/v1/bounces`: how others tell us; `/v1/unsubscribe`: how readers do.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;
use service_kit::{Problem, json::JsonBody, tokens::Action};
use utoipa::ToSchema;

use super::{
    Api, may,
    openapi::{
        DiskFull, Invalid, ListCursor, Malformed, NewAddress, NoSuch, OfABody, PathAddress, PathToken, Unavailable,
        Usual,
    },
    segment::Segment,
};
use crate::{
    error::outbox_problem,
    message::recipient,
    outbox::store::suppression::{Reason, Scope, Suppression},
};

const PAGE: u32 = 200;

/// The body of `PUT /v1/suppressions/{address}`.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewSuppression)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(default)]
    reason: Option<Reason>,
    /// Left out, what the reason stops.
    #[serde(default)]
    stream: Option<Scope>,
    #[serde(default)]
    #[schema(required = false)]
    detail: String,
}

/// The body of `POST /v1/bounces`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounce {
    #[schema(max_length = 254)]
    address: String,
    #[serde(rename = "type")]
    #[schema(inline)]
    kind: BounceKind,
    #[serde(default)]
    #[schema(required = false)]
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum BounceKind {
    /// Came back for good.
    Hard,
    /// Came back, and might not next time.
    Soft,
    /// The reader called it spam.
    Complaint,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is put together by the handler")]
struct Suppressions {
    #[schema(inline)]
    suppressions: Vec<Suppression>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Whom nothing is sent to
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/suppressions", operation_id = "listSuppressions", params(ListCursor),
    responses((status = 200, description = "Some of the list", body = Suppressions), Malformed, Usual, Invalid))]
pub(super) async fn list(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    may(Action::Read)?;
    let mut after = " ".to_owned();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "cursor" if value.len() <= 300 && !value.chars().any(char::is_control) => after = value.into_owned(),
            other => return Err(Problem::field(other.to_owned(), "there is only cursor, as next_cursor gave it")),
        }
    }
    // An address alone, as it was before there were streams, is one whose entries have all been shown.
    let after = after.split_once(' ').unwrap_or((&after, "~"));
    let mut entries = api.outbox.suppressions(after, PAGE + 1).await.map_err(|error| outbox_problem(&error))?;
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let is_last = entries.len() <= page;
    entries.truncate(page);
    let next_cursor =
        if is_last { None } else { entries.last().map(|entry| format!("{} {}", entry.address, entry.stream)) };
    Ok(Json(json!({ "suppressions": entries, "next_cursor": next_cursor })).into_response())
}

/// Put an address on the list
///
/// Scope: mail:operate.
#[utoipa::path(put, path = "/v1/suppressions/{address}", operation_id = "suppress", params(NewAddress),
    request_body(content = Entry,
        example = json!({ "reason": "manual" })),
    responses((status = 204, description = "Done"), Malformed, Usual, OfABody, DiskFull))]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Segment(address): Segment,
    JsonBody(entry): JsonBody<Entry>,
) -> Result<Response, Problem> {
    may(Action::Operate)?;
    let reason = entry.reason.unwrap_or(Reason::Manual);
    let scope = entry.stream.unwrap_or_else(|| reason.scope());
    if reason == Reason::Unsubscribe && scope != Scope::Broadcast {
        let problem = "who unsubscribes leaves broadcasts; to stop other mail, too, write the reason manual";
        return Err(Problem::field("stream", problem));
    }
    suppress(&api, &address, reason, scope, &entry.detail).await
}

/// Take an address off the list
///
/// Scope: mail:operate.
#[utoipa::path(delete, path = "/v1/suppressions/{address}", operation_id = "unsuppress", params(PathAddress),
    responses((status = 204, description = "Done"), Malformed, Usual, NoSuch, DiskFull))]
pub(super) async fn delete(State(api): State<Arc<Api>>, Segment(address): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    api.outbox.unsuppress(&address).await.map_err(|error| outbox_problem(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What came back: hard bounces and complaints end on the list
///
/// Scope: mail:write. A soft one says nothing about next time.
#[utoipa::path(post, path = "/v1/bounces", operation_id = "bounce",
    request_body(content = Bounce,
        example = json!({ "address": "gone@example.com", "type": "hard", "detail": "550 5.1.1 unknown" })),
    responses((status = 204, description = "Done"), Malformed, Usual, OfABody, DiskFull))]
pub(super) async fn bounce(
    State(api): State<Arc<Api>>,
    JsonBody(bounce): JsonBody<Bounce>,
) -> Result<Response, Problem> {
    may(Action::Write)?;
    match bounce.kind {
        BounceKind::Hard => suppress(&api, &bounce.address, Reason::Bounce, Scope::All, &bounce.detail).await,
        BounceKind::Complaint => suppress(&api, &bounce.address, Reason::Complaint, Scope::All, &bounce.detail).await,
        BounceKind::Soft => {
            let address = recipient::check(&bounce.address).map_err(|reason| Problem::field("address", reason))?;
            let detail = one_line(&bounce.detail);
            let noting = api.outbox.note_soft_bounce(address.as_ref(), &detail);
            noting.await.map_err(|error| outbox_problem(&error))?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

async fn suppress(api: &Api, address: &str, reason: Reason, scope: Scope, detail: &str) -> Result<Response, Problem> {
    let address = recipient::check(address).map_err(|reason| Problem::field("address", reason))?;
    let detail = one_line(detail);
    let suppressing = api.outbox.suppress_for(address.as_ref(), reason, scope, &detail);
    suppressing.await.map_err(|error| outbox_problem(&error))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn one_line(detail: &str) -> String {
    detail.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// A page with a button
///
/// Programs that look at links must not unsubscribe a reader.
#[utoipa::path(get, path = "/v1/unsubscribe/{token}", operation_id = "askToUnsubscribe", params(PathToken), security(()),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"), Malformed))]
pub(super) async fn ask(Segment(_): Segment) -> Response {
    page("<form method=\"post\"><p>No more mail of this kind?</p><button>Unsubscribe</button></form>")
}

/// The button, and mail programs (RFC 8058); needs no API token
#[utoipa::path(post, path = "/v1/unsubscribe/{token}", operation_id = "unsubscribe", params(PathToken), security(()),
    responses(
        (status = 200, description = "Done", body = String, content_type = "text/html"),
        Malformed, NoSuch, Unavailable, DiskFull,
    ))]
pub(super) async fn unsubscribe(State(api): State<Arc<Api>>, Segment(token): Segment) -> Result<Response, Problem> {
    api.outbox.unsubscribe(&token).await.map_err(|error| outbox_problem(&error))?;
    Ok(page("<p>Done. You will get no more mail of this kind.</p>"))
}

fn page(body: &str) -> Response {
    let html = format!("<!doctype html><meta charset=\"utf-8\"><title>Unsubscribe</title>{body}");
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, html).into_response()
}
