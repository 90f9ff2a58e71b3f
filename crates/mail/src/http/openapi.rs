//! What `/openapi.json` says beside the handlers: what this is, parameters, and which answers many paths have in common.

use service_kit::{
    openapi::{matching, parameter, reference},
    problem_responses,
};
use utoipa::{
    IntoParams, OpenApi,
    openapi::{
        KnownFormat, ObjectBuilder, SchemaFormat, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use crate::{
    message::openapi::{Attachment, Parties, Party},
    outbox::store::{entry::State, openapi::Metadata, openapi::Tag},
};

/// The frame of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mail",
        description = "Sends e-mail: at once, or from an outbox on disk until it is delivered. Errors are RFC 9457 problems with \
                       a stable code.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(State, Attachment, Parties, Party, Tag, Metadata)),
    security((), ("token" = []))
)]
pub(super) struct Description;

problem_responses! {
    /// What any path may answer that asks for a token.
    pub(super) Usual: [
        (401, "No token, or one that is not known"),
        (403, "The token lacks the scope, or a page of another site sent the browser"),
        (503, "The outbox, the SMTP server or userlist cannot be used, or too much is under way"),
    ];
    /// What a path that takes a body may answer.
    pub(super) OfABody: [
        (408, "The body came too slowly"),
        (413, "The body is too large"),
        (422, "A field, parameter or name is wrong, missing or unknown; errors names each"),
    ];
    /// It cannot be read.
    pub(super) Malformed: [(400, "Malformed: not JSON, not percent-encoded, cut off")];
    /// A parameter is wrong.
    pub(super) Invalid: [(422, "A field, parameter or name is wrong, missing or unknown; errors names each")];
    /// It is not there.
    pub(super) NoSuch: [(404, "Nothing has this id, name or address")];
    /// It does not go together with what came before.
    pub(super) Conflict: [(409, "The key came with another body; or nothing is left to do")];
    /// It cannot be written.
    pub(super) DiskFull: [(507, "The disk of the outbox, or the one for large messages, is full")];
    /// The outbox cannot be used, where no token is asked for.
    pub(super) Unavailable: [
        (503, "The outbox, the SMTP server or userlist cannot be used, or too much is under way"),
    ];
    /// What the SMTP server may do while a client waits.
    pub(super) OfSmtp: [
        (502, "The SMTP server refuses the message, or this service, or does not speak SMTP"),
        (504, "The SMTP server did not answer in time"),
    ];
}

/// Defines types that stand for parameters.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: [$($parameter:expr),+ $(,)?];)+) => { $(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    )+ };
}

parameters! {
    /// An id in the path.
    PathId: [parameter("id", ParameterIn::Path, "Its id", some_text())];
    /// A template's name in the path.
    PathName: [parameter("name", ParameterIn::Path, "Its name", some_text())];
    /// The name of a template that is to be.
    NewName: [new_name()];
    /// An address in the path.
    PathAddress: [parameter("address", ParameterIn::Path, "An address", some_text())];
    /// An address in the path that is to be on the list.
    NewAddress: [new_address()];
    /// A reader's token in the path.
    PathToken: [parameter("token", ParameterIn::Path, "From the link", some_text())];
    /// The key of a request: [`super::idempotency_key`].
    Key: [key("Names the request for 24 h: the same key and body get the same answer")];
    /// The key of a broadcast.
    BroadcastKey: [key("Names the request for 24 h: the same key and body are one broadcast, and get the same answer")];
    /// Which messages a list has.
    Filters: [
        parameter("state", ParameterIn::Query, "With a recipient in this state", reference::<State>()),
        query("to", "To this address", bounded_text(254)),
        query("broadcast", "Of this broadcast", bounded_text(254)),
        query("tag", "With this tag", matching("^[A-Za-z0-9._-]{1,40}$")),
        parameter("metadata", ParameterIn::Query, "With all of this metadata, each NAME:VALUE",
            matching("^[A-Za-z0-9._-]{1,40}:.{1,200}$").to_array_builder().max_items(Some(20))),
        query("limit", "The most messages", limit()),
        query("cursor", CURSOR, bounded_text(254)),
    ];
    /// From where the suppression list is read.
    ListCursor: [query("cursor", CURSOR, bounded_text(300))];
    /// From where a broadcast's skips are read.
    SkipCursor: [query("cursor", CURSOR, number())];
}

const CURSOR: &str = "next_cursor of the page before";

fn key(description: &str) -> Parameter {
    parameter("Idempotency-Key", ParameterIn::Header, description, matching("^[!-~]{1,128}$"))
}

fn new_name() -> Parameter {
    let name = parameter("name", ParameterIn::Path, "Its name", matching("^[A-Za-z0-9._-]{1,64}$"));
    ParameterBuilder::from(name).example(Some("news".into())).build()
}

fn new_address() -> Parameter {
    let address = parameter("address", ParameterIn::Path, "An address", some_text());
    ParameterBuilder::from(address).example(Some("gone@example.com".into())).build()
}

fn query(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema)
}

fn some_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1))
}

fn bounded_text(max: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).max_length(Some(max))
}

fn limit() -> ObjectBuilder {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(200));
    number.default(Some(50.into()))
}

fn number() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(format))
}
