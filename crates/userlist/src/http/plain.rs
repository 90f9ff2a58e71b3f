//! `POST /`: one path, one body, for a shell and for clients of older registries.

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_kit::{
    Problem,
    json::JsonBody,
    openapi::one_of,
    tokens::{Action, Caller},
};
use utoipa::{ToSchema, openapi::ObjectBuilder};

use super::{
    SERVICE,
    error::problem,
    input,
    openapi::{NoSuchUser, OfABody, Taken, Usual},
};
use crate::{
    store::{Condition, Key, Store},
    user::{EmailAddress, User, UserId, UserName},
};

/// The body of `POST /`.
#[derive(Deserialize, ToSchema)]
#[schema(as = PlainCall)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    #[schema(inline)]
    method: Method,
    #[schema(value_type = UserName, inline)]
    name: String,
    /// Only put needs one. Others may send it empty, as clients do whose language writes every field.
    #[schema(max_length = 254)]
    email: Option<String>,
}

// From a string, so that a number is a wrong type and not, as serde_json has it for enums, no JSON.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[schema(rename_all = "lowercase")]
#[serde(try_from = "String")]
enum Method {
    Put,
    Get,
    Del,
}

impl TryFrom<String> for Method {
    type Error = &'static str;

    fn try_from(method: String) -> Result<Self, Self::Error> {
        match &*method {
            "put" => Ok(Self::Put),
            "get" => Ok(Self::Get),
            "del" => Ok(Self::Del),
            _ => Err("it must be \"put\", \"get\" or \"del\""),
        }
    }
}

/// What comes back.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes which of the two is written")]
enum PlainReply<'a> {
    User(PlainUser<'a>),
    Gone(PlainGone),
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is written when a user is gone")]
struct PlainGone {
    #[schema(schema_with = success)]
    message: String,
}

fn success() -> ObjectBuilder {
    one_of(&["success"])
}

/// The plain form: put, get or del a user by name
///
/// Scope: userlist:read to get, userlist:write to put and del.
#[utoipa::path(post, path = "/", operation_id = "plain", request_body = Call,
    responses(
        (status = 200, description = "The user, or that they are gone", body = PlainReply<'_>),
        Usual, OfABody, NoSuchUser, Taken,
    ))]
pub(super) async fn call(
    State(store): State<Store>,
    Extension(caller): Extension<Caller>,
    JsonBody(call): JsonBody<Call>,
) -> Result<Response, Problem> {
    caller.require(SERVICE, if matches!(call.method, Method::Get) { Action::Read } else { Action::Write })?;
    let email = call.email.unwrap_or_default();
    let without_email = || match &*email {
        "" => input::name(&call.name),
        _ => Err(Problem::field("email", "only \"put\" takes one; leave it out")),
    };
    let result = match call.method {
        Method::Put => {
            let user = input::user(&call.name, &email)?;
            store.put(&user, &Condition::Always).await.map(|(user, _)| plain(&user))
        }
        Method::Get => store.get(&Key::Name(without_email()?)).await.map(|user| plain(&user)),
        Method::Del => {
            let deleted = store.delete(&Key::Name(without_email()?), &Condition::Always).await;
            deleted.map(|()| Json(json!({ "message": "success" })).into_response())
        }
    };
    result.map_err(|error| problem(&error))
}

/// What this form shows of a user, and always will: clients that know nothing else compare it.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlainUser<'a> {
    #[schema(inline)]
    id: UserId,
    #[schema(inline)]
    name: &'a UserName,
    #[schema(inline)]
    email: &'a EmailAddress,
}

fn plain(user: &User) -> Response {
    Json(PlainUser { id: user.id, name: &user.name, email: &user.email }).into_response()
}
