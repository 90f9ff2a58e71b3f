//! What every `/openapi.json` has in common: OpenAPI 3.1, made by utoipa from handlers and types.
//!
//! `#[utoipa::path]` above a handler says under which method and path it is served and what it takes and gives; `routes!` makes the
//! route of that, and the description. So there is no route that is described wrongly, and none that is described and missing. Bodies
//! and parameters are described by the types that they are read into ([`utoipa::ToSchema`], [`utoipa::IntoParams`]); the comments on
//! their fields are for users of the API.

use std::collections::BTreeMap;

use axum::{Router, body::Bytes, http::header, routing::get};
use serde_json::json;
use utoipa::{
    ToSchema,
    openapi::{
        Components, Content, HttpMethod, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
        Schema,
        header::HeaderBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;

use crate::problem;

/// Where the description is.
pub const PATH: &str = "/openapi.json";

/// The statuses whose answers say in `Retry-After` when to come again.
const WITH_RETRY_AFTER: [u16; 3] = [429, 503, 507];

/// The routes, with one more that describes them all. `tag`: of which group that one is, if there are groups. `members`: what a
/// problem may have here beside what every problem has.
///
/// A wildcard is written as axum has it, `{*key}`, and described as OpenAPI has it, `{key}`.
pub fn described<S: Clone + Send + Sync + 'static>(
    router: OpenApiRouter<S>,
    tag: Option<&str>,
    members: impl IntoIterator<Item = (&'static str, RefOr<Schema>)>,
) -> Router<S> {
    let (routes, mut document) = router.split_for_parts();
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths.map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    describe_common(&mut document, tag);
    let problem = document.components.as_mut().and_then(|components| components.schemas.get_mut("Problem"));
    if let Some(RefOr::T(Schema::Object(problem))) = problem {
        problem.properties.extend(members.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    }
    let json = document.to_json().map(Bytes::from).expect("a description always becomes JSON");
    routes.route(PATH, get(async move || ([(header::CONTENT_TYPE, "application/json")], json)))
}

/// The paths of [`crate::health`] and this one, problems, and the token.
fn describe_common(document: &mut OpenApi, tag: Option<&str>) {
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components.schemas.extend(named::<problem::Body<'_>>());
    components.schemas.extend(named::<Readiness>());
    let readiness = || Content::new(Some(reference::<Readiness>()));
    let text = Content::new(Some(ObjectBuilder::new().schema_type(Type::String)));
    let object = || Content::new(Some(ObjectBuilder::new().schema_type(Type::Object)));
    let json = "application/json";
    let it_can = ResponseBuilder::new().description("It can").content(json, readiness());
    let it_cannot = ResponseBuilder::new().description("It cannot").content(json, readiness());
    let alive = ResponseBuilder::new().description("It does").content(json, object());
    let metrics = ResponseBuilder::new().description("OpenMetrics").content("application/openmetrics-text", text);
    let this = ResponseBuilder::new().description("OpenAPI 3.1").content(json, object());
    for (path, operation) in [
        ("/healthz", about("healthz", "Whether the process lives").response("200", alive)),
        (
            "/readyz",
            about("readyz", "Whether it can do its work, and why not")
                .response("200", it_can)
                .response("503", it_cannot),
        ),
        ("/metrics", about("metrics", "Metrics for Prometheus").response("200", metrics)),
        (PATH, about("openapi", "This description").response("200", this)),
    ] {
        let mut operation = Operation::from(operation);
        operation.tags = tag.map(|tag| vec![tag.to_owned()]);
        document.paths.add_path_operation(path, vec![HttpMethod::Get], operation);
    }
}

fn about(id: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new().operation_id(Some(id)).summary(Some(summary))
}

/// What [`crate::health`] answers at `/readyz`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what the readiness puts together")]
struct Readiness {
    status: ReadinessStatus,
    /// Each check with `ok`, or with what is wrong.
    checks: BTreeMap<String, String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what the readiness puts together")]
enum ReadinessStatus {
    #[schema(rename = "ready")]
    Ready,
    #[schema(rename = "degraded")]
    Degraded,
    #[schema(rename = "not ready")]
    NotReady,
}

/// Descriptions by their names, for [`Components`]: of a type, and of all that it is made of.
#[must_use]
pub fn named<T: ToSchema>() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    schemas
}

/// A pointer to a type's description, which must be among the components.
#[must_use]
pub fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// One object with the fields of several, as `#[serde(flatten)]` writes it: a closed one if any of them is.
#[must_use]
pub fn joined<const N: usize>(first: RefOr<Schema>, others: [RefOr<Schema>; N]) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut joined)) = first else { return first };
    for other in others {
        if let RefOr::T(Schema::Object(other)) = other {
            joined.properties.extend(other.properties);
            joined.required.extend(other.required);
            joined.additional_properties = joined.additional_properties.or(other.additional_properties);
        }
    }
    joined.into()
}

/// A string that matches `pattern`.
#[must_use]
pub fn matching(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// One of these strings.
#[must_use]
pub fn one_of(values: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().map(|value| json!(value))))
}

