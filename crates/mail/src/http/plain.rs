//! `POST /`: the plain form for shells.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use service_kit::{Problem, json, openapi::one_of, problem::FieldProblem, time::UnixMillis, tokens::Action};
use tokio::time::Instant;
use utoipa::{ToSchema, openapi::ObjectBuilder};

use super::{
    Api, MESSAGE_ID, REPLAYED, idempotency_key, may,
    openapi::{Conflict, DiskFull, Key, Malformed, OfABody, OfSmtp, Usual},
    run_blocking,
};
use crate::{
    error::{self, compose_problem, outbox_problem},
    outbox::store::entry::{Accepted, IdempotencyKey, NewMessage},
    plain::{self, MailRequest, SendOutcome, SendResult, TEXT_MAX_BYTES},
};

/// The most bytes of a request's body: a text of [`TEXT_MAX_BYTES`] in which every character is escaped as `\uXXXX`,
/// and room for the rest.
const BODY_MAX_BYTES: usize = 3 * TEXT_MAX_BYTES + 64 * 1024;
/// What a message up to this weight costs to write is less than a change of threads.
const LIGHT_BYTES: usize = 64 * 1024;
/// When to ask again for a message that is still being sent.
const UNDER_WAY_RETRY: Duration = Duration::from_secs(5);

#[derive(Serialize, ToSchema)]
struct Sent {
    #[schema(schema_with = success)]
    message: &'static str,
}

fn success() -> ObjectBuilder {
    one_of(&["success"])
}

/// The plain form: hand a message to the SMTP server, now
///
/// Scope: mail:write. It has a record like any other message, and is tried once, while the client waits.
#[utoipa::path(post, path = "/", operation_id = "plain", params(Key),
    request_body(content = MailRequest,
        example = json!({ "address": "dong@example.com", "message": "hello" })),
    responses(
        (status = 200, description = "The SMTP server, or the folder, has it", body = Sent,
            headers(
                ("x-message-id" = String, description = "The Message-ID"),
                ("idempotent-replayed" = String, description = "true: the answer to the same request that came before"),
            )),
        Malformed, Usual, OfABody, DiskFull, Conflict, OfSmtp,
    ))]
pub(super) async fn send(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Write)?;
    let name = idempotency_key(request.headers())?;
    let body = json::read(request, BODY_MAX_BYTES).await?;
    let until = Instant::now() + api.plain.direct_sender.limits().together();
    let reservation = api.plain.direct_sender.reserve();
    let key = name.map(|name| IdempotencyKey::at("/", name, &body));
    let ended = match api.recall::<Accepted>(key.as_ref()).await? {
        // A recorded outcome is answered without a reservation.
        Some(accepted) => api.plain.resume(accepted, reservation.ok(), until).await,
        None => {
            let reservation = reservation.map_err(|_| error::busy())?;
            let message = composed(&api, json::parse(&body)?, key).await?;
            drop(body);
            api.plain.send(message, reservation, until).await
        }
    };
    let ended = ended.map_err(|error| outbox_problem(&error))?;
    api.metrics.accepted(ended.replayed);
    Ok(answer(&ended))
}

async fn composed(api: &Arc<Api>, request: MailRequest, key: Option<IdempotencyKey>) -> Result<NewMessage, Problem> {
    if request.message.len() > TEXT_MAX_BYTES {
        return Err(too_large());
    }
    let is_light = request.message.len() <= LIGHT_BYTES;
    let compose_config = Arc::clone(&api.compose_config);
    let compose = move || plain::compose(&request, &compose_config, key, UnixMillis::now());
    let message = if is_light { compose() } else { run_blocking(compose).await? };
    message.map_err(compose_problem)
}

fn answer(ended: &SendResult) -> Response {
    let mut response = match &ended.outcome {
        SendOutcome::Sent => Json(Sent { message: "success" }).into_response(),
        other => problem(other, ended).into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&ended.message_id.to_string()) {
        headers.insert(MESSAGE_ID, value);
    }
    if ended.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn problem(outcome: &SendOutcome, ended: &SendResult) -> Problem {
    let conflict = |code, detail: &str| Problem::new(StatusCode::CONFLICT, code, detail);
    match outcome {
        SendOutcome::Sent => Problem::internal(),
        SendOutcome::Failed(error) => error::problem(error, &ended.message_id),
        SendOutcome::Recorded { outcome, reply } => error::recorded(outcome, reply, &ended.message_id),
        SendOutcome::Suppressed => suppressed(),
        SendOutcome::Cancelled => conflict("cancelled", "the message was taken back before it was sent; use a new key"),
        SendOutcome::UnderWay => {
            let detail = format!(
                "the message is still being sent; ask again with the same Idempotency-Key, or for the Message-ID {} in \
                 /v1/messages/{}",
                ended.message_id,
                ended.message_id.unique()
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", detail).retry_after(UNDER_WAY_RETRY)
        }
        SendOutcome::Forgotten => conflict(
            "forgotten",
            "this key's message is not on record any more (--keep); use a new key to send it again",
        ),
    }
}

fn suppressed() -> Problem {
    let reason = "it is on the suppression list, and nothing was sent; DELETE /v1/suppressions/ADDRESS takes it off";
    let problem = Problem::field("address", reason);
    Problem { code: "suppressed".into(), ..problem }
}

fn too_large() -> Problem {
    let reason = format!("it is longer than {TEXT_MAX_BYTES} bytes; shorten it");
    let field = FieldProblem { field: "message".to_owned(), reason: reason.clone() };
    let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", format!("message: {reason}"));
    Problem { errors: vec![field], ..problem }
}
