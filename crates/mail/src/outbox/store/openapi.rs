//! How what messages are found by, and what is counted, are described in OpenAPI.

use service_kit::openapi::{matching, one_of};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

/// [`Labels::tag`](super::labels::Labels::tag)
pub(crate) struct Tag;

/// [`Labels::metadata`](super::labels::Labels::metadata)
pub(crate) struct Metadata;

/// How many users were left out for each reason of [`Skip`](super::skips::Skip).
pub(crate) struct SkippedBy;

impl PartialSchema for Tag {
    fn schema() -> RefOr<Schema> {
        matching(NAME).description(Some("What kind of message it is; in nothing that is sent")).into()
    }
}

impl ToSchema for Tag {}

impl PartialSchema for Metadata {
    fn schema() -> RefOr<Schema> {
        let value = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(200));
        let object = ObjectBuilder::new().schema_type(Type::Object).property_names(Some(matching(NAME)));
        let object = object.additional_properties(Some(value)).max_properties(Some(20));
        object.description(Some("What else its sender knows it by; in nothing that is sent")).into()
    }
}

impl ToSchema for Metadata {}

impl PartialSchema for SkippedBy {
    fn schema() -> RefOr<Schema> {
        counts().description(Some("How many for each reason of Skip")).into()
    }
}

impl ToSchema for SkippedBy {}

/// What a tag and the name of metadata look like.
const NAME: &str = "^[A-Za-z0-9._-]{1,40}$";

/// A number for each of some words.
fn counts() -> ObjectBuilder {
    let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
    let number = ObjectBuilder::new().schema_type(Type::Integer).format(Some(format)).minimum(Some(0));
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(number))
}

/// Messages of a broadcast by their state.
pub(super) fn deliveries() -> ObjectBuilder {
    counts().description(Some("Messages by state; not in lists"))
}

/// The states of a message.
pub(super) fn message_states() -> ObjectBuilder {
    one_of(&["queued", "delivered", "failed", "cancelled", "suppressed", "partial"])
}

/// The states of a broadcast.
pub(super) fn broadcast_states() -> ObjectBuilder {
    one_of(&["running", "done", "cancelled", "failed"])
}

/// In which header a recipient is.
pub(super) fn kinds() -> ObjectBuilder {
    one_of(&["to", "cc", "bcc"])
}

/// Why a broadcast leaves a user out.
pub(super) fn skip_reasons() -> ObjectBuilder {
    one_of(&["bounce", "complaint", "unsubscribe", "manual", "inactive", "invalid_address", "invalid_template"])
}
