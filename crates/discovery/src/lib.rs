//! The shared language of the suite: what a service, an instance and an update are, and how they are written.
//!
//! The flow is the table of contents. A [`heartbeat`] names a [`ServiceName`] and an [`Instance`]; the registry writes
//! it under an [`InstanceKey`] for one [`Ttl`]; readers get it back as [`Registered`] in an [`Update`].
//!
//! Nothing here does I/O, knows a clock or can panic on any input. Writers are strict ([`Instance`]'s `Display`),
//! readers are liberal ([`Instance::parse`]), and every refusal is a [`FieldError`] that names the field and says what
//! to change. Every value that is written is read back the same; property tests hold both to it.

mod access_key;
mod address;
pub mod deadlines;
pub mod dialect;
mod field_error;
pub mod forbidden;
mod health_path;
pub mod heartbeat;
mod idempotency_key;
pub mod import;
mod incarnation;
mod instance;
mod instance_id;
mod key;
mod open_access;
pub mod openapi;
mod origin;
mod overriding;
pub mod policy;
pub mod proof;
mod reason;
mod registered;
mod scheme;
mod service;
mod setting_key;
mod status;
mod text;
mod ttl;
mod update;
mod value;
mod weight;

pub use access_key::{AccessKey, AccessKeyId};
pub use address::{Address, Host, HostName};
pub use dialect::Dialect;
pub use field_error::FieldError;
pub use forbidden::ForbiddenIp;
pub use health_path::HealthPath;
pub use idempotency_key::HonouredKeys;
pub use incarnation::{Incarnation, Life, OtherHolder};
pub use instance::Instance;
pub use instance_id::InstanceId;
pub use key::{CONFIG_PREFIX, InstanceKey, OVERRIDE_PREFIX, SERVICE_PREFIX};
pub use open_access::OpenAccess;
pub use origin::Origin;
pub use overriding::Override;
pub use reason::Reason;
pub use registered::{LeaseId, Registered, Revision};
pub use scheme::Scheme;
pub use service::ServiceName;
pub use setting_key::SettingKey;
pub use status::Status;
pub use ttl::Ttl;
pub use update::Update;
pub use weight::Weight;
