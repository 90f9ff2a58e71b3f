//! What a program tells a Consul agent about itself. Pure.
//!
//! Consul's decoder does not look at the case of names, and clients make use of that: `Name` and `name` are the same.
//! Fields that mean nothing here (`Connect`, `TaggedAddresses`, …) are let pass.

use std::{num::NonZeroU16, time::Duration};

use discovery::{Address, FieldError, HealthPath, Host, Instance, InstanceId, InstanceKey, Status, Ttl, Weight};
use serde_json::{Map, Value};

use crate::registrar::Heartbeat;

/// The heartbeat that a registration is, for a client that connects from `client`.
///
/// # Errors
///
/// The first field that is missing or makes no sense.
pub(super) fn read(body: &Map<String, Value>, client: Host) -> Result<Heartbeat, FieldError> {
    let name = text(body, "Name")?.ok_or_else(|| FieldError::new("Name", "is missing"))?;
    let service = name.parse().map_err(|error: FieldError| error.under("Name"))?;
    let id = text(body, "ID")?.filter(|id| !id.is_empty()).unwrap_or(name);
    let id = id.parse::<InstanceId>().map_err(|error| error.under("ID"))?.in_one_spelling();
    let host = match text(body, "Address")? {
        None | Some("") => client,
        Some(host) => host.parse().map_err(|error: FieldError| error.under("Address"))?,
    };
    let mut instance = Instance::at(Address { host, port: port(body)? });
    let check = ttl_check(body)?;
    instance.status = check.status;
    instance.health = check.health;
    instance.weight = weight(body)?;
    instance.tags = strings(body, "Tags")?.into_iter().collect();
    if let Some(meta) = get(body, "Meta").filter(|meta| !meta.is_null()) {
        let meta = serde_json::from_value(meta.clone());
        instance.meta = meta.map_err(|_| FieldError::new("Meta", "is not an object of strings"))?;
    }
    instance.check()?;
    Ok(Heartbeat { key: InstanceKey::new(service, id), instance, ttl: check.ttl, life: None })
}

/// How long a registration is good for, how it begins, and where the gateway may ask.
struct TtlCheck {
    ttl: Ttl,
    status: Status,
    health: Option<HealthPath>,
}

/// The TTL check among `Check` and `Checks`. One that is probed by HTTP says, beside it, where the gateway may ask.
fn ttl_check(body: &Map<String, Value>) -> Result<TtlCheck, FieldError> {
    let several = get(body, "Checks").and_then(Value::as_array).into_iter().flatten();
    let checks: Vec<_> = get(body, "Check").into_iter().chain(several).filter_map(Value::as_object).collect();
    let mut found = None;
    let mut health = None;
    for check in checks {
        if let Some(ttl) = text(check, "TTL")?.filter(|ttl| !ttl.is_empty()) {
            found = Some((ttl, text(check, "Status")?.unwrap_or("critical")));
        } else if let Some(url) = text(check, "HTTP")?.and_then(|url| url::Url::parse(url).ok()) {
            health = url.path().parse().ok();
        }
    }
    let Some((ttl, status)) = found else {
        let what =
            "needs a TTL (\"Check\":{\"TTL\":\"10s\"}) and heartbeats by check/pass: the registry itself probes nobody";
        return Err(FieldError::new("Check", what));
    };
    let millis = go_duration(ttl).and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    let millis = millis.ok_or_else(|| FieldError::new("Check.TTL", "is not a duration such as \"10s\""))?;
    let ttl = Ttl::from_millis(millis).map_err(|error| error.under("Check.TTL"))?;
    let status = status_of(status).ok_or_else(|| FieldError::new("Check.Status", STATUSES))?;
    Ok(TtlCheck { ttl, status, health })
}

/// What is wrong with a status that [`status_of`] does not know.
pub(super) const STATUSES: &str = "is unknown; use passing, warning or critical";

/// A warning in Consul is an instance that answers, with a remark: it is degraded, and stays in rotation.
pub(super) fn status_of(status: &str) -> Option<Status> {
    match status {
        "passing" => Some(Status::Passing),
        "warning" => Some(Status::Degraded),
        "critical" => Some(Status::Critical),
        _ => None,
    }
}

fn weight(body: &Map<String, Value>) -> Result<Weight, FieldError> {
    let passing = get(body, "Weights").and_then(Value::as_object).and_then(|weights| get(weights, "Passing"));
    match passing {
        None => Ok(Weight::default()),
        Some(weight) => {
            let wrong = |_| FieldError::new("Weights.Passing", "is not a number from 1 to 1000");
            serde_json::from_value(weight.clone()).map_err(wrong)
        }
    }
}

