//! What clients send, checked: names and ids in paths, bodies, conditions in headers.

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
};
use discovery::FieldError;
use serde::Deserialize;
use serde_json::{Map, Value};
use service_kit::{Problem, json::Object};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::{
    error::invalid,
    query::{cut, each_once, flag},
};
use crate::{
    store::Condition,
    user::{
        self, AttributeChanges, Attributes, Changes, Draft, EmailAddress, NewUser, Status, Tags, User, UserId,
        UserName, openapi::tags,
    },
};

/// `{name}` in a path, percent-decoded: `a/b` is sent as `a%2Fb`.
pub(super) struct PathName(pub(super) UserName);

/// `{id}` in a path.
pub(super) struct PathId(pub(super) UserId);

/// The body of `POST /v1/users`; `PUT /v1/users/{name}` may leave the name out.
#[derive(Deserialize, ToSchema)]
#[schema(as = PutUser, description = "A user as it is to be.")]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    /// Only the one in the path
    #[schema(min_length = 1, max_length = 128)]
    pub(super) name: Option<String>,
    #[schema(value_type = EmailAddress, inline)]
    email: String,
    #[schema(value_type = Option<Status>)]
    status: Option<String>,
    #[schema(value_type = Option<Tags>, inline)]
    tags: Option<Vec<String>>,
    #[schema(value_type = Option<Attributes>, inline)]
    attributes: Option<Object>,
}

/// [`UserBody`] where no path says the name.
pub(super) struct NewUserBody;

impl PartialSchema for NewUserBody {
    fn schema() -> RefOr<Schema> {
        let mut schema = UserBody::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.properties.insert("name".to_owned(), UserName::schema());
            object.required.push("name".to_owned());
        }
        schema
    }
}

impl ToSchema for NewUserBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "NewUser".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        UserBody::schemas(schemas);
    }
}

/// The body of `PATCH /v1/users/{name}`: what [`changes`] reads.
#[derive(ToSchema)]
#[schema(as = Patch, description = "A merge patch (RFC 7396).")]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read from a map, in which null is not absent")]
pub(super) struct PatchBody {
    #[schema(inline, required = false)]
    name: UserName,
    #[schema(inline, required = false)]
    email: EmailAddress,
    status: Option<Status>,
    #[schema(inline)]
    tags: Option<Tags>,
    #[schema(inline)]
    attributes: Option<Attributes>,
}

/// The body of `PATCH /v1/users`: what is to be different about all of them.
#[derive(Deserialize, ToSchema)]
#[schema(as = BulkChange, description = "At least one of these", min_properties = 1)]
#[serde(deny_unknown_fields)]
pub(super) struct BulkBody {
    #[schema(value_type = Option<Status>)]
    status: Option<String>,
    #[serde(default)]
    #[schema(schema_with = tags, required = false)]
    add_tags: Vec<String>,
    #[serde(default)]
    #[schema(schema_with = tags, required = false)]
    remove_tags: Vec<String>,
    /// A merge patch (RFC 7396)
    #[schema(value_type = Option<Object>)]
    attributes: Option<Object>,
}

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        name(&segment(parts, state).await?).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = segment(parts, state).await?.parse().ok().filter(|&id| id > 0);
        id.map(|id| Self(UserId(id))).ok_or_else(|| Problem::field("id", "it must be a number from 1"))
    }
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Problem> {
    let malformed = "the path is not percent-encoded UTF-8";
    let Path(segment) = Path::<String>::from_request_parts(parts, state)
        .await
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed_path", malformed))?;
    Ok(segment)
}

/// A name.
pub(super) fn name(name: &str) -> Result<UserName, Problem> {
    name.parse().map_err(|error| invalid([error]))
}

/// A name and an address; when both are wrong, both are named.
pub(super) fn user(name: &str, email: &str) -> Result<NewUser, Problem> {
    match (name.parse::<UserName>(), user::email(email)) {
        (Ok(name), Ok(email)) => Ok(NewUser::new(name, email)),
        (name, email) => Err(invalid([name.err(), email.err()].into_iter().flatten())),
    }
}

// === impl UserBody ===

impl UserBody {
    /// The user that the body describes; all mistakes at once.
    pub(super) fn into_user(self, name: &str) -> Result<NewUser, Problem> {
        let Self { email, status, tags, attributes, .. } = self;
        let name = Some(name.to_owned());
        let email = Some(email);
        let attributes = attributes.map(|Object(attributes)| attributes);
        Draft { name, email, status, tags, attributes, ..Draft::default() }.check().map_err(invalid)
    }
}

