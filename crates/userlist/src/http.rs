//! HTTP in and out: the plain form for shells, the REST form for programs, one table of errors.
//!
//! | request | answer |
//! |---|---|
//! | `POST /` `{"method":"put","name","email"}` | 200 the user, created or changed |
//! | `POST /` `{"method":"get","name"}` | 200 the user |
//! | `POST /` `{"method":"del","name"}` | 200 `{"message":"success"}` |
//! | `GET /v1/users?status=&tag=&q=&email=&name=&…&sort=&limit=&cursor=` | 200 `{"users":[…],"next_cursor":…,"total":…}` |
//! | `PATCH /v1/users?status=&tag=&…&dry_run=` `{"add_tags","remove_tags","status","attributes"}` | 200 what was changed |
//! | `DELETE /v1/users?status=&tag=&…&dry_run=` | 200 how many are gone |
//! | `POST /v1/users` `{"name","email",…}` | 201 the user and `Location`; 409 when the name is taken |
//! | `GET /v1/users/{name}` | 200 the user; 304 |
//! | `PUT /v1/users/{name}` `{"email",…}` | 201 created, 200 replaced: the user |
//! | `PATCH /v1/users/{name}` a merge patch | 200 the user |
//! | `DELETE /v1/users/{name}` | 204 |
//! | `GET`, `PATCH`, `DELETE /v1/users/by-id/{id}` | the same, whatever the name is |
//! | `POST /v1/import?format=&dry_run=&…` CSV or NDJSON | 200 a report |
//! | `GET /v1/export?format=&status=&tag=&q=&…` | 200 CSV or NDJSON |
//! | `GET /openapi.json` | 200 all of this for programs |
//!
//! With API tokens, reading asks for the scope `userlist:read`, changing for `userlist:write`, importing and changing
//! many at once for `userlist:operate`.
//!
//! Bodies are bounded by [`BODY_MAX_BYTES`](service_kit::json::BODY_MAX_BYTES). What goes wrong:
//!
//! | status | code | when |
//! |---|---|---|
//! | 400 | `malformed_json`, `malformed_path` | it cannot be read |
//! | 401, 403 | `token_missing`, `token_unknown`, `out_of_scope` | see [`tokens`] |
//! | 404 | `no_such_user` | no user has that name or id |
//! | 409 | `user_exists`, `email_taken` | another user has it |
//! | 412 | `condition_failed` | `If-Match` or `If-None-Match` does not hold |
//! | 413, 408 | `body_too_large`, `body_too_slow` | |
//! | 415 | `unsupported_encoding` | a `Content-Encoding` other than an import's gzip |
//! | 422 | `invalid_field` | a field, parameter or name is wrong, missing or unknown; `errors` names each |
//! | 503 | `database_unavailable`, `read_only`, `database_full` | retry after `Retry-After` |
//! | 503 | `outcome_unknown` | it is unknown whether a change was made that must not be made twice: look, then retry |
//! | 500 | `internal` | a bug; its cause is in the log |

mod bulk;
mod error;
mod input;
mod listing;
mod openapi;
mod plain;
mod query;
mod rest;
mod transfer;
mod unpacked;

use axum::{
    Extension, Router,
    extract::Request,
    http::Method,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::post,
};
use service_kit::{
    openapi::reference,
    tokens::{self, Action, Caller, Tokens},
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{store::Store, transfer::Report};

/// The routes of the service and their description, without those that every service has.
///
/// Each handler says in `#[utoipa::path]` which is its own. Below `/v1/users/` there are users and nothing else, whatever their names.
pub fn routes(store: Store, tokens: Tokens) -> Router {
    let routes = OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(plain::call))
        .routes(routes!(rest::list, rest::create, bulk::change, bulk::delete))
        .routes(routes!(transfer::import))
        .routes(routes!(transfer::download))
        .routes(routes!(rest::get_by_id, rest::patch_by_id, rest::delete_by_id))
        .routes(routes!(rest::get, rest::put, rest::patch, rest::delete))
        .route("/v1/users/{name}", post(transfer::import_as_before))
        .with_state(store)
        .route_layer(middleware::from_fn(authorize))
        .route_layer(middleware::from_fn_with_state(tokens, tokens::authenticate));
    service_kit::openapi::described(routes, None, [("report", reference::<Report>())])
}

/// Lets pass who may do what a method and a path ask for. What the plain form asks for is in its body.
async fn authorize(caller: Extension<Caller>, request: Request, next: Next) -> Response {
    let action = match (request.uri().path(), request.method()) {
        ("/", _) => None,
        ("/v1/import" | IMPORT_AS_BEFORE, &Method::POST) | ("/v1/users", &Method::PATCH | &Method::DELETE) => {
            Some(Action::Operate)
        }
        (_, &Method::GET | &Method::HEAD) => Some(Action::Read),
        _ => Some(Action::Write),
    };
    match action.map_or(Ok(()), |action| caller.require(SERVICE, action)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Where files were imported when `import` was no name of a user: a POST, which is no request about one, still does.
const IMPORT_AS_BEFORE: &str = "/v1/users/import";

/// The name before the colon of a token's scopes.
const SERVICE: &str = "userlist";
