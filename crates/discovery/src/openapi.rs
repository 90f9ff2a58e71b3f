//! How values that JSON has as a string or a number are described in OpenAPI. Structs derive their description.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    Address, HealthPath, Incarnation, InstanceId, Life, Origin, Reason, Scheme, ServiceName, SettingKey, Status, Weight,
};

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
    Address: text("Host and port.").examples(["10.0.0.5:7070"]);
    HealthPath: text("A path that is asked whether the instance is well.").pattern(Some("^/"));
    Incarnation: text("One life of a registration: the etcd lease that it lives by.").pattern(Some("^[0-7][0-9a-f]{15}$"));
    InstanceId: text("Neither . nor ..").pattern(Some("^[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,127}$"));
    Life: text("Which life a heartbeat is of: one that begins, or the one of the last reply. Absent: whichever is registered.")
        .pattern(Some("^(new(:[0-7][0-9a-f]{15})?|[0-7][0-9a-f]{15})$"));
    Origin: text("What keeps it registered: its heartbeats, a registry that has it in its table, the lease of another framework's \
                  registration, or nothing: a key without a lease.").enum_values(Some(["heartbeat", "table", "import", "hand"]));
    Reason: text("Why it is not passing: one line.").min_length(Some(1)).max_length(Some(Self::MAX_CHARS));
    Scheme: text("The protocol that an instance speaks.").enum_values(Some(["http", "https", "h2c"]));
    ServiceName: text("The name of a service.").pattern(Some("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"));
    SettingKey: text("The name of a setting.")
        .pattern(Some("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,7}$")).max_length(Some(Self::MAX_BYTES));
    Status: text("What an instance says about itself, or an operator about it.")
        .enum_values(Some(["passing", "degraded", "draining", "critical"]));
    Weight: ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(1000))
        .description(Some("An instance's share of the traffic of its service."));
}

/// [`crate::Instance::tags`].
#[must_use]
pub fn tags() -> ArrayBuilder {
    let tag = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(256));
    ArrayBuilder::new().items(tag).unique_items(true).max_items(Some(32)).description(Some("Labels to select by."))
}

/// [`crate::Instance::meta`].
#[must_use]
pub fn meta() -> ObjectBuilder {
    let value = ObjectBuilder::new().schema_type(Type::String).max_length(Some(256));
    let object = ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(Schema::from(value)));
    let what = "Whatever else is worth knowing; keys are 1 to 64 of `[A-Za-z0-9._/-]`.";
    object.max_properties(Some(32)).description(Some(what))
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}
