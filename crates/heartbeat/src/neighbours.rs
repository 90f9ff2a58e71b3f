//! Which instances of a service the registries list: for a service that wants to know whether it is alone.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderValue, Request, header::USER_AGENT},
};
use discovery::{Address, InstanceId, ServiceName};
use serde::Deserialize;
use service_kit::chain;
use url::Url;

use crate::{HeartbeatOptions, RegistryUrl};

/// How long one registry may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Of a longer list nothing is read: who wants to know about so many asks a registry directly.
const LIST_MAX_BYTES: usize = 1024 * 1024;

/// An instance, as a registry lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Neighbour {
    /// Its id; none of a service's one nameless instance, which other registries write.
    pub id: Option<InstanceId>,
    /// Where it is.
    pub address: Address,
    /// What it says about itself beyond that.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Listing {
    instances: Vec<Neighbour>,
}

/// The instances of `service`, this one among them, at the first registry that answers.
///
/// `None` when none does within two seconds each. A token or key needs the scope `SERVICE:read` for this.
pub async fn neighbours(options: &HeartbeatOptions, service: &ServiceName) -> Option<Vec<Neighbour>> {
    for registry in &options.registries {
        match ask(options, registry, registry.instances(service)).await {
            Ok(instances) => return Some(instances),
            Err(reason) => tracing::debug!(%registry, %service, reason, "instances not listed here"),
        }
    }
    None
}

async fn ask(options: &HeartbeatOptions, registry: &RegistryUrl, url: Url) -> Result<Vec<Neighbour>, String> {
    let credentials = &options.credentials;
    let request = Request::get(url.as_str())
        .header(USER_AGENT, HeaderValue::from_static(concat!("muster-heartbeat/", env!("CARGO_PKG_VERSION"))));
    let mut request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
    credentials.prove(&mut request).map_err(|error| chain(&error).to_string())?;
    let client = credentials.client(registry.is_tls()).map_err(|error| chain(&error).to_string())?;
    let answer = client.send(request, DEADLINE, LIST_MAX_BYTES).await.map_err(|error| chain(&error).to_string())?;
    if !answer.status.is_success() {
        return Err(format!("it answered {}", answer.status));
    }
    let listing: Listing = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(listing.instances)
}
