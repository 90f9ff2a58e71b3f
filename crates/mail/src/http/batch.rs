//! `POST /v1/batch`: many messages in one request, each accepted or not on its own.
//!
//! Each gets the answer that `POST /v1/messages` would have given it, in the order of the request. What is wrong with
//! one message concerns that one; only a body that cannot be read at all is refused as a whole, and then nothing was
//! accepted. An `Idempotency-Key` of the request is a key for each of its messages, by their place in it; a message may
//! have one of its own (`idempotency_key`). So when the answer is lost, the same request again accepts what was not
//! accepted before.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use service_kit::{
    Problem,
    json::{self as body},
    tokens::Action,
};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Api, idempotency_key, key_of_caller, may, messages,
    openapi::{Key, Malformed, OfABody, Usual},
    request_reader::{
        self,
        batch::{Entry, entries},
    },
    run_blocking,
};
use crate::{
    message::{content::IN_MEMORY_MAX_BYTES, openapi::Parties},
    outbox::{AcceptResult, store::entry::IdempotencyKey},
};

/// The most bytes of a request: 100 messages of 40 KiB. Large files go to `/v1/messages`, one by one.
pub(crate) const BATCH_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Messages that are being accepted at the same time; they share commits.
const TOGETHER: usize = 8;
/// When no further message of a request is begun. It is half of what the gateway waits for an answer: one that waits
/// for userlist can take the other half.
const DEADLINE: Duration = Duration::from_secs(15);
/// When to send again what was not begun.
const RETRY: Duration = Duration::from_secs(5);

/// The body of a request: what [`entries`] cuts.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is cut into messages before it is read")]
struct Batch {
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<OneOfBatch>,
}

/// As for /v1/messages; with `idempotency_key`, a key of its own
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what a message has beside what /v1/messages reads")]
struct OneOfBatch {
    #[schema(pattern = "^[!-~]{1,128}$")]
    idempotency_key: Option<String>,
    #[schema(inline)]
    to: Parties,
}

/// What comes back: [`shown`] of each.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is put together from answers and problems")]
struct Answers {
    /// In the order of the request
    messages: Vec<OneAnswer>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is put together from answers and problems")]
struct OneAnswer {
    /// 202: as of POST /v1/messages; else a problem
    status: i32,
    /// The answer to the same message that came before
    #[schema(nullable = false)]
    replayed: Option<bool>,
}

/// Take many messages in, each on its own
///
/// Scope: mail:write. A key of the request counts for each message by its place.
#[utoipa::path(post, path = "/v1/batch", operation_id = "batch", params(Key),
    request_body(content = Batch,
        example = json!({ "messages": [
            { "to": "dong@example.com", "text": "hello" },
            { "to": "ann@example.com", "text": "hello" },
        ] })),
    responses(
        (status = 202, description = "All of them are on disk", body = Answers),
        (status = 207, description = "Not all of them: each answer has its status", body = Answers),
        Malformed, Usual, OfABody,
    ))]
pub(super) async fn submit(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Write)?;
    let key = idempotency_key(request.headers())?;
    let body = body::read(request, BATCH_MAX_BYTES.min(api.compose_config.options.message_max_bytes())).await?;
    let _place = if body.len() > IN_MEMORY_MAX_BYTES { Some(api.large_body()?) } else { None };
    let entries = entries(&body)?;
    drop(body);
    let until = Instant::now() + DEADLINE;
    let accepting = entries.into_iter().enumerate().map(|(index, entry)| {
        let key = key.as_ref().map(|key| format!("{key} {index}"));
        one(&api, entry, key, until)
    });
    let answers: Vec<Result<AcceptResult, Problem>> = stream::iter(accepting).buffered(TOGETHER).collect().await;
    let all = answers.iter().all(Result::is_ok);
    let status = if all { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    let answers: Vec<Value> = answers.iter().map(shown).collect();
    Ok((status, Json(json!({ "messages": answers }))).into_response())
}

async fn one(api: &Arc<Api>, entry: Entry, key: Option<String>, until: Instant) -> Result<AcceptResult, Problem> {
    if Instant::now() >= until {
        let detail = "the request took too long before this message was begun; send it again";
        return Err(Problem::unavailable("not_begun", detail, RETRY));
    }
    let own = entry.key.as_deref().map(|own| {
        key_of_caller(own).ok_or_else(|| Problem::field("idempotency_key", "it is 1 to 128 visible ASCII characters"))
    });
    let name = own.transpose()?.or(key);
    let key = name.map(|name| IdempotencyKey::at("/v1/batch", name, &entry.message));
    let spool = api.compose_config.spool.clone();
    let is_light = entry.message.len() <= IN_MEMORY_MAX_BYTES;
    let read = move || request_reader::read(&entry.message[..], &spool);
    let intake = if is_light { read()? } else { run_blocking(read).await?? };
    messages::accept(api, intake.submission, key).await
}

/// The answer to one message: what it would have been alone, with its status.
fn shown(answer: &Result<AcceptResult, Problem>) -> Value {
    let (status, mut shown) = match answer {
        Ok(result) => (202, json!(result.accepted)),
        Err(problem) => (problem.status.as_u16(), serde_json::from_str(&problem.to_json()).unwrap_or_default()),
    };
    if let Some(object) = shown.as_object_mut() {
        object.insert("status".to_owned(), status.into());
        if answer.as_ref().is_ok_and(|result| result.replayed) {
            object.insert("replayed".to_owned(), true.into());
        }
    }
    shown
}
