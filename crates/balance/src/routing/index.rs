//! What `/` says: which services there are. A first look for a person with curl; no addresses, no reasons.

use serde_json::{Value, json};

use crate::table::routing_table::RoutingTable;

/// The services by name with the number of instances that take requests; without services when `is_on` is false.
pub(crate) fn listing(table: &RoutingTable, is_on: bool) -> Value {
    let usage = "/SERVICE/... goes to an instance of SERVICE";
    if !is_on {
        return json!({ "gateway": "balance", "usage": usage });
    }
    let services: serde_json::Map<String, Value> = table
        .services()
        .into_iter()
        .map(|service| (service.name.to_string(), json!({ "instances": service.balancer.candidate_set().all().len() })))
        .collect();
    json!({ "gateway": "balance", "usage": usage, "services": services })
}
