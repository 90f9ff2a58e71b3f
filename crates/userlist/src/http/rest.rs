//! `/v1/users`: the same as resources.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use service_kit::{Problem, json::JsonBody};

use super::{
    input::{self, Paging, PathName},
    problem,
};
use crate::{
    store::{Put, Store},
    user::{NewUser, User, UserId},
};

/// `unreserved` of RFC 3986, section 2.3, stays as it is.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The body of `POST /v1/users`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Creation {
    name: String,
    email: String,
}

/// The body of `PUT /v1/users/{name}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replacement {
    /// May be repeated; must be the one in the path.
    name: Option<String>,
    email: String,
}

/// Some of the users.
#[derive(Serialize)]
struct Page {
    /// By id, which is the order in which they were created.
    users: Vec<User>,
    /// What to give as `after` for the next page; null on the last one.
    next: Option<UserId>,
}

/// Users that are added while somebody pages come at the end, and nobody is listed twice. The cursor is an id and not
/// an offset, so a page costs the same wherever it is, and deletions shift nothing.
pub(super) async fn list(State(store): State<Store>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let Paging { limit, after } = Paging::parse(&query.unwrap_or_default())?;
    let most = limit as usize;
    // One more than asked for, to know whether there is another page.
    let mut users = store.list(after, limit + 1).await.map_err(|error| problem(&error))?;
    let is_last = users.len() <= most;
    users.truncate(most);
    let next = if is_last { None } else { users.last().map(|user| user.id) };
    Ok(Json(Page { users, next }).into_response())
}

pub(super) async fn create(
    State(store): State<Store>,
    JsonBody(creation): JsonBody<Creation>,
) -> Result<Response, Problem> {
    let user = input::user(&creation.name, &creation.email)?;
    let user = store.create(&user).await.map_err(|error| problem(&error))?;
    let mut response = (StatusCode::CREATED, Json(&user)).into_response();
    // Relative to /v1/users (RFC 9110, section 10.2.2), so that it is right behind a gateway that adds a prefix.
    let location = format!("users/{}", utf8_percent_encode(user.name.as_str(), PATH_SEGMENT));
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn get(State(store): State<Store>, PathName(name): PathName) -> Result<Response, Problem> {
    let user = store.get(&name).await.map_err(|error| problem(&error))?;
    Ok(Json(user).into_response())
}

pub(super) async fn put(
    State(store): State<Store>,
    PathName(name): PathName,
    JsonBody(replacement): JsonBody<Replacement>,
) -> Result<Response, Problem> {
    if let Some(repeated) = &replacement.name
        && input::name(repeated)? != name
    {
        return Err(Problem::field("name", "it is not the one in the path; a user cannot be renamed"));
    }
    let email = input::email(&replacement.email)?;
    let (user, put) = store.put(&NewUser { name, email }).await.map_err(|error| problem(&error))?;
    let status = match put {
        Put::Created => StatusCode::CREATED,
        Put::Changed => StatusCode::OK,
    };
    Ok((status, Json(user)).into_response())
}

pub(super) async fn delete(State(store): State<Store>, PathName(name): PathName) -> Result<StatusCode, Problem> {
    store.delete(&name).await.map_err(|error| problem(&error))?;
    Ok(StatusCode::NO_CONTENT)
}
