//! What instance and registry say to each other over HTTP.
//!
//! The plain form, `POST /`, is what any shell can send; the full form,
//! `PUT /v1/services/{service}/instances/{instance}`, says everything. Unknown fields are refused: a mistyped `weigth`
//! would otherwise be a setting that silently does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Address, FieldError, HealthPath, Host, Incarnation, Instance, InstanceId, Life, Origin, OtherHolder, Reason,
    SERVICE_PREFIX, Scheme, ServiceName, Status, Ttl, Weight,
};

/// The plain heartbeat: `{"name":"service/mail","host":"10.0.0.5","port":7070}`, with `"health":"/healthz"` if there is
/// something to ask, and `"leaving":true` at the end.
///
/// Its fields are as received; [`PlainHeartbeat::into_parts`] parses them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(description = "A heartbeat that any shell can send.")]
#[serde(deny_unknown_fields)]
pub struct PlainHeartbeat {
    /// The service, with or without `service/` in front.
    #[schema(examples("service/mail"))]
    pub name: String,
    /// An IP address or a host name.
    pub host: String,
    /// The TCP port, 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u32,
    /// A path that is asked whether the instance is well; absent: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthPath>,
    /// Whether the instance leaves: it is deregistered at once, as by DELETE in the full form, instead of being registered.
    #[schema(default = false)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Which life this is a heartbeat of. Absent: of whichever is registered, or of a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Life>,
}

/// The full heartbeat. Service and instance id are in the path; here is the rest. What is absent has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FullHeartbeat {
    /// Where the instance listens, `host:port`.
    pub address: Address,
    /// The protocol it speaks; default `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Its share of the traffic; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// Where it runs (a rack, a data centre), so that a reader may prefer its own zone. 1 to 63 bytes.
    #[schema(min_length = 1, max_length = 63)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which release it is. 1 to 64 bytes.
    #[schema(min_length = 1, max_length = 64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it answers whether it is well; absent: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthPath>,
    /// Whether it wants traffic; default `passing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why it is not `passing`: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Labels to select by. At most 32 of 1 to 256 bytes.
    #[schema(schema_with = crate::openapi::tags, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<String>>,
    /// Whatever else is worth knowing. At most 32 entries; keys 1 to 64 of `[A-Za-z0-9._/-]`, values up to 256 bytes.
    #[schema(schema_with = crate::openapi::meta, required = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<BTreeMap<String, String>>,
    /// How long to stay registered without another heartbeat, in milliseconds. Default 5000.
    #[schema(minimum = 2000, maximum = 3600000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Which life this is a heartbeat of. Absent: of whichever is registered, or of a new one.
    ///
    /// A new life takes the id over from its present holder. A heartbeat of a life that has ended, or whose id another
    /// one has taken over, changes nothing and is answered with 409.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Life>,
}

/// The registry's answer to either form: committed in etcd, and what to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// How long this heartbeat is good for, in milliseconds.
    pub ttl_ms: u64,
    /// When to send the next one, in milliseconds from now.
    pub next_heartbeat_ms: u64,
    /// What the instance is to others; `draining` when an operator has ordered it.
    pub status: Status,
    /// The etcd revision at which this is true.
    #[schema(minimum = 0)]
    pub revision: i64,
    /// The life that this heartbeat was of: for the next one, and for the DELETE. Older registries do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub incarnation: Option<Incarnation>,
    /// Another program claims the same id, and was heard within a TTL: two programs were given one id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub other_holder: Option<OtherHolder>,
}

// === impl PlainHeartbeat ===

