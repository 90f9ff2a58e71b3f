//! `/v1/users`: users as resources.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value};
use service_kit::{
    Problem,
    json::{JsonBody, Object},
};
use utoipa::ToSchema;

use super::{
    error::problem,
    input::{self, NewUserBody, PatchBody, PathId, PathName, UserBody},
    listing::Listing,
    openapi::{
        ConditionFailed, Creating, CreatorHas, Filters, NoSuchUser, OfABody, Paging, ReaderHas, Taken, Usual, WriterHas,
    },
};
use crate::{
    store::{Condition, Key, Put, Store, StoreError},
    user::{User, UserName},
};

/// `unreserved` of RFC 3986, section 2.3, stays as it is.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How often another request may create or delete the user whom [`patch`] is about to change or create.
const ATTEMPTS: usize = 3;

/// Some of the users.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Users {
    users: Vec<User>,
    /// What to give as `cursor` for the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
    /// How many there were when the first page was read; null when counting them took too long.
    #[schema(required, minimum = 0)]
    total: Option<i64>,
}

/// List users, page by page
///
/// Scope: userlist:read. A page costs the same wherever it is, no user is listed twice because another one was deleted,
/// and a user who is added or changed meanwhile is there or not: the cursor is a place in the order, not a number of
/// users to skip.
///
/// Counting reads all rows, so it is done once, for the first page; the cursor carries the total on.
#[utoipa::path(get, path = "/v1/users", operation_id = "listUsers", params(Filters, Paging),
    responses((status = 200, description = "Some of the users", body = Users), Usual))]
pub(super) async fn list(State(store): State<Store>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let listing = Listing::parse(&query.unwrap_or_default())?;
    let page = listing.page();
    let (users, total) = match &listing.cursor {
        Some(cursor) => (store.list(&page).await, cursor.total),
        // At the same time, so that both are over before the deadline. An answer without a total is better than none.
        None => tokio::join!(store.list(&page), async { store.count(&listing.filter).await.ok() }),
    };
    let mut users = users.map_err(|error| problem(&error))?;
    let is_last = users.len() <= listing.limit as usize;
    users.truncate(listing.limit as usize);
    let last = if is_last { None } else { users.last() };
    let next_cursor = last.map(|user| listing.cursor_after(listing.sort.position(user), total));
    Ok(Json(Users { users, next_cursor, total }).into_response())
}

/// Create a user
///
/// Scope: userlist:write.
#[utoipa::path(post, path = "/v1/users", operation_id = "createUser", request_body = NewUserBody,
    responses(
        (status = 201, description = "Created", body = User,
            headers(
                ("ETag" = String, description = "Which user, in which version"),
                ("Location" = String, description = "Relative to this path"),
            )),
        Usual, OfABody, Taken,
    ))]
pub(super) async fn create(
    State(store): State<Store>,
    JsonBody(body): JsonBody<UserBody>,
) -> Result<Response, Problem> {
    let name = body.name.clone().ok_or_else(|| Problem::field("name", "it is missing"))?;
    let user = body.into_user(&name)?;
    let user = store.create(&user).await.map_err(|error| problem(&error))?;
    let mut response = (StatusCode::CREATED, one(&user)).into_response();
    // Relative to /v1/users (RFC 9110, section 10.2.2), so that it is right behind a gateway that adds a prefix.
    let location = format!("users/{}", utf8_percent_encode(user.name.as_str(), PATH_SEGMENT));
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Create a user, or replace one; what they have and the body does not name is 422
///
/// Scope: userlist:write.
#[utoipa::path(put, path = "/v1/users/{name}", operation_id = "putUser", params(PathName, WriterHas, CreatorHas), request_body = UserBody,
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "Which user, in which version"))), (status = 201, description = "Created", body = User, headers(("ETag" = String, description = "Which user, in which version"))), Usual, OfABody, Taken, ConditionFailed))]
pub(super) async fn put(
    State(store): State<Store>,
    PathName(name): PathName,
    headers: HeaderMap,
    JsonBody(body): JsonBody<UserBody>,
) -> Result<Response, Problem> {
    if let Some(repeated) = &body.name
        && input::name(repeated)? != name
    {
        return Err(Problem::field("name", "it is not the one in the path; PATCH changes a name"));
    }
    let user = body.into_user(name.as_str())?;
    let condition = input::condition(&headers)?;
    let (user, put) = store.replace(&user, &condition).await.map_err(|error| problem(&error))?;
    let status = match put {
        Put::Created => StatusCode::CREATED,
        Put::Changed => StatusCode::OK,
    };
    Ok((status, one(&user)).into_response())
}

/// Get a user by name
///
/// Scope: userlist:read.
#[utoipa::path(get, path = "/v1/users/{name}", operation_id = "getUser", params(PathName, ReaderHas),
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "Which user, in which version"))), (status = 304, description = "The reader has this version", headers(("ETag" = String, description = "Which user, in which version"))), Usual, NoSuchUser))]
pub(super) async fn get(
    store: State<Store>,
    PathName(name): PathName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    find(&store, &Key::Name(name), &headers).await
}

