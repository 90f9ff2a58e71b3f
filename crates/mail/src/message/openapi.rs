//! How what is read by hand from a request is described in OpenAPI: recipients and files.

use service_kit::openapi::reference;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, ObjectBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, AnyOfBuilder},
    },
};

/// One recipient: what [`super::recipient_spec`] reads.
pub(crate) struct Party;

/// One, several or none.
pub(crate) struct Parties;

/// A file of a request.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what is read as it comes in, its content into a file")]
pub(crate) struct Attachment {
    #[schema(min_length = 1, max_length = 200)]
    filename: String,
    /// application/octet-stream when left out
    #[schema(max_length = 100)]
    content_type: Option<String>,
    #[schema(content_encoding = "base64")]
    content: String,
}

impl PartialSchema for Party {
    fn schema() -> RefOr<Schema> {
        let written = text().description(Some("dong@example.com or Dong <dong@example.com>"));
        let address = closed().property("email", text()).required("email");
        let address = address.property("name", text().max_length(Some(200)));
        let user = text().min_length(Some(1)).description(Some("A name that userlist knows"));
        let user = closed().property("user", user).required("user");
        AnyOfBuilder::new().item(written).item(address).item(user).into()
    }
}

impl ToSchema for Party {}

impl PartialSchema for Parties {
    fn schema() -> RefOr<Schema> {
        let several = ArrayBuilder::new().items(reference::<Party>()).max_items(Some(50));
        let none = ObjectBuilder::new().schema_type(Type::Null);
        AnyOfBuilder::new().item(reference::<Party>()).item(several).item(none).into()
    }
}

impl ToSchema for Parties {}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An object without other fields.
fn closed() -> ObjectBuilder {
    let others = AdditionalProperties::FreeForm(false);
    ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(others))
}

/// The headers that a request may set.
pub(crate) fn headers() -> ObjectBuilder {
    let what = "X-…, List-…, References, In-Reply-To, Auto-Submitted, Precedence, Importance, Feedback-ID";
    let object = ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(text().min_length(Some(1))));
    object.max_properties(Some(20)).description(Some(what))
}
