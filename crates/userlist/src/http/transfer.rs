//! `POST /v1/import` and `GET /v1/export`.

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
    Problem, json,
    problem::{FieldProblem, MEDIA_TYPE, method_not_allowed},
};
use tokio_util::{io::StreamReader, sync::CancellationToken};

use super::{
    error::{invalid, problem},
    listing,
    openapi::{ExportHow, Filters, ImportHow, OfABody, Usual},
    query::{cut, each_once, flag},
    unpacked::{FILE_MAX_BYTES, Unpacked},
};
use crate::{
    store::{Filter, Store},
    transfer::{Cause, Export, Format, Import, ImportOptions, Records, Report, Stopped, Unreadable, export},
    user::Tags,
};

/// How long a client may send nothing of its file.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);

/// Put every user of a file
///
/// Scope: userlist:operate.
#[utoipa::path(post, path = "/v1/import", operation_id = "importUsers", params(ImportHow),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "What was done; look at refused", body = Report), Usual, OfABody))]
pub(super) async fn import(
    State(store): State<Store>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (options, is_dry_run) = import_options(&query.unwrap_or_default(), request.headers())?;
    let encoding = json::encoding(request.headers());
    let input = Box::pin(StreamReader::new(bounded(request.into_body().into_data_stream())));
    let opened = match encoding.as_deref() {
        None => Records::open(&options, input).await,
        Some("gzip" | "x-gzip") => Records::open(&options, Unpacked::new(input)).await,
        Some(other) => return Ok(unsupported(other)),
    };
    let stopped = match opened {
        Ok(records) => {
            // A client that goes away takes this future with it; the batch under way is finished all the same.
            let never = CancellationToken::new();
            match Import::run(&store, records, is_dry_run, &never, |_| {}).await {
                Ok(report) => return Ok(Json(report).into_response()),
                Err(stopped) => *stopped,
            }
        }
        Err(unreadable) => {
            Stopped { report: Report { dry_run: is_dry_run, ..Default::default() }, cause: unreadable.into() }
        }
    };
    Ok(answer(&stopped))
}

/// `POST /v1/users/import`, the path of older releases; anything else that is posted there is what no user takes. The
/// path is compared as it was sent, as for the scope that it asks for.
pub(super) async fn import_as_before(state: State<Store>, query: RawQuery, request: Request) -> Response {
    if request.uri().path() == super::IMPORT_AS_BEFORE {
        return import(state, query, request).await.into_response();
    }
    let problem = method_not_allowed(request.method().clone(), request.uri().clone()).await;
    ([(header::ALLOW, "GET,HEAD,PUT,PATCH,DELETE")], problem).into_response()
}

/// 415, with what is taken (RFC 9110, section 12.5.3).
fn unsupported(encoding: &str) -> Response {
    let mut response = json::unsupported_encoding(encoding, "send gzip, or the file as it is").into_response();
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

fn import_options(query: &str, headers: &HeaderMap) -> Result<(ImportOptions, bool), Problem> {
    let mut options = ImportOptions::default();
    let mut format = None;
    let mut is_dry_run = false;
    let mut errors = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let set = match (&*key, &*value) {
            // Without a value they are mistakes: `?dry_run` must not be an import, nor `add_tag=` one without the tag.
            ("dry_run", value) => flag("dry_run", value).map(|is| is_dry_run = is),
            ("ignore_columns", value) => flag("ignore_columns", value).map(|is| options.ignore_columns = is),
            ("add_tag", tag) => add_tag(&mut options, tag),
            (_, "") => Ok(()),
            ("format", value) => value.parse().map(|named| format = Some(named)),
            ("delimiter", value) => value.parse().map(|delimiter| options.delimiter = delimiter),
            ("column", value) => value.parse().map(|column| options.columns.push(column)),
            _ => {
                let known = "format, dry_run, delimiter, column, ignore_columns and add_tag";
                Err(FieldError::new(cut(&key), format!("it is unknown; there are {known}")))
            }
        };
        errors.extend(set.err());
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match format.or_else(|| media_type.and_then(Format::of_media_type)) {
        Some(format) => options.format = format,
        // For once it matters, and curl's default says nothing.
        None if errors.is_empty() => {
            return Err(Problem::field("format", "give ?format=csv or ndjson, or the Content-Type of one"));
        }
        None => {}
    }
    errors.extend(options.mistakes());
    if errors.is_empty() { Ok((options, is_dry_run)) } else { Err(invalid(errors)) }
}

fn add_tag(options: &mut ImportOptions, tag: &str) -> Result<(), FieldError> {
    let tags = Tags::parse([tag]).and_then(|tag| options.added_tags.with(&tag));
    options.added_tags = tags.map_err(|error| error.under("add_tag"))?;
    Ok(())
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

/// An import that ended early: a problem, with the report beside it, so that a part is not taken for the whole.
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
        Unreadable::Encoding(reason) => return Problem::field("file", *reason),
        Unreadable::TooLong { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "record_too_long", error.to_string()),
        Unreadable::OpenQuote { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "quote_not_closed", error.to_string()),
        Unreadable::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut => {
                (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "nothing of the file came for 30 s".to_owned())
            }
            io::ErrorKind::QuotaExceeded => {
                let detail = "the file is larger than 1 GiB, or unpacks to more than 100 times what was sent";
                (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail.to_owned())
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                let detail = "the body is not what Content-Encoding: gzip says";
                (StatusCode::BAD_REQUEST, "malformed_encoding", detail.to_owned())
            }
            _ => (StatusCode::BAD_REQUEST, "body_cut_off", "the file ended before it was complete".to_owned()),
        },
    };
    Problem::new(status, code, detail)
}

/// All users of a filter as a file
///
/// Scope: userlist:read. It streams. When the database goes away in the middle, the connection is broken off: a list
/// that ends early must not look like one that is complete.
#[utoipa::path(get, path = "/v1/export", operation_id = "exportUsers", params(Filters, ExportHow),
    responses(
        (status = 200, description = "The file; it is complete when the response is",
            content((String = "text/csv"), (String = "application/x-ndjson"))),
        Usual,
    ))]
pub(super) async fn download(State(store): State<Store>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let (how, filter) = export_options(&query.unwrap_or_default())?;
    let mut steps = Box::pin(export(store, filter, how));
    let first = steps.try_next().await.map_err(|error| problem(&error))?;
    let all = stream::iter(first.map(Ok)).chain(steps);
    let mut response = Body::from_stream(all).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(how.format.media_type()));
    Ok(response)
}

fn export_options(query: &str) -> Result<(Export, Filter), Problem> {
    let mut how = Export::default();
    let mut filter = Filter::default();
    let mut errors = each_once(query, |key, value| match key {
        "format" => value.parse().map(|named| how.format = named),
        "spreadsheet" => flag("spreadsheet", value).map(|is| how.is_for_spreadsheet = is),
        key => listing::filter(&mut filter, key, value, "format and spreadsheet"),
    });
    if how.is_for_spreadsheet && how.format != Format::Csv {
        errors.push(FieldError::new("spreadsheet", "spreadsheets read tables; leave it out, or give format=csv"));
    }
    if errors.is_empty() { Ok((how, filter)) } else { Err(invalid(errors)) }
}