impl PlainHeartbeat {
    /// What is announced: the service, the id (`host:port`) and the instance.
    ///
    /// # Errors
    ///
    /// The first invalid field, by the name it has in the heartbeat.
    pub fn into_parts(self) -> Result<(ServiceName, InstanceId, Instance), FieldError> {
        let name = self.name.strip_prefix(SERVICE_PREFIX).unwrap_or(&self.name);
        let service = name.parse::<ServiceName>().map_err(|error| error.under("name"))?;
        let host = self.host.parse::<Host>()?;
        let port = u16::try_from(self.port)
            .ok()
            .and_then(NonZeroU16::new)
            .ok_or_else(|| FieldError::new("port", format!("{} is not a port; give one from 1 to 65535", self.port)))?;
        let address = Address { host, port };
        check_reachable(&address).map_err(|error| error.under("host"))?;
        let id = address.instance_id().map_err(|error| error.under("host"))?;
        Ok((service, id, Instance { health: self.health, ..Instance::at(address) }))
    }
}

// === impl FullHeartbeat ===

impl FullHeartbeat {
    /// The heartbeat that announces `instance` for `ttl`; what is default is left out.
    pub fn new(instance: &Instance, ttl: Ttl) -> Self {
        fn unless_default<T: Default + PartialEq + Clone>(value: &T) -> Option<T> {
            (*value != T::default()).then(|| value.clone())
        }
        Self {
            address: instance.address.clone(),
            scheme: unless_default(&instance.scheme),
            weight: unless_default(&instance.weight),
            zone: instance.zone.clone(),
            version: instance.version.clone(),
            health: instance.health.clone(),
            status: unless_default(&instance.status),
            reason: instance.reason.clone(),
            tags: unless_default(&instance.tags),
            meta: unless_default(&instance.meta),
            ttl_ms: unless_default(&ttl).map(Ttl::as_millis),
            incarnation: None,
        }
    }

    /// The same for a registry of before [`Status::Degraded`] and reasons, which refuses fields that it does not know;
    /// `None` when this is understood there as it is.
    #[must_use]
    pub fn without_a_reason(&self) -> Option<Self> {
        let is_degraded = self.status == Some(Status::Degraded);
        (is_degraded || self.reason.is_some()).then(|| Self {
            status: self.status.filter(|_| !is_degraded),
            reason: None,
            ..self.clone()
        })
    }

    /// What is announced, and for how long.
    ///
    /// # Errors
    ///
    /// The first invalid field.
    pub fn into_parts(self) -> Result<(Instance, Ttl), FieldError> {
        let ttl = self.ttl_ms.map_or(Ok(Ttl::default()), Ttl::from_millis)?;
        check_reachable(&self.address)?;
        let instance = Instance {
            address: self.address,
            scheme: self.scheme.unwrap_or_default(),
            weight: self.weight.unwrap_or_default(),
            zone: self.zone,
            version: self.version,
            health: self.health,
            status: self.status.unwrap_or_default(),
            reason: self.reason,
            tags: self.tags.unwrap_or_default(),
            meta: self.meta.unwrap_or_default(),
        };
        instance.check()?;
        if Origin::is_of_table(&instance) {
            let what = "is said by registries only, of what stands in their table; leave it out";
            return Err(FieldError::new("meta", format!("{}={} {what}", Origin::REGISTERED_BY, Origin::BY_TABLE)));
        }
        Ok((instance, ttl))
    }
}

