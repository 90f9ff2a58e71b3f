//! What a message says, for those who have to look: support, and the tests of those who send.
//!
//! A text can hold what only its reader is to know, a link that resets a password among it. The scope is `mail:read`,
//! as for everything else that is looked at; doc/security.md says what follows from that.

use std::{io::Read as _, sync::Arc};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use mail_parser::{MessageParser, MimeHeaders as _};
use serde::Serialize;
use service_kit::{Problem, tokens::Action};

use utoipa::ToSchema;

use super::{
    Api, may,
    openapi::{Malformed, NoSuch, PathId, Usual},
    segment::Segment,
};
use crate::{
    error::outbox_problem,
    message::content::{CHUNK_BYTES, Content, IN_MEMORY_MAX_BYTES},
};

/// How much of a message is read for its text, in bytes: two texts of 1 MiB in an encoding that triples them, and
/// headers. What follows are files.
const READ_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// A message's text.
#[derive(Serialize, ToSchema)]
#[schema(as = MessageContent)]
#[serde(deny_unknown_fields)]
struct Shown {
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    html: Option<String>,
    #[schema(inline)]
    attachments: Vec<Attachment>,
    /// false: there may be more attachments, beyond the first 8 MiB
    is_complete: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Attachment {
    filename: String,
    content_type: String,
    /// null: it ends beyond the first 8 MiB of the message
    #[schema(required, format = Int64)]
    bytes: Option<usize>,
}

/// A message as it is sent
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/messages/{id}/raw", operation_id = "getRaw", params(PathId),
    responses(
        (status = 200, description = "Headers and body; not its recipients, of whom some are in no header",
            body = String, content_type = "message/rfc822"),
        Malformed, Usual, NoSuch,
    ))]
pub(super) async fn raw(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    let content = api.outbox.content(&id).await.map_err(|error| outbox_problem(&error))?;
    let headers = [
        (header::CONTENT_TYPE, "message/rfc822".to_owned()),
        (header::CONTENT_LENGTH, content.len().to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"message.eml\"".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let chunks = stream::unfold((content, 0), |(content, at)| async move {
        match content.chunk(at, CHUNK_BYTES).map(|chunk| Bytes::copy_from_slice(&chunk)) {
            Ok(chunk) if chunk.is_empty() => None,
            Ok(chunk) => {
                let next = at + u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                Some((Ok(chunk), (content, next)))
            }
            Err(error) => Some((Err(error), (content.part(0..0), 0))),
        }
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// What a message says
///
/// Scope: mail:read.
#[utoipa::path(get, path = "/v1/messages/{id}/content", operation_id = "getContent", params(PathId),
    responses(
        (status = 200, description = "Its texts, and what its files are", body = Shown),
        Malformed, Usual, NoSuch,
    ))]
pub(super) async fn get(State(api): State<Arc<Api>>, Segment(id): Segment) -> Result<Response, Problem> {
    may(Action::Read)?;
    let content = api.outbox.content(&id).await.map_err(|error| outbox_problem(&error))?;
    let is_large = content.len() > u64::try_from(IN_MEMORY_MAX_BYTES).unwrap_or(u64::MAX);
    let _place = if is_large { Some(api.large_body()?) } else { None };
    let reading = tokio::task::spawn_blocking(move || shown(&content));
    match reading.await {
        Ok(Some(shown)) => Ok(([(header::CACHE_CONTROL, "no-store")], Json(shown)).into_response()),
        Ok(None) => Err(Problem::internal()),
        Err(error) => {
            tracing::error!(%error, "the text of a message could not be read");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the message cannot be read; see …/raw"))
        }
    }
}

fn shown(content: &Content) -> Option<Shown> {
    let mut bytes = Vec::new();
    content.reader().take(READ_MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let message = MessageParser::default().parse(&bytes)?;
    let body = |part: Option<&mail_parser::MessagePart<'_>>| part.and_then(|part| part.text_contents().map(plain));
    let is = |part: &&mail_parser::MessagePart<'_>, html: bool| part.is_text_html() == html;
    let is_complete = content.len() <= READ_MAX_BYTES;
    let read = if is_complete { usize::MAX } else { bytes.len() };
    Some(Shown {
        subject: message.subject().unwrap_or_default().to_owned(),
        text: body(message.text_bodies().find(|part| is(part, false))),
        html: body(message.html_bodies().find(|part| is(part, true))),
        attachments: message.attachments().map(|part| attachment(part, read)).collect(),
        is_complete,
    })
}

/// With the line ends of a text, not of a mail, and without the one that ends every mail.
fn plain(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
}

/// Where `read` bytes of the message end, an attachment does not.
fn attachment(part: &mail_parser::MessagePart<'_>, read: usize) -> Attachment {
    let is_whole = usize::try_from(part.offset_end).is_ok_and(|end| end < read);
    let kind = part.content_type();
    let kind = kind.map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or("octet-stream")));
    Attachment {
        filename: part.attachment_name().unwrap_or_default().to_owned(),
        content_type: kind.unwrap_or_default(),
        bytes: is_whole.then(|| part.contents().len()),
    }
}
