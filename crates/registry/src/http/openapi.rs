//! What `/openapi.json` says beside the handlers: what this is, and which answers many paths have in common.

use discovery::{InstanceId, ServiceName, SettingKey};
use service_kit::problem_responses;
use utoipa::{
    OpenApi,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::listing::{InstanceEntry, TombstoneEntry};

/// The frame of the description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Muster registry",
        version = "1",
        description = "Heartbeats in, discovery out. With tokens configured, every path but this one's neighbours /healthz, /readyz \
                       and /metrics wants `Authorization: Bearer`. 403 `cross_site` and `host_not_allowed` are for browsers that a \
                       page of another site has sent.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "/")),
    tags((name = "registry"), (name = "config"), (name = "consul")),
    components(schemas(ServiceName, InstanceId, SettingKey, InstanceEntry, TombstoneEntry)),
    security((), ("token" = []))
)]
pub(super) struct Description;

/// What a problem has here when a registration goes on although its heartbeat was refused.
pub(super) fn holds_ms() -> (&'static str, RefOr<Schema>) {
    let what = "The instance stays registered as before for that long, although its heartbeat was not taken as it is.";
    let milliseconds = ObjectBuilder::new().schema_type(Type::Integer).description(Some(what));
    ("holds_ms", milliseconds.into())
}

problem_responses! {
    /// What any path may answer.
    pub(super) Usual: [
        (400, "Not JSON, not text, or an expression that is not understood."),
        (401, "No token, or not a good one."),
        (403, "The token does not allow it, or the address may not be announced."),
        (408, "The body was not complete in time."),
        (413, "The body is too large."),
        (422, "A parameter or field is wrong; `errors` names it."),
        (429, "Too many requests, registrations or clients that wait, or more than may be written to etcd."),
        (503, "etcd cannot be read or written now; retry later."),
    ];
    /// What a path without parameters may answer.
    pub(super) UsualOfAList: [
        (401, "No token, or not a good one."),
        (403, "The token does not allow it, or the address may not be announced."),
        (429, "Too many requests, or too many registrations."),
        (503, "etcd cannot be read or written now; retry later."),
    ];
    /// What a path may answer that needs no etcd.
    pub(super) UsualOfMemory: [
        (401, "No token, or not a good one."),
        (403, "The token does not allow it."),
        (429, "Too many requests."),
    ];
    /// The instance is not there.
    pub(super) NoSuch: [(404, "There is none.")];
    /// Of a life that has ended, or whose id another one holds.
    pub(super) AnotherLife: [(409, "It is of a life that does not hold the instance id.")];
    /// An id without its service.
    pub(super) SeveralHaveIt: [(409, "Several instances have this id.")];
    /// A condition in the header does not hold.
    pub(super) NotAsExpected: [(412, "It is not as the condition says.")];
}
