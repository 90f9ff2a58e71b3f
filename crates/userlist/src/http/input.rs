//! What clients send, checked: names in paths, fields in bodies, parameters in queries.

use axum::{
    extract::{FromRequestParts, Path},
    http::{StatusCode, request::Parts},
};
use discovery::FieldError;
use service_kit::{Problem, problem::FieldProblem};

use crate::user::{EmailAddress, NewUser, UserId, UserName};

/// `{name}` in a path, percent-decoded: `a/b` is sent as `a%2Fb`.
pub(super) struct PathName(pub(super) UserName);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let malformed = "the name in the path is not percent-encoded UTF-8";
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed_path", malformed))?;
        self::name(&name).map(Self)
    }
}

/// A name.
pub(super) fn name(name: &str) -> Result<UserName, Problem> {
    name.parse().map_err(|error| invalid([error]))
}

/// An address.
pub(super) fn email(email: &str) -> Result<EmailAddress, Problem> {
    email.parse().map_err(|error| invalid([error]))
}

/// A name and an address; when both are wrong, both are named.
pub(super) fn user(name: &str, email: &str) -> Result<NewUser, Problem> {
    match (name.parse(), email.parse()) {
        (Ok(name), Ok(email)) => Ok(NewUser { name, email }),
        (name, email) => {
            let name: Result<UserName, _> = name;
            let email: Result<EmailAddress, _> = email;
            Err(invalid([name.err(), email.err()].into_iter().flatten()))
        }
    }
}

/// Which users to list: `?limit=50&after=17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    pub(super) limit: u32,
    pub(super) after: UserId,
}

// === impl Paging ===

impl Paging {
    pub(super) const LIMIT_DEFAULT: u32 = 100;
    pub(super) const LIMIT_MAX: u32 = 1000;

    /// Reads a query string; unknown parameters are mistakes, because `limt=5` would list everybody.
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut paging = Self { limit: Self::LIMIT_DEFAULT, after: UserId(0) };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=Self::LIMIT_MAX).contains(limit));
                    let reason = "it must be a number from 1 to 1000";
                    paging.limit = limit.ok_or_else(|| Problem::field("limit", reason))?;
                }
                "after" => {
                    let after = value.parse().ok().filter(|&after| after >= 0);
                    let reason = "it must be the number that the page before gave as \"next\"";
                    paging.after = UserId(after.ok_or_else(|| Problem::field("after", reason))?);
                }
                _ => return Err(Problem::field(cut(&key), "it is unknown; there are \"limit\" and \"after\"")),
            }
        }
        Ok(paging)
    }
}

/// A key is whatever a client made up.
fn cut(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn invalid(errors: impl IntoIterator<Item = FieldError>) -> Problem {
    let errors: Vec<_> = errors.into_iter().collect();
    let detail: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail.join("; "));
    problem.errors =
        errors.into_iter().map(|FieldError { field, reason }| FieldProblem { field: field.into(), reason }).collect();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_has_defaults_and_bounds() {
        assert_eq!(Paging::parse("").unwrap(), Paging { limit: 100, after: UserId(0) });
        assert_eq!(Paging::parse("limit=1000&after=17").unwrap(), Paging { limit: 1000, after: UserId(17) });
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=99999999999", "limit"),
            ("after=-1", "after"),
            ("after=dong", "after"),
            ("limt=5", "limt"),
            ("limit=5&", "limit"),
        ] {
            match Paging::parse(query) {
                Err(problem) => assert_eq!(problem.errors[0].field, field, "{query}"),
                Ok(paging) => assert_eq!((query, paging.limit), ("limit=5&", 5)),
            }
        }
    }

    #[test]
    fn both_wrong_fields_are_named() {
        let problem = user("", "nowhere").unwrap_err();
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["name", "email"]);
    }
}
