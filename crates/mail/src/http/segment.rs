//! The last part of a path: an id, a name, an address.

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};
use service_kit::Problem;

/// What a path names, decoded. axum's own refusal of what is not UTF-8 is no problem document.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let malformed = "the path is not percent-encoded UTF-8";
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "malformed_path", malformed)),
        }
    }
}
