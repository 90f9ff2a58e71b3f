//! `POST /`: one path, one body, for a shell and for clients of older registries.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;
use service_kit::{Problem, json::JsonBody};

use super::{input, problem};
use crate::store::Store;

/// The body of `POST /`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    method: Method,
    name: String,
    /// Only `put` needs one. Others may send it empty, as clients do whose language writes every field.
    email: Option<String>,
}

// From a string, so that a number is a wrong type and not, as serde_json has it for enums, no JSON.
#[derive(Clone, Copy, Deserialize)]
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

pub(super) async fn call(State(store): State<Store>, JsonBody(call): JsonBody<Call>) -> Result<Response, Problem> {
    let email = call.email.unwrap_or_default();
    let without_email = || match &*email {
        "" => input::name(&call.name),
        _ => Err(Problem::field("email", "only \"put\" takes one; leave it out")),
    };
    let result = match call.method {
        Method::Put => store.put(&input::user(&call.name, &email)?).await.map(|(user, _)| Json(user).into_response()),
        Method::Get => store.get(&without_email()?).await.map(|user| Json(user).into_response()),
        Method::Del => {
            store.delete(&without_email()?).await.map(|()| Json(json!({ "message": "success" })).into_response())
        }
    };
    result.map_err(|error| problem(&error))
}
