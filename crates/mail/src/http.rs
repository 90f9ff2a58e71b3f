//! `POST /`: one message in, one answer out.
//!
//! ```text
//! POST / {"address":"a@b.c","message":"hello"}            200 {"message":"success"}
//! ```
//!
//! `subject` may be added; any other field is refused. 200 means that the SMTP server, or the disk, has the message.
//! Every answer about a message that was handed over, or may have been, carries its Message-ID as `x-message-id`. What
//! else can come is in the table of [`crate::error`]; 400, 413 and 422 are about the request.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use discovery::FieldError;
use serde::Serialize;
use service_kit::{
    Problem,
    json::{BodyLimit, JsonBody},
    problem::FieldProblem,
};

use crate::{
    error,
    mailer::Mailer,
    message::{MailRequest, Message, Subject, TEXT_MAX_BYTES},
    sender::Sender,
};

/// The most bytes of a request's body: a text of [`TEXT_MAX_BYTES`] in which every character is escaped as `\uXXXX`, and
/// room for the rest.
pub const BODY_MAX_BYTES: usize = 3 * TEXT_MAX_BYTES + 64 * 1024;

/// The header that carries the Message-ID.
pub const MESSAGE_ID: HeaderName = HeaderName::from_static("x-message-id");

/// What a handler needs.
#[derive(Debug)]
pub struct App {
    /// Sends.
    pub mailer: Mailer,
    /// Whom messages come from.
    pub from: Sender,
    /// For requests without a subject.
    pub subject: Subject,
}

#[derive(Serialize)]
struct Sent {
    message: &'static str,
}

/// The routes of this service.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/", post(send)).layer(Extension(BodyLimit(BODY_MAX_BYTES))).with_state(app)
}

async fn send(State(app): State<Arc<App>>, JsonBody(request): JsonBody<MailRequest>) -> Result<Response, Problem> {
    if request.message.len() > TEXT_MAX_BYTES {
        return Err(too_large());
    }
    let message = Message::compose(&request, &app.from, &app.subject).map_err(invalid)?;
    drop(request);
    let mut response = match app.mailer.send(&message).await {
        Ok(()) => Json(Sent { message: "success" }).into_response(),
        Err(error) => error::problem(&error, message.id()).into_response(),
    };
    if let Ok(value) = HeaderValue::from_str(&message.id().to_string()) {
        response.headers_mut().insert(MESSAGE_ID, value);
    }
    Ok(response)
}

fn invalid(error: FieldError) -> Problem {
    Problem::field(error.field, error.reason)
}

fn too_large() -> Problem {
    let reason = format!("it is longer than {TEXT_MAX_BYTES} bytes; shorten it");
    let field = FieldProblem { field: "message".to_owned(), reason: reason.clone() };
    let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", format!("message: {reason}"));
    Problem { errors: vec![field], ..problem }
}
