//! Problems as gRPC statuses.
//!
//! | HTTP | gRPC |
//! |---|---|
//! | 400, 413, 415, 422 | `INVALID_ARGUMENT` |
//! | 401, 403 | `UNAUTHENTICATED`, `PERMISSION_DENIED` |
//! | 404 | `NOT_FOUND`; of a method, `UNIMPLEMENTED` |
//! | 408, 504 | `DEADLINE_EXCEEDED` |
//! | 409 | `ABORTED` for `another_incarnation`: ask again later. Else `FAILED_PRECONDITION`: begin anew |
//! | 429 | `RESOURCE_EXHAUSTED` |
//! | 503 | `UNAVAILABLE` |
//! | 500 | `INTERNAL` |
//!
//! The details are those of `google.rpc.Status` (<https://google.aip.dev/193>): `ErrorInfo` with the problem's `code`
//! as its reason and the HTTP status and further members in its metadata, `RetryInfo` for `Retry-After`, `BadRequest`
//! for fields, and `RequestInfo` with the request id.

use std::collections::HashMap;

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::Response,
};
use muster_proto::{ERROR_DOMAIN, HTTP_STATUS};
use service_kit::{Problem, request};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::calls::{Calls, count_refused};

/// Middleware around everything: answers a call with a status where a layer has answered with a problem, and counts it.
pub async fn convert(State(calls): State<Calls>, request: Request, next: Next) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE);
    if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return next.run(request).await;
    }
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    let id = response.headers().get(request::REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let status = with_id(problem, id);
    count_refused(&calls, path.as_ref(), status.code());
    let mut converted = status.into_http::<Body>();
    if let Some(id) = response.headers().get(request::REQUEST_ID) {
        converted.headers_mut().insert(request::REQUEST_ID, id.clone());
    }
    converted
}

/// A problem of the request that this task serves.
pub(super) fn status(problem: &Problem) -> Status {
    with_id(problem, request::current_id())
}

fn with_id(problem: &Problem, request_id: Option<String>) -> Status {
    let mut details = ErrorDetails::new();
    let mut metadata: HashMap<String, String> =
        problem.members.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    metadata.insert(HTTP_STATUS.to_owned(), problem.status.as_u16().to_string());
    details.set_error_info(problem.code.clone(), ERROR_DOMAIN, metadata);
    if let Some(wait) = problem.retry_after {
        details.set_retry_info(Some(wait));
    }
    for error in &problem.errors {
        details.add_bad_request_violation(&error.field, &error.reason);
    }
    if let Some(id) = request_id {
        details.set_request_info(id, "");
    }
    Status::with_error_details(code(problem), &problem.detail, details)
}

fn code(problem: &Problem) -> Code {
    match (problem.status, problem.code.as_ref()) {
        (_, "no_such_path" | "method_not_allowed") => Code::Unimplemented,
        (StatusCode::CONFLICT, "another_incarnation") => Code::Aborted,
        (StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, _) => Code::FailedPrecondition,
        (StatusCode::UNAUTHORIZED, _) => Code::Unauthenticated,
        (StatusCode::FORBIDDEN, _) => Code::PermissionDenied,
        (StatusCode::NOT_FOUND, _) => Code::NotFound,
        (StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT, _) => Code::DeadlineExceeded,
        (StatusCode::TOO_MANY_REQUESTS, _) => Code::ResourceExhausted,
        (StatusCode::SERVICE_UNAVAILABLE, _) => Code::Unavailable,
        (status, _) if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_status_tells_programs_what_the_problem_tells_them() {
        let problem = Problem::unavailable("etcd_unavailable", "etcd is away", Duration::from_secs(1));
        let status = status(&problem.with("holds_ms", 5000));
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcd is away"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("etcd_unavailable", "muster"));
        assert_eq!((info.metadata["http_status"].as_str(), info.metadata["holds_ms"].as_str()), ("503", "5000"));
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let status = status(&Problem::field("service", "is no name"));
        let bad = status.get_details_bad_request().unwrap();
        assert_eq!((status.code(), bad.field_violations[0].field.as_str()), (Code::InvalidArgument, "service"));
    }

    #[test]
    fn the_two_ways_not_to_hold_an_id_are_told_apart() {
        let of = |word: &'static str| code(&Problem::new(StatusCode::CONFLICT, word, ""));
        assert_eq!(of("another_incarnation"), Code::Aborted);
        assert_eq!(of("incarnation_ended"), Code::FailedPrecondition);
    }
}