/// One parameter; one in the path is required.
#[must_use]
pub fn parameter(name: &str, place: ParameterIn, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let builder = ParameterBuilder::new().name(name).parameter_in(place).required(required);
    builder.description(Some(description)).schema(Some(schema)).build()
}

/// Answers that are problems, each status with what it means: the responses of an [`utoipa::IntoResponses`].
#[must_use]
pub fn refusals<const N: usize>(meanings: [(u16, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    meanings.map(|(status, meaning)| (status.to_string(), refusal(status, meaning).into())).into()
}

/// Defines types that stand for answers which are problems: each with its statuses, and what those mean.
///
/// The crate that uses it depends on `utoipa`, as it does for its handlers.
///
/// ```
/// service_kit::problem_responses! {
///     /// The thing is not there.
///     pub NoSuchThing: [(404, "There is none.")];
/// }
///
/// #[utoipa::path(get, path = "/thing", responses((status = 200, description = "It."), NoSuchThing))]
/// async fn thing() {}
/// ```
#[macro_export]
macro_rules! problem_responses {
    ($($(#[$doc:meta])* $visibility:vis $name:ident: [$($meaning:expr),+ $(,)?];)+) => { $(
        $(#[$doc])*
        $visibility struct $name;

        impl ::utoipa::IntoResponses for $name {
            fn responses() -> ::std::collections::BTreeMap<
                ::std::string::String,
                ::utoipa::openapi::RefOr<::utoipa::openapi::Response>,
            > {
                $crate::openapi::refusals([$($meaning),+])
            }
        }
    )+ };
}

fn refusal(status: u16, meaning: &str) -> Response {
    let content = Content::new(Some(reference::<problem::Body<'_>>()));
    let builder = ResponseBuilder::new().description(meaning).content(problem::MEDIA_TYPE, content);
    if !WITH_RETRY_AFTER.contains(&status) {
        return builder.build();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait"));
    builder.header("Retry-After", header.build()).build()
}

#[cfg(test)]
mod tests {
    use utoipa_axum::routes;

    use super::*;

    #[utoipa::path(get, path = "/things/{*key}", responses((status = 200, description = "It.")))]
    async fn thing() {}

    #[tokio::test]
    async fn what_is_routed_is_described_and_a_wildcard_is_a_parameter() {
        let router: Router = described(OpenApiRouter::new().routes(routes!(thing)), None, []);
        let request = axum::http::Request::get(PATH).body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let paths: Vec<&str> = json["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(paths, ["/healthz", "/metrics", "/openapi.json", "/readyz", "/things/{key}"]);
        assert!(json["components"]["schemas"]["Problem"].is_object(), "{json}");
    }
}
