//! What a program tells a Consul agent about itself. Pure.
//!
//! Consul's decoder does not look at the case of names, and clients make use of that: `Name` and `name` are the same. What
//! becomes of fields that have no meaning here is in [`super::fields`].

use std::{collections::BTreeMap, num::NonZeroU16, time::Duration};

use discovery::{Address, FieldError, HealthPath, Host, Instance, InstanceId, InstanceKey, Status, Ttl, Weight};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::fields::{check_check, check_service, is_named};
use crate::registrar::Heartbeat;

/// The entry of [`Instance::meta`] that holds the id of the check, when it is not `service:ID`: all registries must know it.
pub(super) const CHECK_META: &str = "consul-check";

/// What the id of a check begins with, when the client did not choose one.
pub(super) const CHECK_PREFIX: &str = "service:";

/// The fields of a registration that mean something here. They are read from a map, because their case does not count.
#[derive(ToSchema)]
#[schema(
    rename_all = "PascalCase",
    description = "As Consul's, names in any case; needs one check with a TTL, in `Check` or `Checks`. Registering again keeps the state \
                   of the check. Fields that ask for what there is not here, and fields that Consul does not know, are refused."
)]
#[expect(dead_code, reason = "it describes what is read from a map")]
pub(super) struct ConsulRegistration {
    name: String,
    #[schema(rename = "ID", required = false)]
    id: String,
    #[schema(required = false)]
    address: String,
    #[schema(minimum = 1, maximum = 65535)]
    port: u16,
    #[schema(required = false)]
    tags: Vec<String>,
    #[schema(schema_with = discovery::openapi::meta, required = false)]
    meta: BTreeMap<String, String>,
    #[schema(inline)]
    check: ConsulCheck,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read from a map")]
struct ConsulCheck {
    #[schema(rename = "CheckID", required = false, max_length = 256)]
    check_id: String,
    #[schema(rename = "TTL", examples("10s"))]
    ttl: String,
    #[schema(rename = "Status", required = false)]
    status: String,
}

/// The heartbeat that a registration is, for a client that connects from `client`.
///
/// # Errors
///
/// The first field that is missing or invalid.
pub(super) fn read(body: &Map<String, Value>, client: Host) -> Result<Heartbeat, FieldError> {
    check_service(body)?;
    let name = text(body, "Name")?.ok_or_else(|| FieldError::new("Name", "is missing"))?;
    let service = name.parse().map_err(|error: FieldError| error.under("Name"))?;
    let id = text(body, "ID")?.filter(|id| !id.is_empty()).unwrap_or(name);
    let id = id.parse::<InstanceId>().map_err(|error| error.under("ID"))?.in_one_spelling();
    let host = match text(body, "Address")? {
        None | Some("") => client,
        Some(host) => host.parse().map_err(|error: FieldError| error.under("Address"))?,
    };
    let mut instance = Instance::at(Address { host, port: port(body)? });
    let check = ttl_check(body, instance.address.port)?;
    instance.status = check.status;
    instance.health = check.health;
    instance.weight = weight(body)?;
    instance.tags = strings(body, "Tags")?.into_iter().collect();
    if let Some(meta) = get(body, "Meta").filter(|meta| !meta.is_null()) {
        let meta = serde_json::from_value(meta.clone());
        instance.meta = meta.map_err(|_| FieldError::new("Meta", "is not an object of strings"))?;
    }
    if instance.meta.contains_key(CHECK_META) {
        return Err(FieldError::new("Meta", "has the key consul-check, which is for the id of the check"));
    }
    if let Some(id) = check.id.filter(|check| *check != format!("{CHECK_PREFIX}{id}")) {
        instance.meta.insert(CHECK_META.to_owned(), id);
    }
    if let Some(locality) = get(body, "Locality").and_then(Value::as_object) {
        instance.zone = text(locality, "Zone")?.filter(|zone| !zone.is_empty()).map(str::to_owned);
    }
    instance.check()?;
    Ok(Heartbeat { key: InstanceKey::new(service, id), instance, ttl: check.ttl, life: None })
}

/// The id of an instance's check.
pub(super) fn check_id(instance: &Instance, id: &str) -> String {
    instance.meta.get(CHECK_META).cloned().unwrap_or_else(|| format!("{CHECK_PREFIX}{id}"))
}

/// How long a registration is good for, how it begins, and where the gateway may ask.
struct TtlCheck {
    /// As reports name it; `None` for `service:ID`.
    id: Option<String>,
    ttl: Ttl,
    status: Status,
    health: Option<HealthPath>,
}

/// The TTL check among `Check` and `Checks`. One that is probed by HTTP at the instance's own port says, beside it, where the gateway
/// may ask.
fn ttl_check(body: &Map<String, Value>, port: NonZeroU16) -> Result<TtlCheck, FieldError> {
    let several = get(body, "Checks").and_then(Value::as_array).into_iter().flatten();
    let single =
        get(body, "Check").into_iter().filter(|check| check.as_object().is_some_and(|check| !check.is_empty()));
    let checks: Vec<_> = single.chain(several).filter_map(Value::as_object).collect();
    let mut found = None;
    let mut health = None;
    for (index, check) in checks.iter().enumerate() {
        check_check(check).map_err(|error| FieldError::new(format!("Check.{}", error.field), error.reason))?;
        if let Some(ttl) = text(check, "TTL")?.filter(|ttl| !ttl.is_empty()) {
            let several = "are several with a TTL; give one, and report the worst of what you check";
            if found.replace((index, check, ttl)).is_some() {
                return Err(FieldError::new("Checks", several));
            }
        } else if let Some(url) = text(check, "HTTP")?.and_then(|url| url::Url::parse(url).ok()) {
            health = url.path().parse().ok().filter(|_| url.port_or_known_default() == Some(port.get())).or(health);
        }
    }
    let Some((index, check, ttl)) = found else {
        let what = "needs a TTL (\"Check\":{\"TTL\":\"10s\"}) and heartbeats by check/pass: the registry itself does not probe";
        return Err(FieldError::new("Check", what));
    };
    let millis = go_duration(ttl).and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    let millis = millis.ok_or_else(|| FieldError::new("Check.TTL", "is not a duration such as \"10s\""))?;
    let ttl = Ttl::from_millis(millis).map_err(|error| error.under("Check.TTL"))?;
    let status = text(check, "Status")?.filter(|status| !status.is_empty()).unwrap_or("critical");
    let status = status_of(status).ok_or_else(|| FieldError::new("Check.Status", STATUSES))?;
    let chosen = text(check, "CheckID")?.filter(|id| !id.is_empty()).map(str::to_owned);
    // As Consul numbers them.
    let id = chosen.or_else(|| (checks.len() > 1).then(|| numbered(body, index + 1)));
    if id.as_ref().is_some_and(|id| id.len() > Instance::META_VALUE_MAX_BYTES) {
        return Err(FieldError::new("Check.CheckID", "is longer than 256 bytes"));
    }
    Ok(TtlCheck { id, ttl, status, health })
}

/// `service:ID:N`
fn numbered(body: &Map<String, Value>, number: usize) -> String {
    let field = |name| get(body, name).and_then(Value::as_str).filter(|text| !text.is_empty());
    format!("{CHECK_PREFIX}{}:{number}", field("ID").or_else(|| field("Name")).unwrap_or_default())
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
    body.iter().find_map(|(key, value)| is_named(key, name).then_some(value))
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
    fn a_check_has_the_id_that_consul_would_give_it() {
        let id = |checks: Value, id: &str| {
            let body = json!({ "Name": "mail", "ID": id, "Port": 7070, "Checks": checks });
            let heartbeat = registration(body).unwrap();
            (check_id(&heartbeat.instance, if id.is_empty() { "mail" } else { id }), heartbeat.instance.meta.len())
        };
        let ttl = json!({ "TTL": "9s" });
        let tcp = json!({ "TCP": "10.0.0.5:7070", "Interval": "10s" });
        assert_eq!(id(json!([ttl]), "m-1"), ("service:m-1".to_owned(), 0));
        assert_eq!(id(json!([tcp, ttl]), "m-1"), ("service:m-1:2".to_owned(), 1));
        assert_eq!(id(json!([ttl, tcp]), ""), ("service:mail:1".to_owned(), 1));
        assert_eq!(id(json!([tcp, { "TTL": "9s", "CheckID": "alive" }]), "m-1"), ("alive".to_owned(), 1));
        // Kratos.
        assert_eq!(id(json!([tcp, { "TTL": "9s", "CheckID": "service:m-1" }]), "m-1"), ("service:m-1".to_owned(), 0));
    }

    #[test]
    fn what_a_client_sends_always_passes_and_what_it_asks_for_in_vain_is_refused() {
        let with = |field: &str, value: Value| {
            let mut body = json!({ "Name": "mail", "Port": 1, "Check": { "TTL": "9s" } });
            match field.strip_prefix("Check.") {
                Some(field) => body["Check"][field] = value,
                None => body[field] = value,
            }
            registration(body)
        };
        for (field, value) in [
            ("EnableTagOverride", json!(true)),
            ("enable_tag_override", json!(true)),
            ("TaggedAddresses", json!({ "http": { "Address": "http://10.0.0.5", "Port": 80 } })),
            ("Connect", Value::Null),
            ("Connect", json!({ "Native": false, "SidecarService": null })),
            ("Namespace", json!("default")),
            ("Kind", json!("")),
            ("Checks", Value::Null),
            ("Check.Args", Value::Null),
            ("Check.Notes", json!("x")),
            ("Check.DeregisterCriticalServiceAfter", json!("1m")),
        ] {
            assert!(with(field, value.clone()).is_ok(), "{field}: {value}");
        }
        for (field, value, named) in [
            ("Connect", json!({ "SidecarService": { "Port": 1 } }), "Connect"),
            ("connect", json!({ "native": true }), "Connect"),
            ("Kind", json!("mesh-gateway"), "Kind"),
            ("Namespace", json!("ops"), "Namespace"),
            ("SocketPath", json!("/run/x"), "SocketPath"),
            ("Tagz", json!(["a"]), "Tagz"),
            ("Check.ScriptArgs", json!(["/bin/true"]), "Check.ScriptArgs"),
            ("Check.AliasService", json!("x"), "Check.AliasService"),
            ("Check.Tll", json!("9s"), "Check.Tll"),
            ("Checks", json!([{ "TTL": "9s" }]), "Checks"),
            ("Meta", json!({ "consul-check": "x" }), "Meta"),
        ] {
            assert_eq!(with(field, value).unwrap_err().field, named, "{field}");
        }
        assert_eq!(with("Locality", json!({ "Zone": "eu-1" })).unwrap().instance.zone.as_deref(), Some("eu-1"));
    }

    #[test]
    fn an_http_check_elsewhere_than_at_the_instances_own_port_is_no_health_path() {
        let health = |url: &str| {
            let checks = json!([{ "TTL": "9s" }, { "HTTP": url, "Interval": "1s" }]);
            registration(json!({ "Name": "mail", "Port": 80, "Checks": checks })).unwrap().instance.health
        };
        assert_eq!(health("http://10.0.0.5/up").unwrap().to_string(), "/up");
        assert_eq!(health("http://10.0.0.5:9090/up"), None, "the gateway would ask the wrong port");
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