// === impl BulkBody ===

impl BulkBody {
    /// The changes that the body asks for; all mistakes at once.
    pub(super) fn into_changes(self) -> Result<Changes, Problem> {
        let Self { status, add_tags, remove_tags, attributes } = self;
        let tags = |field: &'static str, tags: &[String]| {
            Tags::parse(tags.iter().map(String::as_str)).map_err(|error| error.under(field))
        };
        let status = status.map(|status| status.parse::<Status>()).transpose();
        let added = tags("add_tags", &add_tags);
        let removed = tags("remove_tags", &remove_tags);
        let attributes = attributes.map(|Object(patch)| Attributes::new(patch.clone()).map(|_| patch)).transpose();
        let both = add_tags.iter().any(|tag| remove_tags.contains(tag));
        let both = both.then(|| FieldError::new("remove_tags", "it has a tag that is to be added as well"));
        match (status, added, removed, attributes, both) {
            (Ok(status), Ok(added_tags), Ok(removed_tags), Ok(attributes), None) => {
                let attributes = attributes.map(AttributeChanges::Merge);
                let changes = Changes { status, added_tags, removed_tags, attributes, ..Changes::default() };
                if changes == Changes::default() {
                    let reason = "it changes nothing; give status, add_tags, remove_tags or attributes";
                    return Err(Problem::field("body", reason));
                }
                Ok(changes)
            }
            (status, added, removed, attributes, both) => {
                let errors = [status.err(), added.err(), removed.err(), attributes.err(), both];
                Err(invalid(errors.into_iter().flatten()))
            }
        }
    }
}

/// What a merge patch (RFC 7396) of a user asks for. `null` brings a default back; a name or an address has none.
pub(super) fn changes(patch: Map<String, Value>) -> Result<Changes, Problem> {
    let mut changes = Changes::default();
    let mut errors = Vec::new();
    for (field, value) in patch {
        if let Err(error) = change(&mut changes, &field, value) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(changes) } else { Err(invalid(errors)) }
}

fn change(changes: &mut Changes, field: &str, value: Value) -> Result<(), FieldError> {
    let wrong = |reason: &str| Err(FieldError::new(cut(field), reason));
    match (field, value) {
        ("name", Value::String(name)) => changes.name = Some(name.parse()?),
        ("email", Value::String(email)) => changes.email = Some(user::email(&email)?),
        ("name" | "email", _) => return wrong("it must be a string; it cannot be removed"),
        ("status", Value::String(status)) => changes.status = Some(status.parse()?),
        ("status", Value::Null) => changes.status = Some(Status::default()),
        ("status", _) => return wrong("it must be active, unsubscribed, bounced, or null for active"),
        ("tags", Value::Array(tags)) => changes.tags = Some(strings(&tags)?),
        ("tags", Value::Null) => changes.tags = Some(Tags::default()),
        ("tags", _) => return wrong("it must be a list of strings, or null for none"),
        ("attributes", Value::Object(patch)) => {
            // Refused here, and not only when it meets a user, what no user could have.
            Attributes::new(patch.clone())?;
            changes.attributes = Some(AttributeChanges::Merge(patch));
        }
        ("attributes", Value::Null) => changes.attributes = Some(AttributeChanges::Replace(Attributes::default())),
        ("attributes", _) => return wrong("it must be an object, or null for none"),
        ("id" | "version" | "created_at" | "updated_at", _) => return wrong("it cannot be changed; leave it out"),
        _ => return wrong("it is unknown; there are name, email, status, tags and attributes"),
    }
    Ok(())
}

/// Whether `PATCH /v1/users/{name}` may create the user.
pub(super) fn is_creating(query: &str) -> Result<bool, Problem> {
    let mut is_creating = false;
    let errors = each_once(query, |key, value| match key {
        "create" => flag("create", value).map(|is| is_creating = is),
        _ => Err(FieldError::new(cut(key), "it is unknown; there is create")),
    });
    if errors.is_empty() { Ok(is_creating) } else { Err(invalid(errors)) }
}

/// The user that a patch of an absent one describes.
pub(super) fn new_user(name: &UserName, changes: &Changes) -> Result<NewUser, Problem> {
    let Changes { name: renamed, email, status, tags, added_tags, attributes, removed_tags: _ } = changes.clone();
    if renamed.is_some_and(|renamed| renamed != *name) {
        return Err(Problem::field("name", "no user has the name in the path, so there is none to rename"));
    }
    let missing = || Problem::field("email", "it is missing; no user has that name yet");
    let attributes = match attributes {
        Some(AttributeChanges::Replace(attributes)) => Some(attributes),
        Some(AttributeChanges::Merge(patch)) => Some(Attributes::new(patch).map_err(|error| invalid([error]))?),
        None => None,
    };
    Ok(NewUser { name: name.clone(), email: email.ok_or_else(missing)?, status, tags, added_tags, attributes })
}

