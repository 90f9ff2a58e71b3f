//! What `/openapi.json` says beside the handlers: what this is, parameters, and which answers many paths have in common.

use service_kit::{
    openapi::{one_of, parameter, reference},
    problem_responses,
};
use utoipa::{
    IntoParams, OpenApi, PartialSchema as _,
    openapi::{
        ObjectBuilder, Type,
        path::{Parameter, ParameterIn},
    },
};

use super::input::{PathId, PathName};
use crate::{
    transfer::Report,
    user::{Status, UserId, UserName},
};

/// The frame of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "userlist",
        description = "Names and e-mail addresses, and what goes with them. Errors are RFC 9457 problems with a stable code.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(Status, Report)),
    security((), ("token" = []))
)]
pub(super) struct Description;

problem_responses! {
    /// What any path may answer.
    pub(super) Usual: [
        (400, "Malformed: not JSON, not percent-encoded, cut off"),
        (401, "No token, or one that is not known"),
        (403, "The token lacks the scope, or a page of another site sent the browser"),
        (422, "A field, parameter or name is wrong, missing or unknown; errors names each"),
        (503, "The database cannot be used, takes no changes or is full"),
    ];
    /// What a path that takes a body may answer.
    pub(super) OfABody: [
        (408, "The body came too slowly"),
        (413, "The body is too large"),
        (415, "A Content-Encoding that is not taken"),
    ];
    /// The user is not there.
    pub(super) NoSuchUser: [(404, "No user has that name or id")];
    /// Another user has it.
    pub(super) Taken: [(409, "Another user has that name or, where addresses are unique, that address")];
    /// A condition in the header does not hold.
    pub(super) ConditionFailed: [(412, "The condition does not hold; nothing was changed")];
}

/// Which users: what [`super::listing::filter`] reads.
pub(super) struct Filters;

/// In which order, how many, from where.
pub(super) struct Paging;

/// Whom a change to many is about, beside [`Filters`].
pub(super) struct ManyAtOnce;

/// How a file is read.
pub(super) struct ImportHow;

/// How a file is written.
pub(super) struct ExportHow;

/// `create=true`
pub(super) struct Creating;

/// The condition of a reader.
pub(super) struct ReaderHas;

/// The condition of a writer.
pub(super) struct WriterHas;

/// The condition of one who may create.
pub(super) struct CreatorHas;

impl IntoParams for PathName {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("name", ParameterIn::Path, "The user's name, percent-encoded", UserName::schema())]
    }
}

impl IntoParams for PathId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("id", ParameterIn::Path, "The user's id", UserId::schema())]
    }
}

impl IntoParams for Filters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let found = "With this text in name or address, whatever its case and however the domain is spelt";
        let attribute =
            "With this text, number, true or false as the attribute KEY, with dots into objects; any number of these";
        vec![
            parameter("status", ParameterIn::Query, "With this status", reference::<Status>()),
            query("tag", "With this tag", text().max_length(Some(64))),
            query("q", found, text().max_length(Some(128))),
            query("email", "With this address, however it is spelt", text()),
            query("name", "With exactly this name", text()),
            query("created_since", "Created at this time or later: RFC 3339, or a day in UTC", text()),
            query("created_before", "Created before this time", text()),
            query("updated_since", "Changed last at this time or later", text()),
            query("updated_before", "Changed last before this time", text()),
            query("attributes.KEY", attribute, text()),
        ]
    }
}

impl IntoParams for Paging {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let orders = one_of(&[
            "id",
            "-id",
            "name",
            "-name",
            "email",
            "-email",
            "created_at",
            "-created_at",
            "updated_at",
            "-updated_at",
        ]);
        let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(1000));
        vec![
            query("sort", "In which order; - for the last first", orders),
            query("limit", "The most users", limit.default(Some(100.into()))),
            query("cursor", "next_cursor of the page before", text()),
        ]
    }
}

impl IntoParams for ManyAtOnce {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query("all", "All users; without a filter it must be true", flag()),
            query("dry_run", "Only report what would be done", flag()),
            query("cursor", "next_cursor of an answer that is not complete", text()),
        ]
    }
}

impl IntoParams for ImportHow {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let separators = one_of(&["comma", "semicolon", "tab"]).default(Some("comma".into()));
        let column = "FIELD:HEADER, a column of a table that has another name than the field (name, email, status, tags, \
                      attributes, attributes.KEY)";
        let packed = "How the file is packed; at most 1 GiB and 100 times what is sent come out of it";
        let added = "A tag that every user of the file gets beside those that they have";
        vec![
            query("format", "Default: what the Content-Type says", one_of(&["csv", "ndjson"])),
            query("dry_run", "Only report what would be done", flag()),
            query("delimiter", "What separates the cells of a table", separators),
            parameter("column", ParameterIn::Query, column, text().to_array_builder()),
            query("ignore_columns", "Pass over columns that mean nothing here", flag()),
            parameter("add_tag", ParameterIn::Query, added, text().max_length(Some(64)).to_array_builder()),
            parameter("Content-Encoding", ParameterIn::Header, packed, one_of(&["gzip", "identity"])),
        ]
    }
}

impl IntoParams for ExportHow {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let spreadsheet =
            "For a spreadsheet, and not to be imported again: formulas begin with ', and there is a byte order mark";
        vec![query("format", "Default: csv", one_of(&["csv", "ndjson"])), query("spreadsheet", spreadsheet, flag())]
    }
}

impl IntoParams for Creating {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query("create", "Create the user when no user has that name; then email is needed", flag())]
    }
}

impl IntoParams for ReaderHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("If-None-Match", ParameterIn::Header, "ETags that the reader has", text())]
    }
}

impl IntoParams for WriterHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "Only this version, an ETag; or * for a user who is there";
        vec![parameter("If-Match", ParameterIn::Header, what, text())]
    }
}

impl IntoParams for CreatorHas {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("If-None-Match", ParameterIn::Header, "* for a user who is not there", one_of(&["*"]))]
    }
}

fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema)
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn flag() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean).default(Some(false.into()))
}
