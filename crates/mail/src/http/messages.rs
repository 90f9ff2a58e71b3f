//! `/v1/messages`: accepting, looking up, cancelling.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use lettre::message::Mailbox;
use serde::Serialize;
use service_kit::{Problem, openapi::joined, time::UnixMillis, tokens::Action};
use tokio::sync::SemaphorePermit;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    Api, MESSAGE_ID, REPLAYED, idempotency_key, may,
    openapi::{Conflict, DiskFull, Filters, Invalid, Key, Malformed, NoSuch, OfABody, PathId, Usual},
    request_reader::{self, MessageRequest},
    run_blocking,
    segment::Segment,
    upload::Upload,
};
use crate::{
    error::{compose_problem, fill_problem, invalid, outbox_problem},
    message::{content::IN_MEMORY_MAX_BYTES, openapi::Attachment, recipient, recipient_spec::RecipientSpec},
    outbox::{
        AcceptResult, OutboxError,
        store::{
            entry::{Accepted, IdempotencyKey, Kind, State as DeliveryState},
            labels::{self, Labels},
            query::{Filter, MessageView},
        },
    },
    submission::{Lists, Submission},
    userlist::UserlistError,
};

/// Bodies larger than this are accepted a few at a time, from the first byte of the request to the commit, and pass
/// over the disk. Smaller ones are read at once.
const LARGE_BYTES: usize = IN_MEMORY_MAX_BYTES;
/// What a message up to this weight costs to write is less than a change of threads.
const LIGHT_BYTES: u64 = 64 * 1024;
const PAGE_MAX: u32 = 200;
const PAGE: u32 = 50;

/// Some messages.
#[derive(Serialize, ToSchema)]
#[schema(as = Messages)]
#[serde(deny_unknown_fields)]
struct Page {
    #[schema(value_type = Vec<Message>)]
    messages: Vec<MessageView>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A [`MessageView`] with its labels.
struct Message;

/// A [`Submission`] with its files, which are read apart from the rest.
struct NewMessage;

impl PartialSchema for Message {
    fn schema() -> RefOr<Schema> {
        joined(MessageView::schema(), [Labels::schema()])
    }
}

impl ToSchema for Message {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        MessageView::schemas(schemas);
        Labels::schemas(schemas);
    }
}

impl PartialSchema for NewMessage {
    fn schema() -> RefOr<Schema> {
        joined(Submission::schema(), [Files::schema()])
    }
}

impl ToSchema for NewMessage {
    fn name() -> Cow<'static, str> {
        "Submission".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Submission::schemas(schemas);
        Files::schemas(schemas);
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read apart from the rest")]
struct Files {
    #[schema(max_items = 20, required = false)]
    attachments: Vec<Attachment>,
}

/// Take a message in; it is sent until it is delivered, refused or too old
///
/// Scope: mail:write.
#[utoipa::path(post, path = "/v1/messages", operation_id = "submit", params(Key),
    request_body(content = NewMessage,
        example = json!({ "to": "Dong <dong@example.com>", "subject": "Hello", "text": "hello" })),
    responses(
        (status = 202, description = "It is on disk", body = Accepted,
            headers(
                ("Location" = String, description = "Relative to this service"),
                ("x-message-id" = String, description = "The Message-ID"),
                ("idempotent-replayed" = String, description = "true: the answer to the same request that came before"),
            )),
        Malformed, Usual, OfABody, DiskFull, Conflict,
    ))]
pub(super) async fn submit(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Write)?;
    let key = idempotency_key(request.headers())?;
    let (_place, intake) = receive(&api, request).await?;
    let key = key.map(|name| IdempotencyKey { name, fingerprint: intake.fingerprint.clone() });
    let result = accept(&api, intake.submission, key).await?;
    Ok(answer(&result.accepted, result.replayed))
}

