//! etcd's gRPC naming, as `clientv3/naming/endpoints` writes it: `{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}`.
//!
//! A client dials `etcd:///grpc/mail`; its resolver lists and watches `grpc/mail/`. `Addr` has no scheme, and the
//! resolver passes nothing else on. Go's decoder does not mind the case of names, so no other field may be called
//! `op`, `addr` or `metadata`.

use serde::Serialize;

use super::ViewKey;
use crate::{Instance, InstanceId, ServiceName};

/// `endpoints.Endpoint` with its operation, in the order and the case of Go's fields.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update {
    op: u8,
    addr: String,
    metadata: Option<()>,
}

/// An endpoint that is to be added.
const ADD: u8 = 0;

pub(super) fn write(service: &ServiceName, id: &InstanceId, instance: &Instance) -> ViewKey {
    let update = Update { op: ADD, addr: instance.address.to_string(), metadata: None };
    let value = serde_json::to_string(&update).expect("text and numbers are JSON");
    ViewKey::leased(format!("grpc/{service}/{id}"), value)
}
