//! Errors as RFC 9457 `application/problem+json`, with a stable `code` that programs can match on.
//!
//! ```json
//! {"status":422,"code":"invalid_field","title":"Unprocessable Entity","detail":"port: it must be 1 to 65535",
//!  "errors":[{"field":"port","reason":"it must be 1 to 65535"}],"request_id":"0193…"}
//! ```
//!
//! The status says whose turn it is: 400 and 422 the caller changes the request; 404, 409 the caller looks again; 503
//! the caller waits `Retry-After` seconds; 500 is a bug of ours. Internals go to the log, never into `detail`.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::request;

/// The media type of every error body (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// An error as its reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status; repeated in the body, as RFC 9457 asks.
    pub status: StatusCode,
    /// A stable, lower-case word for programs: `invalid_field`, `no_such_user`.
    pub code: Cow<'static, str>,
    /// What is wrong and what to change, for a person.
    pub detail: String,
    /// The fields that are wrong, when the error is about fields.
    pub errors: Vec<FieldProblem>,
    /// How long to wait before the next attempt; sent as `Retry-After` in whole seconds, at least 1.
    pub retry_after: Option<Duration>,
    /// More members of the body for programs (RFC 9457, section 3.2).
    pub members: BTreeMap<&'static str, serde_json::Value>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// The field's name, with dots into objects: `meta.owner`.
    pub field: String,
    /// What to change.
    pub reason: String,
}

impl Problem {
    /// A problem with a status, a stable code and a sentence.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let (errors, members) = Default::default();
        Self { status, code: code.into(), detail: detail.into(), errors, retry_after: None, members }
    }

    /// 422 for one field of a well-formed request.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let field = field.into();
        let reason = reason.into();
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", format!("{field}: {reason}"));
        problem.errors.push(FieldProblem { field, reason });
        problem
    }

    /// 503 for a dependency that is down, or no ready instance.
    pub fn unavailable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).retry_after(retry_after)
    }

    /// 500 for a bug of ours. The cause belongs in the log, where the request id finds it again.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an unexpected error; its cause is in the log under this request id",
        )
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a member to the body. Its name is none of those that every problem has.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.members.insert(name, value.into());
        self
    }

    /// The body, as text: for those who answer without axum.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.body()).expect("a struct of strings and numbers always becomes JSON")
    }

    /// The value of `Retry-After`: whole seconds, rounded up, at least 1 (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after.map(|wait| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    fn body(&self) -> Body<'_> {
        Body {
            status: self.status.as_u16(),
            code: &self.code,
            title: self.status.canonical_reason().unwrap_or("Error"),
            detail: &self.detail,
            errors: &self.errors,
            request_id: request::current_id(),
            members: &self.members,
        }
    }
}

/// RFC 9457.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body<'a> {
    /// The HTTP status.
    status: u16,
    /// A stable word for programs.
    #[schema(pattern = "^[a-z0-9_]+$")]
    code: &'a str,
    /// What the status is called.
    title: &'a str,
    /// What is wrong and what to change, for a person.
    detail: &'a str,
    /// The fields that are wrong, when the error is about fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
    /// Finds the request in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<String>,
    /// More for programs.
    #[serde(flatten)]
    #[schema(ignore)]
    members: &'a BTreeMap<&'static str, serde_json::Value>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        // For a layer that says it in another protocol.
        response.extensions_mut().insert(self);
        response
    }
}

/// For `Router::fallback`: 404 with a problem body.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", format!("nothing is served at {}", uri.path()))
}

/// For `Router::method_not_allowed_fallback`: 405 with a problem body.
pub async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let detail = format!("{} does not answer {method}; the Allow header lists what it does answer", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        let wait = |millis| Problem::unavailable("x", "x", Duration::from_millis(millis)).retry_after_secs();
        assert_eq!((wait(0), wait(1), wait(1000), wait(1001)), (Some(1), Some(1), Some(1), Some(2)));
    }

    #[test]
    fn a_field_problem_names_the_field_twice_for_people_and_for_programs() {
        let json = Problem::field("port", "it must be 1 to 65535").to_json();
        assert_eq!(
            json,
            r#"{"status":422,"code":"invalid_field","title":"Unprocessable Entity","detail":"port: it must be 1 to 65535","errors":[{"field":"port","reason":"it must be 1 to 65535"}]}"#
        );
    }
}
