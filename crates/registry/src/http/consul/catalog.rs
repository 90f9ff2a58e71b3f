//! Lists in Consul's words.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State, response::Response};
use discovery::{Instance, Registered, ServiceName};
use serde_json::{Value, json};
use service_kit::Problem;

use super::{
    Answer, ConsulFilter, DATACENTER, check_status, headers, read,
    registration::{CHECK_META, check_id},
    wait,
};
use crate::{
    http::{
        Api, SharedApi,
        openapi::Usual,
        path::ServicePath,
        pieces::{ListBody, separated, to_json},
        query::{Pairs, Poll},
    },
    mirror::{Entry, Topic},
};

/// Names and tags.
///
/// As `{"mail":["blue"],"userlist":[]}`.
#[utoipa::path(get, path = "/v1/catalog/services", operation_id = "consul_services", tag = "consul", params(Poll),
    responses(
        (status = 200, description = "The answer.", body = BTreeMap<String, Vec<String>>,
            headers(
                ("X-Consul-Index" = u64, description = "The index."),
                ("X-Consul-Knownleader" = String, description = "Whether etcd is reached."),
                ("X-Consul-Lastcontact" = u64, description = "Milliseconds since etcd's last word."),
            )),
        Usual,
    ))]
pub(super) async fn services(State(api): State<SharedApi>, pairs: Pairs) -> Answer {
    let (_, poll) = read(&pairs)?;
    wait(&api, Topic::Services, &poll).await?;
    let (index, services) = api.catalog.read_all();
    let tags = |entries: &[std::sync::Arc<Entry>]| -> BTreeSet<String> {
        entries.iter().flat_map(|entry| entry.registered.instance.tags.iter().cloned()).collect()
    };
    let services: BTreeMap<&str, _> =
        services.iter().map(|service| (service.name.as_str(), tags(&service.instances))).collect();
    Ok((headers(&api.catalog, index), Json(json!(services))))
}

/// All instances of one service.
///
/// However they are.
#[utoipa::path(get, path = "/v1/catalog/service/{service}", operation_id = "consul_service", tag = "consul", params(ServicePath, ConsulFilter, Poll),
    responses(
        (status = 200, description = "The answer.", body = Vec<Object>,
            headers(
                ("X-Consul-Index" = u64, description = "The index."),
                ("X-Consul-Knownleader" = String, description = "Whether etcd is reached."),
                ("X-Consul-Lastcontact" = u64, description = "Milliseconds since etcd's last word."),
            )),
        Usual,
    ))]
pub(super) async fn service(
    State(api): State<SharedApi>,
    ServicePath(name): ServicePath,
    pairs: Pairs,
) -> Result<Response, Problem> {
    list(&api, name, &pairs, catalog_entry).await
}

/// The same with their checks.
#[utoipa::path(get, path = "/v1/health/service/{service}", operation_id = "consul_health", tag = "consul", params(ServicePath, ConsulFilter, Poll),
    responses(
        (status = 200, description = "The answer.", body = Vec<Object>,
            headers(
                ("X-Consul-Index" = u64, description = "The index."),
                ("X-Consul-Knownleader" = String, description = "Whether etcd is reached."),
                ("X-Consul-Lastcontact" = u64, description = "Milliseconds since etcd's last word."),
            )),
        Usual,
    ))]
pub(super) async fn health(
    State(api): State<SharedApi>,
    ServicePath(name): ServicePath,
    pairs: Pairs,
) -> Result<Response, Problem> {
    list(&api, name, &pairs, health_entry).await
}

async fn list(api: &Api, name: ServiceName, pairs: &Pairs, show: fn(&Entry) -> Value) -> Result<Response, Problem> {
    let (filter, poll) = read(pairs)?;
    wait(api, Topic::Service(name.clone()), &poll).await?;
    let (index, view) = api.catalog.read(&name);
    let entries = view.iter().flat_map(|view| &view.instances).filter(|entry| filter.matches(entry));
    let entries: Vec<_> = entries.cloned().collect();
    // One at a time, when the client takes it.
    let shown = separated(entries.into_iter().map(move |entry| to_json(&show(&entry)).into()));
    Ok(ListBody::new(Vec::new(), shown, b"").answer(headers(&api.catalog, index)))
}

fn catalog_entry(entry: &Entry) -> Value {
    let Registered { key, instance, created, modified, .. } = &entry.registered;
    let id = id(entry);
    let host = instance.address.host.to_string();
    json!({
        "ID": "", "Node": id, "Address": host, "Datacenter": DATACENTER, "TaggedAddresses": {}, "NodeMeta": {},
        "CreateIndex": created.0, "ModifyIndex": modified.0,
        "ServiceID": id, "ServiceName": key.service, "ServiceAddress": host, "ServicePort": instance.address.port,
        "ServiceTags": instance.tags, "ServiceMeta": meta(instance), "ServiceWeights": weights(instance),
        "ServiceEnableTagOverride": false,
    })
}

fn health_entry(entry: &Entry) -> Value {
    let Registered { key, instance, created, modified, .. } = &entry.registered;
    let id = id(entry);
    let host = instance.address.host.to_string();
    json!({
        "Node": {
            "ID": "", "Node": id, "Address": host, "Datacenter": DATACENTER, "TaggedAddresses": {}, "Meta": {},
        },
        "Service": {
            "ID": id, "Service": key.service, "Tags": instance.tags, "Address": host, "Port": instance.address.port,
            "Meta": meta(instance), "Weights": weights(instance), "EnableTagOverride": false,
            "CreateIndex": created.0, "ModifyIndex": modified.0,
        },
        "Checks": [{
            "Node": id, "CheckID": check_id(instance, &id), "Name": "heartbeat", "Status": check_status(entry),
            "Notes": "", "Output": output(entry), "ServiceID": id, "ServiceName": key.service,
            "ServiceTags": instance.tags, "Type": "ttl", "Definition": {},
            "CreateIndex": created.0, "ModifyIndex": modified.0,
        }],
    })
}

/// What the check says: `critical: the database is gone`.
fn output(entry: &Entry) -> String {
    let status = entry.status();
    entry.reason().map_or_else(|| status.to_string(), |reason| format!("{status}: {reason}"))
}

/// A nameless instance is named as its service.
fn id(entry: &Entry) -> String {
    entry.id().map_or_else(|| entry.registered.key.service.to_string(), ToString::to_string)
}

/// Without what only we have written there.
fn meta(instance: &Instance) -> BTreeMap<&String, &String> {
    instance.meta.iter().filter(|(key, _)| *key != CHECK_META).collect()
}

fn weights(instance: &Instance) -> Value {
    json!({ "Passing": instance.weight, "Warning": 1 })
}