fn strings(tags: &[Value]) -> Result<Tags, FieldError> {
    let texts: Option<Vec<&str>> = tags.iter().map(Value::as_str).collect();
    Tags::parse(texts.ok_or_else(|| FieldError::new("tags", "it must be a list of strings"))?)
}

/// The `ETag` of a user: which one, in which version.
pub(super) fn etag(user: &User) -> String {
    format!("\"{}-{}\"", user.id.0, user.version)
}

/// What `If-Match` and `If-None-Match` ask for.
///
/// Neither is required, and so there is no 428: the plainest client can change a user, and the last one wins. A
/// client that reads before it writes sends `If-Match`, and gets 412 when another change came in between.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let matches = text(headers, &header::IF_MATCH)?;
    let none_match = text(headers, &header::IF_NONE_MATCH)?;
    match (matches.as_deref(), none_match.as_deref()) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some("*"), None) => Ok(Condition::Exists),
        (Some(tags), None) => Ok(Condition::Versions(versions(tags))),
        (None, Some(_)) => Err(Problem::field("If-None-Match", "a change takes only *, for a user who is not there")),
        (Some(_), Some(_)) => Err(Problem::field("If-Match", "it cannot hold together with If-None-Match")),
    }
}

/// Whether a reader has this version already.
pub(super) fn is_known(headers: &HeaderMap, user: &User) -> bool {
    match text(headers, &header::IF_NONE_MATCH) {
        Ok(Some(tags)) if tags == "*" => true,
        // A weak tag will do for reading (RFC 9110, section 13.1.2).
        Ok(Some(tags)) => versions(&tags.replace("W/", "")).contains(&(user.id, user.version)),
        Ok(None) | Err(_) => false,
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| Problem::field(name.as_str().to_owned(), "it is not ASCII"))?;
        values.push(text.trim());
    }
    Ok((!values.is_empty()).then(|| values.join(",")))
}

/// Tags of another form match no user.
fn versions(tags: &str) -> Vec<(UserId, i64)> {
    let version = |tag: &str| {
        let (id, version) = tag.trim().strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
        Some((UserId(id.parse().ok()?), version.parse().ok()?))
    };
    tags.split(',').filter_map(version).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn patch(value: Value) -> Result<Changes, Problem> {
        match value {
            Value::Object(patch) => changes(patch),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn both_wrong_fields_are_named() {
        let problem = user("", "nowhere").unwrap_err();
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["name", "email"]);
    }

    #[test]
    fn a_patch_names_every_field_that_is_wrong() {
        let wrong = json!({"id": 1, "name": null, "email": 5, "status": "away", "tags": ["a b"], "x": 1, "version": 2});
        let problem = patch(wrong).unwrap_err();
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["email", "id", "name", "status", "tags", "version", "x"]);
        for wrong in [json!({"tags": "a"}), json!({"tags": [1]}), json!({"attributes": []}), json!({"status": 1})] {
            assert!(patch(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn null_brings_the_default_back() {
        let changes = patch(json!({"status": null, "tags": null, "attributes": null})).unwrap();
        assert_eq!((changes.status, changes.tags), (Some(Status::Active), Some(Tags::default())));
        assert_eq!(changes.attributes, Some(AttributeChanges::Replace(Attributes::default())));
    }

    #[test]
    fn conditions_are_read_as_rfc_9110_has_them() {
        let read = |name: &'static str, value: &'static str| {
            condition(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]))
        };
        assert_eq!(read("if-match", "*").unwrap(), Condition::Exists);
        assert_eq!(read("if-none-match", "*").unwrap(), Condition::Absent);
        let versions = Condition::Versions(vec![(UserId(17), 3), (UserId(17), 4)]);
        assert_eq!(read("if-match", "\"17-3\", \"17-4\"").unwrap(), versions);
        // A weak tag never matches here (section 13.1.1), nor does one of another making.
        assert_eq!(read("if-match", "W/\"17-3\", \"abc\", 17-3").unwrap(), Condition::Versions(Vec::new()));
        assert!(read("if-none-match", "\"17-3\"").is_err());
    }
}
