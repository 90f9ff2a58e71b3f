//! The config centre over HTTP.
//!
//! A value is the body itself; its revision is its `ETag`. A writer that sends it back as `If-Match` overwrites only
//! what it has read, one that sends `If-None-Match: *` only nothing; else the answer is 412, with the `ETag` of what is
//! there (RFC 9110 section 13.1).

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use discovery::{AccessKey, AccessKeyId, Revision, SettingKey};
use discovery_etcd::{Expected, Write};
use serde::Serialize;
use service_kit::{
    Problem,
    openapi::{matching, one_of, parameter, reference},
    tokens::{Action, Caller},
};
use tokio::time::Instant;
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    SharedApi,
    heartbeats::Written,
    long_polls::index_header,
    openapi::{NoSuch, NotAsExpected, Usual},
    path::TextPath,
    query::{Pairs, Poll, unknown},
};
use crate::{
    admission::access::Right,
    error,
    settings::{Found, VALUE_MAX_BYTES},
};

/// Up to which revision of etcd an answer is known to be true.
const REVISION: HeaderName = HeaderName::from_static("x-muster-revision");

/// Every setting.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingList {
    /// The etcd revision that is shown.
    #[schema(minimum = 0)]
    revision: i64,
    settings: Vec<SettingEntry>,
}

/// One setting, without its value.
#[derive(Debug, Serialize, ToSchema)]
struct SettingEntry {
    key: SettingKey,
    /// The etcd revision at which it was last written.
    #[schema(minimum = 0)]
    revision: i64,
}

/// What a deletion came to.
#[derive(Debug, Serialize, ToSchema)]
struct Deleted {
    /// Whether there was a setting.
    existed: bool,
}

/// `{*key}` of a path.
pub(super) struct KeyPath;

/// `history` and `history=17`.
pub(super) struct OfHistory;

/// The conditions of a writer.
pub(super) struct WriterHas;

/// The condition of one who deletes.
pub(super) struct DeleterHas;

/// The condition of a reader.
pub(super) struct ReaderHas;

impl IntoParams for KeyPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        const KEY: &str = "`SERVICE` for the gateway's policy, `key/ID` for an API key of its clients, `A/B/…` for anything else. Slashes are written as they are.";
        vec![parameter("key", ParameterIn::Path, KEY, reference::<SettingKey>())]
    }
}

impl IntoParams for OfHistory {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The values that etcd still keeps, up to this revision or to now.";
        vec![parameter("history", ParameterIn::Query, what, matching("^[0-9]{0,18}$"))]
    }
}

impl IntoParams for WriterHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "*: write only if there is nothing.";
        vec![if_match(), parameter("If-None-Match", ParameterIn::Header, what, one_of(&["*"]))]
    }
}

impl IntoParams for DeleterHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![if_match()]
    }
}

impl IntoParams for ReaderHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The ETag that the reader has: 304 if it is still that.";
        vec![parameter("If-None-Match", ParameterIn::Header, what, matching("^\"[0-9]{1,18}\"$"))]
    }
}

fn if_match() -> Parameter {
    let what = "The ETag that the writer has seen, or * for any.";
    parameter("If-Match", ParameterIn::Header, what, matching("^(\\*|\"[1-9][0-9]{0,17}\")$"))
}

/// Every setting with its revision.
#[utoipa::path(get, path = "/v1/config", operation_id = "settings", tag = "config",
    responses((status = 200, description = "The answer.", body = SettingList), Usual))]
pub(super) async fn list(State(api): State<SharedApi>) -> Result<Json<SettingList>, Problem> {
    let (revision, settings) = api.settings.list()?;
    let settings = settings.into_iter().map(|(key, at)| SettingEntry { key, revision: at.0 }).collect();
    Ok(Json(SettingList { revision: revision.0, settings }))
}

/// One setting; its history; or the wait for its change.
///
/// With `history`, what is left of its past is answered as JSON.
#[utoipa::path(get, path = "/v1/config/{*key}", operation_id = "setting", tag = "config",
    params(KeyPath, OfHistory, Poll, ReaderHas),
    responses(
        (status = 200, description = "The answer.", content((Value = "application/json"), (String = "text/plain")),
            headers(
                ("ETag" = String, description = "The revision, quoted."),
                ("x-muster-index" = u64, description = "The revision of the last event."),
                ("x-muster-revision" = u64,
                    description = "Up to which revision of etcd that is known. It goes backwards only when etcd has lost its history."),
            )),
        (status = 304, description = "The value is the one that If-None-Match names."),
        Usual, NoSuch,
    ))]
pub(super) async fn get(
    State(api): State<SharedApi>,
    TextPath(key): TextPath,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = parse(&key)?;
    let mut poll = Poll::default();
    let mut history = None;
    for (name, value) in &pairs {
        match name.as_str() {
            "history" => history = Some(at(value)?),
            _ if poll.take(name, value)? => {}
            _ => return Err(unknown(name, "index, wait and history")),
        }
    }
    if let Some(at) = history {
        return Ok(Json(api.settings.history(key, at).await?).into_response());
    }
    let found = match poll.seen {
        None => api.settings.read(key.clone()).await?,
        Some(seen) => {
            let place = api.long_polls.acquire()?;
            let until = poll.until();
            let mut right = Right::current();
            tokio::select! {
                problem = Right::lost(&mut right) => return Err(problem),
                answer = api.settings.wait(&key, seen, until) => answer?,
                () = place.closed() => api.settings.wait(&key, seen, Instant::now()).await?,
            }
        }
    };
    Ok(show(&key, found, &headers))
}

