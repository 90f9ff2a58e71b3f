//! `POST /`: the plain form for shells.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use service_kit::{Problem, json, problem::FieldProblem, tokens::Action};
use tokio::time::Instant;

use super::{Api, MESSAGE_ID, REPLAYED, idempotency_key, may, not_holding_up_others};
use crate::{
    clock::Moment,
    error::{self, letter_problem, outbox_problem},
    outbox::store::entry::{Accepted, IdempotencyKey, NewMessage},
    plain::{self, Ended, MailRequest, Outcome, TEXT_MAX_BYTES},
};

/// The most bytes of a request's body: a text of [`TEXT_MAX_BYTES`] in which every character is escaped as `\uXXXX`, and
/// room for the rest.
const BODY_MAX_BYTES: usize = 3 * TEXT_MAX_BYTES + 64 * 1024;
/// What a message up to this weight costs to write is less than a change of threads.
const LIGHT_BYTES: usize = 64 * 1024;
/// When to ask again for a message that is still being sent.
const UNDER_WAY_RETRY: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Sent {
    message: &'static str,
}

/// `POST /`
pub(super) async fn send(State(api): State<Arc<Api>>, request: Request) -> Result<Response, Problem> {
    may(Action::Write)?;
    let name = idempotency_key(request.headers())?;
    let body = json::read(request, BODY_MAX_BYTES).await?;
    let until = Instant::now() + api.plain.mailer.limits().together();
    let place = api.plain.mailer.place();
    let key = name.map(|name| IdempotencyKey::at("/", name, &body));
    let ended = match api.recall::<Accepted>(key.as_ref()).await? {
        // What is on record can be told without a place.
        Some(accepted) => api.plain.resume(accepted, place.ok(), until).await,
        None => {
            let place = place.map_err(|_| error::busy())?;
            let message = composed(&api, json::parse(&body)?, key).await?;
            drop(body);
            api.plain.send(message, place, until).await
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
    let house = Arc::clone(&api.house);
    let compose = move || plain::compose(&request, &house, key, Moment::now());
    let message = if is_light { compose() } else { not_holding_up_others(compose).await? };
    message.map_err(letter_problem)
}

fn answer(ended: &Ended) -> Response {
    let mut response = match &ended.outcome {
        Outcome::Sent => Json(Sent { message: "success" }).into_response(),
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

fn problem(outcome: &Outcome, ended: &Ended) -> Problem {
    let conflict = |code, detail: &str| Problem::new(StatusCode::CONFLICT, code, detail);
    match outcome {
        Outcome::Sent => Problem::internal(),
        Outcome::Failed(error) => error::problem(error, &ended.message_id),
        Outcome::Recorded { outcome, reply } => error::recorded(outcome, reply, &ended.message_id),
        Outcome::Suppressed => suppressed(),
        Outcome::Cancelled => conflict("cancelled", "the message was taken back before it was sent; use a new key"),
        Outcome::UnderWay => {
            let detail = format!(
                "the message is still being sent; ask again with the same Idempotency-Key, or for the Message-ID {} in \
                 /v1/messages/{}",
                ended.message_id,
                ended.message_id.unique()
            );
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", detail).retry_after(UNDER_WAY_RETRY)
        }
        Outcome::Forgotten => conflict(
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
