//! How the values of a user are described in OpenAPI.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

use super::{Attributes, Tags, UserId, UserName};

/// Gives each type its description.
macro_rules! described {
    ($($type:ident: $description:expr;)+) => { $(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $description.into()
            }
        }

        impl ToSchema for $type {}
    )+ };
}

described! {
    UserId: ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).minimum(Some(1));
    UserName: ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(Self::MAX_CHARS))
        .description(Some("Unique; kept apart by case and accents"));
    Tags: tags();
    Attributes: ObjectBuilder::new().schema_type(Type::Object)
        .description(Some("At most 8 KiB and 8 levels, keys of at most 64 characters, none twice; numbers of 64 bits"));
}

/// A list of tags; one that is there twice counts once.
pub(crate) fn tags() -> ArrayBuilder {
    let tag = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(64));
    ArrayBuilder::new().items(tag).max_items(Some(32))
}