/// Takes one message in, unless it was accepted before.
pub(super) async fn accept(
    api: &Arc<Api>,
    mut submission: Submission,
    key: Option<IdempotencyKey>,
) -> Result<AcceptResult, Problem> {
    if let Some(accepted) = api.recall(key.as_ref()).await? {
        api.metrics.accepted(true);
        return Ok(AcceptResult::before(accepted));
    }
    fill(api, &mut submission).await?;
    let recipients = addresses(api, submission.lists().map_err(invalid)?).await?;
    let is_light = submission.weight() <= LIGHT_BYTES;
    let compose = {
        let api = Arc::clone(api);
        move || submission.compose(recipients, &api.compose_config, key, UnixMillis::now())
    };
    let message = if is_light { compose() } else { run_blocking(compose).await? };
    let message = message.map_err(compose_problem)?;
    let result = api.outbox.accept(Arc::new(message)).await.map_err(|error| outbox_problem(&error))?;
    api.metrics.accepted(result.replayed);
    Ok(result)
}

/// The answer to a message that was accepted.
pub(super) fn answer(accepted: &Accepted, replayed: bool) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
    let headers = response.headers_mut();
    for (name, value) in
        [(header::LOCATION, format!("/v1/messages/{}", accepted.id)), (MESSAGE_ID, accepted.message_id.clone())]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// List messages, the newest first
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/messages", operation_id = "listMessages", params(Filters),
    responses((status = 200, description = "Some of the messages", body = Page), Malformed, Usual, Invalid))]
pub(super) async fn list(State(api): State<Arc<Api>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    may(Action::Read)?;
    let filter = filter(&query.unwrap_or_default())?;
    let limit = filter.limit;
    let one_more = Filter { limit: limit + 1, ..filter };
    let mut messages = api.outbox.list(one_more).await.map_err(|error| outbox_problem(&error))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_last = messages.len() <= limit;
    messages.truncate(limit);
    let next_cursor = if is_last { None } else { messages.last().map(|message| message.id.clone()) };
    Ok(Json(Page { messages, next_cursor }).into_response())
}

/// A message, each recipient, each attempt
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/messages/{id}", operation_id = "getMessage", params(PathId),
    responses((status = 200, description = "The message", body = Message), Malformed, Usual, NoSuch))]
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    shown(&api, &id).await
}

async fn shown(api: &Api, id: &str) -> Result<Response, Problem> {
    let message = api.outbox.get(id).await.map_err(|error| outbox_problem(&error))?;
    Ok(Json(message).into_response())
}

/// Take back what is not sent yet
///
/// Scope: mail:write.
#[utoipa::path(post, path = "/v1/messages/{id}/cancel", operation_id = "cancelMessage", params(PathId),
    responses(
        (status = 200, description = "The message", body = Message),
        Malformed, Usual, NoSuch, Conflict, DiskFull,
    ))]
pub(super) async fn cancel(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Write)?;
    api.outbox.cancel(&id).await.map_err(|error| outbox_problem(&error))?;
    shown(&api, &id).await
}

/// Try what failed, was cancelled or waits, now
///
/// Scope: mail:operate.
#[utoipa::path(post, path = "/v1/messages/{id}/requeue", operation_id = "requeueMessage", params(PathId),
    responses(
        (status = 200, description = "The message", body = Message),
        Malformed, Usual, NoSuch, Conflict, DiskFull,
    ))]
pub(super) async fn requeue(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Operate)?;
    let expires = UnixMillis::now() + api.compose_config.options.retry_for;
    api.outbox.requeue(&id, expires).await.map_err(|error| outbox_problem(&error))?;
    shown(&api, &id).await
}

async fn fill(api: &Api, submission: &mut Submission) -> Result<(), Problem> {
    let Some(name) = &submission.template else {
        return match submission.data.is_null() {
            true => Ok(()),
            false => Err(Problem::field("data", "it is for a template, and there is none")),
        };
    };
    submission.may_be_filled().map_err(invalid)?;
    let template = match api.outbox.template(name).await {
        Ok(stored_template) => stored_template.template,
        Err(OutboxError::NotFound) => return Err(Problem::field("template", "there is no template of this name")),
        Err(error) => return Err(outbox_problem(&error)),
    };
    let filled = api.compose_config.filler.fill(&template, &submission.data).await.map_err(fill_problem)?;
    submission.take(filled);
    Ok(())
}