/// Writes a setting, if it is as the conditions say.
#[utoipa::path(put, path = "/v1/config/{*key}", operation_id = "write_setting", tag = "config", params(KeyPath, WriterHas),
    request_body(content((Value = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "The answer.", body = Written, headers(("ETag" = String, description = "The revision, quoted."))),
        Usual, NotAsExpected,
    ))]
pub(super) async fn put(
    State(api): State<SharedApi>,
    TextPath(key): TextPath,
    headers: HeaderMap,
    request: Request,
) -> Result<(HeaderMap, Json<Written>), Problem> {
    let key = parse(&key)?;
    let expected = expected(&headers)?;
    let body = service_kit::json::read(request, VALUE_MAX_BYTES).await?;
    let value = String::from_utf8(body.into()).map_err(|_| Problem::field("value", "is not UTF-8 text"))?;
    may_open(&key, &value)?;
    match api.settings.write(key, value, expected).await? {
        Write::Done(revision) => {
            let revision = revision.unwrap_or_default();
            Ok((etag(revision), Json(Written { revision: revision.0 })))
        }
        Write::Differs(found) => Err(differs(found)),
    }
}

/// Deletes a setting, if it is as the conditions say.
///
/// Succeeds as well when there is none, unless one was expected.
#[utoipa::path(delete, path = "/v1/config/{*key}", operation_id = "delete_setting", tag = "config", params(KeyPath, DeleterHas),
    responses((status = 200, description = "The answer.", body = Deleted), Usual, NotAsExpected))]
pub(super) async fn delete(
    State(api): State<SharedApi>,
    TextPath(key): TextPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = parse(&key)?;
    let expected = expected(&headers)?;
    match api.settings.delete(key, expected).await? {
        Write::Done(gone_at) => Ok(Json(Deleted { existed: gone_at.is_some() }).into_response()),
        Write::Differs(found) => Err(differs(found)),
    }
}

fn parse(key: &str) -> Result<SettingKey, Problem> {
    key.parse().map_err(error::field)
}

/// An API key of the gateway's opens services, so its writer needs the right to configure each of them, beside that to
/// write below `key`: else the owner of a service that happens to be called `key` could open all others.
fn may_open(key: &SettingKey, value: &str) -> Result<(), Problem> {
    let Some(caller) = Caller::current().filter(|_| AccessKeyId::of_setting(key.as_str()).is_some()) else {
        return Ok(());
    };
    // What is no key is refused where it is written.
    let services = AccessKey::parse(value).map(|key| key.services).unwrap_or_default();
    services.iter().try_for_each(|service| caller.require(service, Action::Config))
}

/// The value with its revision, or 404 with the index from which to wait for it. Both say up to which revision that is
/// known, so that a client can tell a deletion from an etcd that has lost its history.
fn show(key: &SettingKey, Found { setting, index, revision: known }: Found, headers: &HeaderMap) -> Response {
    let mut fields = index_header(index);
    fields.insert(REVISION, HeaderValue::from(known.0));
    let Some(setting) = setting else {
        let problem = Problem::new(StatusCode::NOT_FOUND, "no_such_setting", format!("there is no setting {key}"));
        return (fields, problem).into_response();
    };
    let revision = setting.modified;
    fields.extend(etag(revision));
    let has_it = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tag| tag.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == format!("\"{revision}\"")));
    if has_it {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&setting.value).is_ok();
    let media_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    (fields, setting.value).into_response()
}

fn etag(revision: Revision) -> HeaderMap {
    let tag = HeaderValue::try_from(format!("\"{revision}\"")).expect("digits between quotes");
    HeaderMap::from_iter([(header::ETAG, tag)])
}

/// What the writer has seen, by its conditions.
fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default().trim());
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expected::Anything),
        (Some("*"), None) => Ok(Expected::Something),
        (None, Some("*")) => Ok(Expected::Absent),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag).parse();
            let wrong = "is no ETag that this path gives; send back the one that came with the value";
            let revision = revision.ok().filter(|revision| *revision > 0);
            revision.map(|revision| Expected::At(Revision(revision))).ok_or_else(|| Problem::field("If-Match", wrong))
        }
        (None, Some(_)) => Err(Problem::field("If-None-Match", "can only be * here: write if there is nothing")),
        (Some(_), Some(_)) => Err(Problem::field("If-None-Match", "cannot go with If-Match; send one of them")),
    }
}

fn differs(found: Option<Revision>) -> Problem {
    let detail = match found {
        Some(revision) => format!("the setting was last written at revision {revision}; read it again"),
        None => "there is no such setting (any more)".to_owned(),
    };
    Problem::new(StatusCode::PRECONDITION_FAILED, "revision_differs", detail)
}

/// `history` and `history=17`.
fn at(value: &str) -> Result<Option<Revision>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    let revision = value.parse().ok().filter(|revision| *revision > 0);
    let wrong = || Problem::field("history", "is not a revision; write it without a value for the present");
    revision.map(|revision| Some(Revision(revision))).ok_or_else(wrong)
}
