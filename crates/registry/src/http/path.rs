//! Names in a path, percent-decoded once and parsed, or refused by the name of the part that is wrong.
//!
//! A `%2F` becomes a `/` only after the path was cut into its parts, so that it arrives in a name, where no `/` is
//! allowed; the same holds for `%2E%2E`, and for `..` itself.

use axum::{
    Router,
    extract::{
        FromRequestParts, Path,
        path::{ErrorKind, FailedToDeserializePathParams},
        rejection::PathRejection,
    },
    http::{StatusCode, request::Parts},
    routing::any,
};
use discovery::{FieldError, InstanceId, InstanceKey, ServiceName};
use serde::de::DeserializeOwned;
use service_kit::{
    Problem,
    openapi::{parameter, reference},
};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::SharedApi;
use crate::error;

/// `{service}` and `{instance}` of a path, the id in [one spelling](InstanceId::in_one_spelling).
pub(super) struct InstancePath(pub(super) InstanceKey);

/// `{service}` of a path.
pub(super) struct ServicePath(pub(super) ServiceName);

/// The one part of a path that is neither: what is right in it, the handler knows.
pub(super) struct TextPath(pub(super) String);

impl IntoParams for InstancePath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let instance = parameter("instance", ParameterIn::Path, "The instance.", reference::<InstanceId>());
        vec![service_parameter(), instance]
    }
}

impl IntoParams for ServicePath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![service_parameter()]
    }
}

fn service_parameter() -> Parameter {
    parameter("service", ParameterIn::Path, "The service.", reference::<ServiceName>())
}

impl<S: Send + Sync> FromRequestParts<S> for TextPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        decode::<String, S>(parts, state).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InstancePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (service, instance) = decode::<(String, String), S>(parts, state).await?;
        let service = service.parse::<ServiceName>().map_err(error::field)?;
        let instance = instance.parse::<InstanceId>().map_err(error::field)?;
        Ok(Self(InstanceKey::new(service, instance.in_one_spelling())))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ServicePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let service = decode::<String, S>(parts, state).await?;
        service.parse().map(Self).map_err(error::field)
    }
}

/// Paths in which a name is missing altogether. Without them the answer would be that nothing is served there, which
/// does not tell a user whose variable was empty what to look for.
pub(super) fn with_an_empty_name() -> Router<SharedApi> {
    let missing = |field: &'static str| {
        any(async move || error::field(FieldError::new(field, "is empty in the path; put a name between the slashes")))
    };
    Router::new()
        .route("/v1/services//instances", missing("service"))
        .route("/v1/services//instances/{instance}", missing("service"))
        .route("/v1/services//instances/{instance}/override", missing("service"))
        .route("/v1/services/{service}/instances/", missing("instance"))
        .route("/v1/services/{service}/instances//override", missing("instance"))
}

async fn decode<T: DeserializeOwned + Send, S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<T, Problem> {
    let refused = |rejection: PathRejection| match rejection {
        PathRejection::FailedToDeserializePathParams(failed) => not_text(failed),
        // Only a route without parameters gets here, and no such route asks for one.
        _ => Problem::internal(),
    };
    Path::<T>::from_request_parts(parts, state).await.map(|Path(names)| names).map_err(refused)
}

/// The one thing that can go wrong with text: it is none.
fn not_text(failed: FailedToDeserializePathParams) -> Problem {
    let field = match failed.into_kind() {
        ErrorKind::InvalidUtf8InPathParam { key } => key,
        _ => "path".to_owned(),
    };
    let mut problem = Problem::field(field, "is not percent-encoded UTF-8 text; names are plain ASCII");
    problem.status = StatusCode::BAD_REQUEST;
    problem
}
