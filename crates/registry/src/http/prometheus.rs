//! `GET /v1/prometheus/targets`: every instance as a target of Prometheus' `http_sd_configs`.
//!
//! Prometheus wants the whole list each time and keeps what it has when it gets an error. So an answer that may be old is
//! none: etcd that cannot be read now is 503, never a list without those who came since, and never an empty one.
//! (<https://prometheus.io/docs/prometheus/latest/http_sd/>)

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use discovery::{Instance, Scheme, ServiceName};
use serde::Serialize;
use service_kit::{
    Problem,
    openapi::{parameter, reference},
};
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    SharedApi,
    openapi::Usual,
    query::{Filter, Pairs, unknown},
};
use crate::{error, mirror::Entry};

/// One instance with its labels.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TargetGroup {
    #[schema(value_type = Vec<String>)]
    targets: [String; 1],
    labels: BTreeMap<String, String>,
}

/// `service=mail`
pub(super) struct OnlyService;

impl IntoParams for OnlyService {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameter("service", ParameterIn::Query, "Only this service.", reference::<ServiceName>())]
    }
}

/// Every instance, for Prometheus' `http_sd_configs`.
#[utoipa::path(get, path = "/v1/prometheus/targets", operation_id = "prometheus_targets", tag = "registry",
    params(OnlyService, Filter),
    responses((status = 200, description = "The answer.", body = Vec<TargetGroup>), Usual))]
pub(super) async fn targets(
    State(api): State<SharedApi>,
    Pairs(pairs): Pairs,
) -> Result<Json<Vec<TargetGroup>>, Problem> {
    let mut filter = Filter::default();
    let mut only = None;
    for (name, value) in &pairs {
        if name == "service" {
            only = Some(value.parse::<ServiceName>().map_err(error::field)?);
        } else if !filter.take(name, value)? {
            return Err(unknown(name, "service, passing, zone, tag and version"));
        }
    }
    api.catalog.fresh()?;
    let mut services = api.catalog.services();
    services.retain(|service| only.as_ref().is_none_or(|only| service.name == *only));
    let entries = services.iter().flat_map(|service| &service.instances).filter(|entry| filter.matches(entry));
    Ok(Json(entries.map(|entry| TargetGroup::from(&**entry)).collect()))
}

impl From<&Entry> for TargetGroup {
    fn from(entry: &Entry) -> Self {
        let Instance { address, scheme, weight, zone, version, health, tags, meta, .. } = &entry.registered.instance;
        let mut labels = BTreeMap::new();
        let mut label = |name: &str, value: String| drop(labels.insert(format!("__meta_muster_{name}"), value));
        label("service", entry.registered.key.service.to_string());
        label("instance", entry.id().map(ToString::to_string).unwrap_or_default());
        label("status", entry.status().to_string());
        label("scheme", scheme.to_string());
        label("weight", weight.to_string());
        // Between commas, as Prometheus' own consul_sd has it: "(,blue,)" finds a whole tag.
        label("tags", tags.iter().fold(",".to_owned(), |tags, tag| tags + tag + ","));
        label("zone", zone.clone().unwrap_or_default());
        label("version", version.clone().unwrap_or_default());
        label("health", health.as_ref().map(ToString::to_string).unwrap_or_default());
        for (key, value) in meta {
            label(&format!("meta_{}", key.replace(|c: char| !c.is_ascii_alphanumeric(), "_")), value.clone());
        }
        if *scheme == Scheme::Https {
            labels.insert("__scheme__".to_owned(), scheme.to_string());
        }
        Self { targets: [address.to_string()], labels }
    }
}
