//! From what went wrong to what the client gets: the one table of statuses and codes.

use std::time::Duration;

use axum::http::StatusCode;
use discovery::FieldError;
use service_kit::{Problem, problem::FieldProblem};

use crate::store::StoreError;

/// The one table from errors to answers.
pub(super) fn problem(error: &StoreError) -> Problem {
    const SOON: Duration = Duration::from_secs(1);
    const AFTER_REPAIR: Duration = Duration::from_secs(10);
    let unavailable = |detail: &str, wait| Problem::unavailable(error.code(), detail, wait);
    match error {
        StoreError::NoSuchUser => Problem::new(StatusCode::NOT_FOUND, error.code(), "no user has that name"),
        StoreError::EmailTaken => {
            let detail = "another user has that address, and no two may share one here";
            Problem::new(StatusCode::CONFLICT, error.code(), detail)
        }
        StoreError::ConditionFailed => {
            let detail = "the user is another version than yours, or is not there; nothing was changed: read it again";
            Problem::new(StatusCode::PRECONDITION_FAILED, error.code(), detail)
        }
        StoreError::Invalid(error) => invalid([error.clone()]),
        StoreError::UserExists => {
            let detail = "a user has that name already; PATCH /v1/users/{name} changes them";
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
            "the database broke off, and it is unknown whether the change was made; GET /v1/users/{name} shows it",
            SOON,
        ),
        StoreError::ReadOnly { .. } => {
            unavailable("the database takes no changes at present; nothing was changed", AFTER_REPAIR)
        }
        StoreError::Full { .. } => unavailable("the database has no space left; nothing was changed", AFTER_REPAIR),
        StoreError::Failed { .. } => Problem::internal(),
    }
}

/// 422, with every field that is wrong.
pub(super) fn invalid(errors: impl IntoIterator<Item = FieldError>) -> Problem {
    let errors: Vec<_> = errors.into_iter().collect();
    let detail: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail.join("; "));
    problem.errors =
        errors.into_iter().map(|FieldError { field, reason }| FieldProblem { field: field.into(), reason }).collect();
    problem
}