/// A small body as a whole, a large one as it comes in, with the place that it takes until it is accepted.
async fn receive(api: &Api, request: Request) -> Result<(Option<SemaphorePermit<'_>>, MessageRequest), Problem> {
    let says_large = length(request.headers()).is_some_and(|length| length > LARGE_BYTES);
    let mut upload = Upload::new(request, api.compose_config.options.message_max_bytes());
    let small = if says_large { None } else { upload.small(LARGE_BYTES).await? };
    if let Some(body) = small {
        return request_reader::read(&body[..], &api.compose_config.spool).map(|intake| (None, intake));
    }
    let place = api.large_body()?;
    let spool = api.compose_config.spool.clone();
    let intake = upload.read(move |body| request_reader::read(body, &spool)).await?;
    Ok((Some(place), intake))
}

/// What the head says about the body.
fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Everybody with an address; users are looked up.
async fn addresses(api: &Api, lists: Lists) -> Result<Vec<(Kind, Mailbox)>, Problem> {
    let mut recipients = Vec::with_capacity(lists.specs.len());
    for (kind, spec) in lists.specs {
        let mailbox = match spec {
            RecipientSpec::Mailbox(mailbox) => mailbox,
            RecipientSpec::User(name) => user(api, kind, &name).await?,
        };
        recipients.push((kind, mailbox));
    }
    Ok(recipients)
}

async fn user(api: &Api, kind: Kind, name: &str) -> Result<Mailbox, Problem> {
    let wrong = |reason: &str| Problem::field(kind.as_str(), format!("the user {name:?} {reason}"));
    match api.userlist.user(name).await {
        // Who has left still gets what is meant for them alone; the suppression list says what they do not get.
        Ok(user) if matches!(user.status.as_str(), "active" | "unsubscribed") => {
            let address = recipient::check(&user.email).map_err(|_| wrong("has an address that cannot be sent to"))?;
            Ok(Mailbox::new(None, address))
        }
        Ok(user) => Err(wrong(&format!("is {} and gets no mail", user.status))),
        Err(UserlistError::Unknown | UserlistError::Refused(_)) => Err(wrong("is not known to userlist")),
        Err(error @ (UserlistError::Unavailable(_) | UserlistError::Changed)) => {
            let detail = format!("{error}; this request was not accepted");
            Err(Problem::unavailable("userlist_unavailable", detail, Duration::from_secs(2)))
        }
    }
}

fn filter(query: &str) -> Result<Filter, Problem> {
    let mut filter = Filter { limit: PAGE, ..Filter::default() };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "state" => {
                let reason = "it is one of queued, sending, delivered, failed, cancelled, suppressed";
                filter.state = Some(DeliveryState::parse(&value).ok_or_else(|| Problem::field("state", reason))?);
            }
            "to" => filter.recipient = Some(checked("to", &value)?),
            "broadcast" => filter.broadcast = Some(checked("broadcast", &value)?),
            "tag" => {
                labels::name("tag", &value).map_err(invalid)?;
                filter.tag = Some(value.into_owned());
            }
            "metadata" if filter.metadata.len() == labels::METADATA_MAX => {
                return Err(Problem::field("metadata", "no message has more than 20 names; leave some out"));
            }
            "metadata" => filter.metadata.push(metadata(&value)?),
            "cursor" => filter.before = Some(checked("cursor", &value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                filter.limit = limit.ok_or_else(|| Problem::field("limit", "it is a number from 1 to 200"))?;
            }
            other => {
                let reason = "it is unknown; there are state, to, broadcast, tag, metadata, limit and cursor";
                return Err(Problem::field(other.to_owned(), reason));
            }
        }
    }
    Ok(filter)
}

/// `NAME:VALUE`
fn metadata(text: &str) -> Result<(String, String), Problem> {
    let pair = text.split_once(':').ok_or_else(|| Problem::field("metadata", "write NAME:VALUE"));
    let (name, value) = pair?;
    labels::name("metadata", name).map_err(invalid)?;
    labels::value("metadata", value).map_err(invalid)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A database need not see what cannot match anything.
fn checked(field: &'static str, value: &str) -> Result<String, Problem> {
    match value.len() <= 254 && !value.chars().any(char::is_control) {
        true => Ok(value.to_owned()),
        false => Err(Problem::field(field, "it is longer than 254 bytes, or holds a control character")),
    }
}