fn port(body: &Map<String, Value>) -> Result<NonZeroU16, FieldError> {
    let port = get(body, "Port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    port.and_then(NonZeroU16::new).ok_or_else(|| FieldError::new("Port", "is not a port; give one from 1 to 65535"))
}

/// Go's way of writing durations, `1m30s`, which is ours but for fractions.
fn go_duration(text: &str) -> Option<Duration> {
    service_kit::duration::parse(text).ok()
}

/// The field `name`, whatever the case it is written in.
pub(super) fn get<'body>(body: &'body Map<String, Value>, name: &str) -> Option<&'body Value> {
    body.iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}

/// A field that is text, or not there.
pub(super) fn text<'body>(
    body: &'body Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'body str>, FieldError> {
    match get(body, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(FieldError::new(name, "is not a string")),
    }
}

fn strings(body: &Map<String, Value>, name: &'static str) -> Result<Vec<String>, FieldError> {
    match get(body, name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list) => {
            serde_json::from_value(list.clone()).map_err(|_| FieldError::new(name, "is not a list of strings"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registration(body: Value) -> Result<Heartbeat, FieldError> {
        let Value::Object(body) = body else { panic!("an object") };
        read(&body, "10.9.9.9".parse().unwrap())
    }

    #[test]
    fn a_registration_is_read_whatever_the_case_of_its_names() {
        let go = json!({
            "Name": "mail", "ID": "mail-1", "Address": "10.0.0.5", "Port": 7070, "Tags": ["v1"], "Meta": { "a": "b" },
            "Weights": { "Passing": 5, "Warning": 1 }, "EnableTagOverride": true,
            "Check": { "TTL": "10s", "Status": "passing", "DeregisterCriticalServiceAfter": "1m" },
        });
        let python = json!({
            "name": "mail", "id": "mail-1", "address": "10.0.0.5", "port": 7070, "tags": ["v1"], "meta": { "a": "b" },
            "weights": { "Passing": 5, "Warning": 1 }, "checks": [{ "ttl": "10s", "status": "passing" }],
        });
        let heartbeat = registration(go).unwrap();
        assert_eq!(heartbeat, registration(python).unwrap());
        assert_eq!(heartbeat.key.key(), "service/mail/mail-1");
        assert_eq!(heartbeat.instance.to_string(), "http://10.0.0.5:7070?weight=5&tag=v1&meta.a=b");
        assert_eq!(heartbeat.ttl.as_millis(), 10_000);
    }

    #[test]
    fn what_is_left_out_is_as_in_consul() {
        let body =
            json!({ "Name": "mail", "Port": 1, "Checks": [{ "TTL": "1m30s" }, { "HTTP": "http://x:1/up?a=b" }] });
        let Heartbeat { key, instance, ttl, .. } = registration(body).unwrap();
        assert_eq!((key.key().as_str(), ttl.as_millis()), ("service/mail/mail", 90_000));
        assert_eq!(instance.address.to_string(), "10.9.9.9:1", "the client's own");
        assert_eq!(instance.status, Status::Critical, "until it says that it is well");
        assert_eq!(instance.health.unwrap().to_string(), "/up");
    }

    #[test]
    fn what_cannot_be_is_refused_by_consuls_name_of_the_field() {
        for (body, field) in [
            (json!({ "Port": 1 }), "Name"),
            (json!({ "Name": "Mail", "Port": 1 }), "Name"),
            (json!({ "Name": 7, "Port": 1 }), "Name"),
            (json!({ "Name": "mail" }), "Port"),
            (json!({ "Name": "mail", "Port": 70000 }), "Port"),
            (json!({ "Name": "mail", "Port": 1 }), "Check"),
            (json!({ "Name": "mail", "Port": 1, "Check": { "HTTP": "http://x/", "Interval": "1s" } }), "Check"),
            (json!({ "Name": "mail", "Port": 1, "Check": { "TTL": "10" } }), "Check.TTL"),
            (json!({ "Name": "mail", "Port": 1, "Check": { "TTL": "1ms" } }), "Check.TTL"),
            (json!({ "Name": "mail", "Port": 1, "Check": { "TTL": "9s", "Status": "fine" } }), "Check.Status"),
            (json!({ "Name": "mail", "Port": 1, "ID": "a/b", "Check": { "TTL": "9s" } }), "ID"),
            (json!({ "Name": "mail", "Port": 1, "Tags": "x", "Check": { "TTL": "9s" } }), "Tags"),
            (json!({ "Name": "mail", "Port": 1, "Meta": { "a": 1 }, "Check": { "TTL": "9s" } }), "Meta"),
            (
                json!({ "Name": "mail", "Port": 1, "Weights": { "Passing": 0 }, "Check": { "TTL": "9s" } }),
                "Weights.Passing",
            ),
        ] {
            assert_eq!(registration(body.clone()).unwrap_err().field, field, "{body}");
        }
    }
}
