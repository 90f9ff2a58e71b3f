//! `POST /v1/users/import` and `GET /v1/users/export`.

use std::{io, time::Duration};

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use discovery::FieldError;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use service_kit::{
    Problem,
    problem::{FieldProblem, MEDIA_TYPE},
};
use tokio_util::{io::StreamReader, sync::CancellationToken};

use super::{
    input::{cut, invalid},
    listing, problem,
};
use crate::{
    store::{Filter, Store},
    transfer::{Cause, Format, Import, Records, Stopped, Unreadable, export},
};

/// How long a client may send nothing of its file.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);

/// The largest file of one request: 1 GiB. Its memory is that of one batch; the limit is for who sends without an end.
const FILE_MAX_BYTES: u64 = 1 << 30;

pub(super) async fn import(
    State(store): State<Store>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (format, is_dry_run) = import_options(&query.unwrap_or_default(), request.headers())?;
    let input = StreamReader::new(bounded(request.into_body().into_data_stream()));
    let stopped = match Records::open(format, Box::pin(input)).await {
        Ok(records) => {
            // A client that goes away takes this future with it; the batch under way is finished all the same.
            let never = CancellationToken::new();
            match Import::run(&store, records, is_dry_run, &never, |_| {}).await {
                Ok(report) => return Ok(Json(report).into_response()),
                Err(stopped) => *stopped,
            }
        }
        Err(unreadable) => Stopped {
            report: crate::transfer::Report { dry_run: is_dry_run, ..Default::default() },
            cause: unreadable.into(),
        },
    };
    Ok(answer(&stopped))
}

fn import_options(query: &str, headers: &HeaderMap) -> Result<(Format, bool), Problem> {
    let (mut format, mut is_dry_run) = (None, false);
    let mut errors = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match (&*key, &*value) {
            (_, "") => {}
            ("format", value) => match value.parse() {
                Ok(named) => format = Some(named),
                Err(error) => errors.push(error),
            },
            ("dry_run", "true") => is_dry_run = true,
            ("dry_run", "false") => is_dry_run = false,
            ("dry_run", _) => errors.push(FieldError::new("dry_run", "it must be true or false")),
            _ => errors.push(FieldError::new(cut(&key), "it is unknown; there are format and dry_run")),
        }
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = format.or_else(|| media_type.and_then(Format::of_media_type));
    match format {
        _ if !errors.is_empty() => Err(invalid(errors)),
        Some(format) => Ok((format, is_dry_run)),
        // For once it matters, and curl's default says nothing.
        None => Err(Problem::field("format", "give ?format=csv or ndjson, or the Content-Type of one")),
    }
}

/// The body, until it is too large or too slow.
fn bounded(body: BodyDataStream) -> impl Stream<Item = io::Result<axum::body::Bytes>> + Send {
    stream::try_unfold((body, FILE_MAX_BYTES), |(mut body, left)| async move {
        let next = tokio::time::timeout(IDLE_DEADLINE, body.next()).await;
        let next = next.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let Some(chunk) = next.transpose().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))? else {
            return Ok(None);
        };
        let left = left.checked_sub(chunk.len() as u64).ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(Some((chunk, (body, left))))
    })
}

/// An import that ended early: a problem, with the report beside it, so that nobody takes a part for the whole.
fn answer(stopped: &Stopped) -> Response {
    let mut problem = match &stopped.cause {
        Cause::Store(error) => problem(error),
        Cause::Unreadable(error) => unreadable(error),
        Cause::Interrupted => Problem::unavailable("interrupted", "", Duration::from_secs(1)),
    };
    let report = &stopped.report;
    let what_is_stored = match report.stored_to_line {
        _ if report.dry_run => "nothing was to be stored".to_owned(),
        0 => "nothing is stored for certain".to_owned(),
        line => format!("everything up to line {line} is stored"),
    };
    problem.detail = format!("{}; {what_is_stored}: the same file may be sent again", problem.detail);
    let mut body = serde_json::from_str(&problem.to_json()).unwrap_or(serde_json::Value::Null);
    if let (Some(body), Ok(report)) = (body.as_object_mut(), serde_json::to_value(report)) {
        body.insert("report".to_owned(), report);
    }
    let mut response = (problem.status, Json(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after_secs() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn unreadable(error: &Unreadable) -> Problem {
    let (status, code, detail) = match error {
        Unreadable::Header(reason) => {
            let mut problem =
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", format!("header: {reason}"));
            problem.errors.push(FieldProblem { field: "header".to_owned(), reason: reason.clone() });
            return problem;
        }
        Unreadable::TooLong => (StatusCode::UNPROCESSABLE_ENTITY, "record_too_long", error.to_string()),
        Unreadable::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut => {
                (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "nothing of the file came for 30 s".to_owned())
            }
            io::ErrorKind::QuotaExceeded => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the file is larger than 1 GiB".to_owned())
            }
            _ => (StatusCode::BAD_REQUEST, "body_cut_off", "the file ended before it was complete".to_owned()),
        },
    };
    Problem::new(status, code, detail)
}

/// Streams. When the database goes away in the middle, the connection is broken off: a list that ends early must not look
/// like one that is complete.
pub(super) async fn download(State(store): State<Store>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let (format, filter) = export_options(&query.unwrap_or_default())?;
    let mut steps = Box::pin(export(store, filter, format));
    let first = steps.try_next().await.map_err(|error| problem(&error))?;
    let all = stream::iter(first.map(Ok)).chain(steps);
    let mut response = Body::from_stream(all).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    Ok(response)
}

fn export_options(query: &str) -> Result<(Format, Filter), Problem> {
    let (mut format, mut filter, mut errors) = (Format::Csv, Filter::default(), Vec::new());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let set = match (&*key, &*value) {
            (_, "") => Ok(()),
            ("format", value) => value.parse().map(|named| format = named),
            (key, value) => listing::filter(&mut filter, key, value, "format"),
        };
        errors.extend(set.err());
    }
    if errors.is_empty() { Ok((format, filter)) } else { Err(invalid(errors)) }
}