/// `0.0.0.0` and `::` are what one listens on, never what another can connect to; a common slip in configuration.
fn check_reachable(address: &Address) -> Result<(), FieldError> {
    let ip = address.host.ip().map(|ip| ip.to_canonical());
    if ip.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast()) {
        let what = "is nowhere that others could connect to; announce the address by which they reach you";
        return Err(FieldError::new("address", format!("{} {what}", address.host)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, host: &str, port: u32) -> PlainHeartbeat {
        PlainHeartbeat { name: name.into(), host: host.into(), port, health: None, leaving: false, incarnation: None }
    }

    #[test]
    fn the_plain_form_is_understood_with_and_without_its_prefix() {
        for name in ["service/mail", "mail"] {
            let (service, id, instance) = plain(name, "10.0.0.5", 7070).into_parts().unwrap();
            assert_eq!((service.as_str(), id.as_str()), ("mail", "10.0.0.5:7070"));
            assert_eq!(instance.to_string(), "10.0.0.5:7070");
        }
    }

    #[test]
    fn the_plain_form_has_a_health_path_and_an_end() {
        let read = |json: &str| serde_json::from_str::<PlainHeartbeat>(json);
        let json = r#"{"name":"mail","host":"10.0.0.5","port":7070,"health":"/healthz","leaving":true}"#;
        let heartbeat = read(json).unwrap();
        assert_eq!((serde_json::to_string(&heartbeat).unwrap().as_str(), heartbeat.leaving), (json, true));
        let (_, _, instance) = heartbeat.into_parts().unwrap();
        assert_eq!(instance.to_string(), "http://10.0.0.5:7070?health=/healthz");
        assert!(read(r#"{"name":"mail","host":"a","port":1,"health":"healthz"}"#).is_err());
        assert!(read(r#"{"name":"mail","host":"a","port":1,"leaving":"yes"}"#).is_err());
    }

    #[test]
    fn no_sender_says_that_a_table_registers_it() {
        let parts = |by: &str| {
            let json = format!(r#"{{"address":"10.0.0.5:1","meta":{{"registered-by":"{by}"}}}}"#);
            serde_json::from_str::<FullHeartbeat>(&json).unwrap().into_parts()
        };
        assert_eq!(parts("table").unwrap_err().field, "meta");
        assert!(parts("ops").is_ok());
    }

    #[test]
    fn a_mistake_is_blamed_on_the_field_as_it_was_sent() {
        for (heartbeat, field) in [
            (plain("service/", "a", 1), "name"),
            (plain("service/service/a", "a", 1), "name"),
            (plain("../x", "a", 1), "name"),
            (plain("mail", "", 1), "host"),
            (plain("mail", "a/b", 1), "host"),
            (plain("mail", "0.0.0.0", 1), "host"),
            (plain("mail", "::", 1), "host"),
            (plain("mail", "a", 0), "port"),
            (plain("mail", "a", 65536), "port"),
        ] {
            assert_eq!(heartbeat.clone().into_parts().unwrap_err().field, field, "{heartbeat:?}");
        }
    }

    #[test]
    fn the_full_form_leaves_out_what_is_default() {
        let instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        let heartbeat = FullHeartbeat::new(&instance, Ttl::default());
        assert_eq!(serde_json::to_string(&heartbeat).unwrap(), r#"{"address":"10.0.0.5:7070"}"#);
        assert_eq!(heartbeat.into_parts().unwrap(), (instance, Ttl::default()));
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_refused() {
        for json in [
            r#"{"address":"a:1","weigth":2}"#,
            r#"{"address":"a:1","weight":"2"}"#,
            r#"{"address":"a:1","weight":0}"#,
            r#"{"address":7070}"#,
            r#"{"address":"a:1","tags":"x"}"#,
            r#"{"address":"a:1","meta":{"a":1}}"#,
            r#"{"address":"a:1","incarnation":7}"#,
            r#"{"address":"a:1","incarnation":"old"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<FullHeartbeat>(json).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<PlainHeartbeat>(r#"{"name":"a","host":"b","port":1,"x":1}"#).is_err());
    }

    #[test]
    fn the_full_form_is_held_to_the_bounds_of_an_instance() {
        let parts = |json: &str| serde_json::from_str::<FullHeartbeat>(json).unwrap().into_parts();
        assert_eq!(parts(r#"{"address":"a:1","zone":"\n"}"#).unwrap_err().field, "zone");
        assert_eq!(parts(r#"{"address":"a:1","reason":"x"}"#).unwrap_err().field, "reason", "of nothing");
        assert_eq!(parts(r#"{"address":"a:1","ttl_ms":1}"#).unwrap_err().field, "ttl_ms");
        assert_eq!(parts(r#"{"address":"0.0.0.0:1"}"#).unwrap_err().field, "address");
        assert_eq!(parts(r#"{"address":"a:1","ttl_ms":2500}"#).unwrap().1.as_millis(), 2500);
    }
}
