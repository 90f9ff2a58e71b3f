//! `If-Match: "4f2a90c1d3e5b677"`: only if the instance is still that incarnation.
//!
//! RFC 9110 section 13.1.1 has the field; the incarnation of the reply is the entity tag. A request whose condition does
//! not hold is answered with 409 and a code, as every other request of a life that does not hold its id, instead of 412.

use axum::{
    extract::FromRequestParts,
    http::{header::IF_MATCH, request::Parts},
};
use discovery::Incarnation;
use service_kit::{Problem, openapi::parameter};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Type,
        path::{Parameter, ParameterIn},
    },
};

use crate::error;

/// The incarnation that a request is for, if it says so. `*` stands for whichever it is.
pub(super) struct IfMatch(pub(super) Option<Incarnation>);

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let tag = ObjectBuilder::new().schema_type(Type::String).examples(["\"0e38a54bfaee5bcf\""]);
        vec![parameter("If-Match", ParameterIn::Header, "Only if the instance is this incarnation.", tag)]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let mut given = parts.headers.get_all(IF_MATCH).iter();
        let first = given.next();
        let second = given.next();
        if second.is_some() {
            return Err(Problem::field("If-Match", "is there twice; send one incarnation"));
        }
        match first.map(|value| value.to_str().unwrap_or_default().trim()) {
            None | Some("*") => Ok(Self(None)),
            Some(tag) => {
                let text = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
                let incarnation = text.parse::<Incarnation>();
                incarnation
                    .map(|incarnation| Self(Some(incarnation)))
                    .map_err(|wrong| error::field(wrong.under("If-Match")))
            }
        }
    }
}
