//! HTTP in and out: the plain form for shells, `/v1` for programs.
//!
//! | request | answer |
//! |---|---|
//! | `POST /` `{"address","message"}` | 200 `{"message":"success"}`: the SMTP server has it; see [`crate::plain`] |
//! | `POST /v1/messages` | 202 `{"id","message_id","recipients","suppressed"}`: it is on our disk |
//! | `POST /v1/batch` `{"messages":[…]}` | 202, or 207 when not all were accepted: an answer to each |
//! | `GET /v1/messages?state=&to=&broadcast=&tag=&metadata=&limit=&cursor=` | 200, the newest first |
//! | `GET /v1/messages/{id}` | 200 the message, each recipient, each attempt |
//! | `GET /v1/messages/{id}/content`, `…/raw` | 200 its text as JSON; all of it as `message/rfc822` |
//! | `POST /v1/messages/{id}/cancel`, `…/requeue` | 200 the message; 409 when there is nothing left to do |
//! | `PUT`, `GET`, `DELETE /v1/templates/{name}`, `GET /v1/templates` | the template, checked with its sample |
//! | `POST /v1/broadcasts`, `GET …/{id}`, `POST …/{id}/cancel` | 202 `{"id"}`; how far it is |
//! | `GET /v1/broadcasts/{id}/skipped` | 200 who was left out, and why |
//! | `PUT`, `DELETE /v1/suppressions/{address}`, `GET /v1/suppressions` | 204; whom nothing is sent to |
//! | `POST /v1/bounces` `{"address","type","detail"}` | 204: `hard` and `complaint` end on that list |
//! | `GET`, `POST /v1/unsubscribe/{token}` | a page with a button; done |
//! | `GET /openapi.json` | all of this for programs |
//!
//! With `--tokens-file` a token needs the scope `mail:read` to look, `mail:write` to send, `mail:operate` to interfere.
//!
//! *Keys.* `POST /`, `/v1/messages`, `/v1/batch` and `/v1/broadcasts` honour an `Idempotency-Key`, which is looked up
//! before anything else ([`crate::outbox::store::keys`]).
//!
//! Every answer about a message that was accepted carries its Message-ID as `x-message-id`. What else can come is in
//! the table of [`crate::error`]; 400, 413 and 422 are about the request.

mod batch;
mod broadcasts;
mod content;
mod messages;
mod openapi;
mod plain;
pub mod request_reader;
mod segment;
mod suppressions;
mod templates;
mod upload;

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    http::{HeaderMap, HeaderName},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use service_kit::{
    Problem,
    json::BodyLimit,
    time::UnixMillis,
    tokens::{Action, Caller},
};

use crate::{
    error::outbox_problem,
    metrics::OutboxMetrics,
    outbox::{Outbox, store::entry::IdempotencyKey},
    plain::Plain,
    submission::ComposeConfig,
    userlist::Userlist,
};

/// The header that carries the Message-ID.
pub const MESSAGE_ID: HeaderName = HeaderName::from_static("x-message-id");

/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A template with its sample.
const TEMPLATE_MAX_BYTES: usize = 1024 * 1024;
/// Large messages that are being accepted at the same time: what bounds the threads and the disk for them.
const LARGE_BODIES_MAX: usize = 16;

/// What the handlers need.
#[derive(Debug)]
pub struct Api {
    /// Where messages are kept.
    pub outbox: Outbox,
    /// What is configured about messages.
    pub compose_config: Arc<ComposeConfig>,
    /// Knows users by name.
    pub userlist: Userlist,
    /// Sends while a client waits.
    pub plain: Plain,
    /// Counts.
    pub metrics: OutboxMetrics,
    large: Semaphore,
}

impl Api {
    /// Puts it together.
    #[must_use]
    pub fn new(
        outbox: Outbox,
        compose_config: Arc<ComposeConfig>,
        userlist: Userlist,
        plain: Plain,
        metrics: OutboxMetrics,
    ) -> Self {
        Self { outbox, compose_config, userlist, plain, metrics, large: Semaphore::new(LARGE_BODIES_MAX) }
    }

    /// The answer that the same request got before, if it has a key and came before.
    async fn recall<T: DeserializeOwned + Send + 'static>(
        &self,
        key: Option<&IdempotencyKey>,
    ) -> Result<Option<T>, Problem> {
        match key {
            Some(key) => self.outbox.recall(key, UnixMillis::now()).await.map_err(|error| outbox_problem(&error)),
            None => Ok(None),
        }
    }

    /// A place for a large body.
    fn large_body(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy = |_| {
            let detail = "too many large messages are being accepted at the same time; this request was not accepted";
            Problem::unavailable("busy", detail, Duration::from_secs(1))
        };
        self.large.try_acquire().map_err(busy)
    }
}

/// Lets the request pass if its caller may do `action` to mail.
fn may(action: Action) -> Result<(), Problem> {
    Caller::current().map_or(Ok(()), |caller| caller.require("mail", action))
}

/// Where readers leave. Its path proves who asks, and mail programs may ask from pages of their own (RFC 8058).
pub const UNSUBSCRIBE: &str = "/v1/unsubscribe/{token}";

/// The routes and their description. Each handler says in `#[utoipa::path]` which is its own.
///
/// `guard`: around those that ask for a token. The others are for readers, who have no token but the one in their link;
/// and the description, which holds no secret.
pub fn routes(api: Arc<Api>, guard: impl FnOnce(OpenApiRouter<Arc<Api>>) -> OpenApiRouter<Arc<Api>>) -> Router {
    let template = OpenApiRouter::new().routes(routes!(templates::get, templates::put, templates::delete));
    let guarded = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(plain::send))
        .routes(routes!(batch::submit))
        .routes(routes!(messages::list, messages::submit))
        .routes(routes!(messages::get))
        .routes(routes!(content::get))
        .routes(routes!(content::raw))
        .routes(routes!(messages::cancel))
        .routes(routes!(messages::requeue))
        .routes(routes!(templates::list))
        .merge(template.layer(Extension(BodyLimit(TEMPLATE_MAX_BYTES))))
        .routes(routes!(suppressions::list))
        .routes(routes!(suppressions::put, suppressions::delete))
        .routes(routes!(suppressions::bounce))
        .routes(routes!(broadcasts::list, broadcasts::create))
        .routes(routes!(broadcasts::get))
        .routes(routes!(broadcasts::skipped))
        .routes(routes!(broadcasts::cancel));
    let public = OpenApiRouter::new().routes(routes!(suppressions::ask, suppressions::unsubscribe));
    service_kit::openapi::described(guard(guarded).merge(public), None, []).with_state(api)
}

/// The key of a request, after its caller's name: 1 to 128 visible ASCII characters.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().and_then(key_of_caller);
    key.map(Some)
        .ok_or_else(|| Problem::field("Idempotency-Key", "it is 1 to 128 visible ASCII characters, for example a UUID"))
}

/// Two callers may choose the same.
fn key_of_caller(key: &str) -> Option<String> {
    let is_one = (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let caller = Caller::current();
    is_one.then(|| format!("{}/{key}", caller.as_ref().and_then(Caller::name).unwrap_or_default()))
}

/// Runs what reads and writes files where it may take its time.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let panicked = |error| {
        tracing::error!(%error, "the message could not be written");
        Problem::internal()
    };
    tokio::task::spawn_blocking(work).await.map_err(panicked)
}
