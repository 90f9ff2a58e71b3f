//! HTTP in and out: the plain form for shells, the REST form for programs, one table of errors.
//!
//! | request | answer |
//! |---|---|
//! | `POST /` `{"method":"put","name","email"}` | 200 the user, created or changed |
//! | `POST /` `{"method":"get","name"}` | 200 the user |
//! | `POST /` `{"method":"del","name"}` | 200 `{"message":"success"}` |
//! | `GET /v1/users?limit=&after=` | 200 `{"users":[…],"next":…}` |
//! | `POST /v1/users` `{"name","email"}` | 201 the user and `Location`; 409 when the name is taken |
//! | `GET /v1/users/{name}` | 200 the user |
//! | `PUT /v1/users/{name}` `{"email"}` | 201 created, 200 changed: the user |
//! | `DELETE /v1/users/{name}` | 204 |
//!
//! A user is `{"id":1,"name":"dong","email":"d@example.com"}`. Bodies are bounded by
//! [`BODY_MAX_BYTES`](service_kit::json::BODY_MAX_BYTES). What goes wrong:
//!
//! | status | code | when |
//! |---|---|---|
//! | 400 | `malformed_json`, `malformed_path` | it cannot be read |
//! | 404 | `no_such_user` | nobody has that name |
//! | 409 | `user_exists` | somebody has it |
//! | 413, 408 | `body_too_large`, `body_too_slow` | |
//! | 422 | `invalid_field` | a field, parameter or name is wrong, missing or unknown; `errors` names each |
//! | 503 | `database_unavailable`, `database_read_only`, `database_full` | come again after `Retry-After` |
//! | 503 | `outcome_unknown` | nobody knows whether a `POST /v1/users` created the user: look, then come again |
//! | 500 | `internal` | a bug; its cause is in the log |

mod input;
mod plain;
mod rest;

use std::time::Duration;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use service_kit::Problem;

use crate::store::{Store, StoreError};

/// The routes of the service, without those that every service has.
pub fn routes(store: Store) -> Router {
    Router::new()
        .route("/", post(plain::call))
        .route("/v1/users", get(rest::list).post(rest::create))
        .route("/v1/users/{name}", get(rest::get).put(rest::put).delete(rest::delete))
        .with_state(store)
}

/// The one table from errors to answers.
fn problem(error: &StoreError) -> Problem {
    const SOON: Duration = Duration::from_secs(1);
    const AFTER_SOMEBODY_LOOKED: Duration = Duration::from_secs(10);
    let unavailable = |detail: &str, wait| Problem::unavailable(error.code(), detail, wait);
    match error {
        StoreError::NoSuchUser => Problem::new(StatusCode::NOT_FOUND, error.code(), "no user has that name"),
        StoreError::UserExists => {
            let detail = "a user has that name already; PUT /v1/users/{name} changes the address";
            Problem::new(StatusCode::CONFLICT, error.code(), detail)
        }
        StoreError::Unavailable { is_in_doubt: false, .. } => {
            unavailable("the database cannot be used now; nothing was changed", SOON)
        }
        StoreError::Unavailable { is_in_doubt: true, .. } => unavailable(
            "the database broke off; the change may have been made all the same, and may be sent again safely",
            SOON,
        ),
        StoreError::OutcomeUnknown => unavailable(
            "the database broke off, and nobody knows whether the user was created; GET /v1/users/{name} tells",
            SOON,
        ),
        StoreError::ReadOnly { .. } => {
            unavailable("the database takes no changes at present; nothing was changed", AFTER_SOMEBODY_LOOKED)
        }
        StoreError::Full { .. } => {
            unavailable("the database has no space left; nothing was changed", AFTER_SOMEBODY_LOOKED)
        }
        StoreError::Failed { .. } => Problem::internal(),
    }
}
