//! go-micro's registry: a service with exactly one node in each value.
//!
//! The reader joins the nodes of one service and version. Its HTTP client takes only nodes whose metadata say
//! `"protocol":"http"`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ViewKey;
use crate::{Instance, InstanceId, Scheme, ServiceName};

/// What go-micro calls a release that has no number.
const UNVERSIONED: &str = "latest";

/// `registry.Service`.
#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    version: &'a str,
    metadata: Option<()>,
    endpoints: Option<()>,
    nodes: [Node<'a>; 1],
}

/// `registry.Node`.
#[derive(Serialize)]
struct Node<'a> {
    metadata: BTreeMap<&'a str, &'a str>,
    id: &'a str,
    address: String,
}

pub(super) fn write(service: &ServiceName, id: &InstanceId, instance: &Instance) -> ViewKey {
    let own = instance.meta.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    // Last, so that nothing in `meta` can say otherwise.
    let metadata = own.chain([("protocol", protocol(instance.scheme))]).collect();
    let node = Node { metadata, id: id.as_str(), address: instance.address.to_string() };
    let version = instance.version.as_deref().unwrap_or(UNVERSIONED);
    let service = Service { name: service.as_str(), version, metadata: None, endpoints: None, nodes: [node] };
    let value = serde_json::to_string(&service).expect("text is JSON");
    ViewKey::leased(format!("/micro/registry/{}/{id}", service.name), value)
}

fn protocol(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::H2c => "grpc",
    }
}