/// Get a user by id
///
/// Scope: userlist:read.
#[utoipa::path(get, path = "/v1/users/by-id/{id}", operation_id = "getUserById", params(PathId, ReaderHas),
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "Which user, in which version"))), (status = 304, description = "The reader has this version", headers(("ETag" = String, description = "Which user, in which version"))), Usual, NoSuchUser))]
pub(super) async fn get_by_id(
    store: State<Store>,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    find(&store, &Key::Id(id), &headers).await
}

/// Change a user by name: a merge patch (RFC 7396)
///
/// Scope: userlist:write.
#[utoipa::path(patch, path = "/v1/users/{name}", operation_id = "patchUser", params(PathName, WriterHas, Creating), request_body = PatchBody,
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "Which user, in which version"))), (status = 201, description = "Created", body = User, headers(("ETag" = String, description = "Which user, in which version"))), Usual, OfABody, NoSuchUser, Taken, ConditionFailed))]
pub(super) async fn patch(
    store: State<Store>,
    PathName(name): PathName,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    JsonBody(Object(body)): JsonBody<Object>,
) -> Result<Response, Problem> {
    if input::is_creating(&query.unwrap_or_default())? {
        return change_or_create(&store, name, &headers, body).await;
    }
    change(&store, &Key::Name(name), &headers, body).await
}

/// Change a user by id: a merge patch (RFC 7396)
///
/// Scope: userlist:write.
#[utoipa::path(patch, path = "/v1/users/by-id/{id}", operation_id = "patchUserById", params(PathId, WriterHas), request_body = PatchBody,
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String, description = "Which user, in which version"))), Usual, OfABody, NoSuchUser, Taken, ConditionFailed))]
pub(super) async fn patch_by_id(
    store: State<Store>,
    PathId(id): PathId,
    headers: HeaderMap,
    JsonBody(Object(body)): JsonBody<Object>,
) -> Result<Response, Problem> {
    change(&store, &Key::Id(id), &headers, body).await
}

/// Delete a user by name
///
/// Scope: userlist:write.
#[utoipa::path(delete, path = "/v1/users/{name}", operation_id = "deleteUser", params(PathName, WriterHas),
    responses((status = 204, description = "Gone"), Usual, NoSuchUser, ConditionFailed))]
pub(super) async fn delete(
    store: State<Store>,
    PathName(name): PathName,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    remove(&store, &Key::Name(name), &headers).await
}

/// Delete a user by id
///
/// Scope: userlist:write.
#[utoipa::path(delete, path = "/v1/users/by-id/{id}", operation_id = "deleteUserById", params(PathId, WriterHas),
    responses((status = 204, description = "Gone"), Usual, NoSuchUser, ConditionFailed))]
pub(super) async fn delete_by_id(
    store: State<Store>,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    remove(&store, &Key::Id(id), &headers).await
}

async fn find(store: &Store, key: &Key, headers: &HeaderMap) -> Result<Response, Problem> {
    let user = store.get(key).await.map_err(|error| problem(&error))?;
    if input::is_known(headers, &user) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, input::etag(&user))]).into_response());
    }
    Ok(one(&user).into_response())
}

async fn change(store: &Store, key: &Key, headers: &HeaderMap, patch: Map<String, Value>) -> Result<Response, Problem> {
    let changes = input::changes(patch)?;
    let condition = input::condition(headers)?;
    let user = store.patch(key, &changes, &condition).await.map_err(|error| problem(&error))?;
    Ok(one(&user).into_response())
}

/// A user that another request creates or deletes in between is changed, or created, at the next attempt.
async fn change_or_create(
    store: &Store,
    name: UserName,
    headers: &HeaderMap,
    patch: Map<String, Value>,
) -> Result<Response, Problem> {
    let changes = input::changes(patch)?;
    let condition = input::condition(headers)?;
    let key = Key::Name(name.clone());
    for _ in 0..ATTEMPTS {
        match store.patch(&key, &changes, &condition).await {
            // If-Match is about a user that exists.
            Err(StoreError::NoSuchUser) if condition == Condition::Always => {}
            changed => return Ok(one(&changed.map_err(|error| problem(&error))?).into_response()),
        }
        match store.create(&input::new_user(&name, &changes)?).await {
            Err(StoreError::UserExists) => {}
            created => {
                let user = created.map_err(|error| problem(&error))?;
                return Ok((StatusCode::CREATED, one(&user)).into_response());
            }
        }
    }
    Err(problem(&StoreError::UserExists))
}

async fn remove(store: &Store, key: &Key, headers: &HeaderMap) -> Result<StatusCode, Problem> {
    store.delete(key, &input::condition(headers)?).await.map_err(|error| problem(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn one(user: &User) -> impl axum::response::IntoResponse + use<> {
    ([(header::ETAG, input::etag(user))], Json(user.clone()))
}
