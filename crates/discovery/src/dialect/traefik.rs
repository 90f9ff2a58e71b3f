//! Traefik's dynamic configuration in a key-value store, at its default root `traefik`.
//!
//! Two lives: the servers come and go with their instances; router, middleware and one key of the service stay, because
//! a service without a single key is gone together with its router, and a request for it gets 404 instead of 503. These
//! are written once and never again, so an operator may edit them, add entry points or TLS, or delete them for good
//! when the service is given up.
//!
//! The route is the one of the suite's own gateway: `/mail/...` goes to an instance of `mail` as `/...`.
//!
//! A server's place in the list must be a number, and gaps are fine: it is a hash of the instance's id. A service whose
//! name is a number is left out, because Traefik would take the name for a place in a list. A weight is written only if
//! it is not 1: releases before 3.0 refuse everything when they meet a field that they do not know.

use super::{ViewKey, ViewValue, fnv};
use crate::{Instance, InstanceId, ServiceName, Weight};

pub(super) fn write(service: &ServiceName, id: &InstanceId, instance: &Instance) -> Vec<ViewKey> {
    if service.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    // 63 bits: Go reads it as a signed number.
    let place = fnv(id.as_str()) >> 1;
    let server = format!("traefik/http/services/{service}/loadbalancer/servers/{place}");
    let weight = match instance.weight {
        weight if weight == Weight::default() => ViewValue::Absent,
        weight => ViewValue::Leased(weight.to_string()),
    };
    let url = format!("{}://{}", instance.scheme, instance.address);
    let mut view = vec![ViewKey::leased(format!("{server}/url"), url)];
    view.push(ViewKey { key: format!("{server}/weight"), value: weight });
    view.extend(kept(service));
    view
}

/// What a service needs once.
fn kept(service: &ServiceName) -> [ViewKey; 5] {
    let name = service.as_str();
    let at = |path: String, value: String| ViewKey::kept(format!("traefik/http/{path}"), value);
    [
        at(format!("routers/{name}/rule"), format!("Path(`/{name}`) || PathPrefix(`/{name}/`)")),
        at(format!("routers/{name}/service"), name.to_owned()),
        at(format!("routers/{name}/middlewares/0"), name.to_owned()),
        at(format!("middlewares/{name}/stripprefix/prefixes/0"), format!("/{name}")),
        at(format!("services/{name}/loadbalancer/passhostheader"), "true".to_owned()),
    ]
}
