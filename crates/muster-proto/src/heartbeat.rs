//! A heartbeat and the reply to it.

use discovery::{
    Address, FieldError, Incarnation, InstanceId, Life, OtherHolder, ServiceName, heartbeat::FullHeartbeat,
    heartbeat::HeartbeatReply,
};

use crate::{instance::given, v1};

// === impl v1::Heartbeat ===

impl v1::Heartbeat {
    /// The heartbeat of the instance `id` of `service`.
    #[must_use]
    pub fn of(service: &ServiceName, id: &InstanceId, heartbeat: &FullHeartbeat) -> Self {
        let FullHeartbeat { address, scheme, weight, zone, version, health, status, reason, tags, meta, .. } =
            heartbeat.clone();
        let instance = v1::Instance {
            address: address.to_string(),
            scheme: scheme.map(|scheme| scheme.as_str().to_owned()).unwrap_or_default(),
            weight: weight.map_or(0, |weight| weight.get().into()),
            zone: zone.unwrap_or_default(),
            version: version.unwrap_or_default(),
            health: health.map(String::from).unwrap_or_default(),
            status: status.map_or(v1::Status::Unspecified, v1::Status::from).into(),
            reason: reason.map(String::from).unwrap_or_default(),
            tags: tags.unwrap_or_default().into_iter().collect(),
            meta: meta.unwrap_or_default(),
        };
        Self {
            service: service.to_string(),
            id: id.to_string(),
            instance: Some(instance),
            ttl_ms: heartbeat.ttl_ms.unwrap_or_default(),
            incarnation: heartbeat.incarnation.map(String::from).unwrap_or_default(),
        }
    }

    /// The service, the id (by default the address) and the heartbeat.
    ///
    /// # Errors
    ///
    /// The first field that cannot be read.
    pub fn into_parts(self) -> Result<(ServiceName, InstanceId, FullHeartbeat), FieldError> {
        let service = self.service.parse::<ServiceName>().map_err(|error| error.under("service"))?;
        let Some(instance) = self.instance else { return Err(FieldError::new("instance", "is missing")) };
        let heartbeat = FullHeartbeat {
            ttl_ms: (self.ttl_ms != 0).then_some(self.ttl_ms),
            incarnation: given::<Life>(&self.incarnation, "incarnation")?,
            ..instance.into_heartbeat()?
        };
        let id = match given::<InstanceId>(&self.id, "id")? {
            Some(id) => id.in_one_spelling(),
            None => heartbeat.address.instance_id().map_err(|error| error.under("id"))?,
        };
        Ok((service, id, heartbeat))
    }
}

// === impl v1::HeartbeatReply ===

impl From<HeartbeatReply> for v1::HeartbeatReply {
    fn from(reply: HeartbeatReply) -> Self {
        let HeartbeatReply { ttl_ms, next_heartbeat_ms, status, revision, incarnation, other_holder } = reply;
        Self {
            ttl_ms,
            next_heartbeat_ms,
            status: v1::Status::from(status).into(),
            revision,
            incarnation: incarnation.map(String::from).unwrap_or_default(),
            other_holder: other_holder.as_ref().map(v1::OtherHolder::from),
        }
    }
}

impl TryFrom<v1::HeartbeatReply> for HeartbeatReply {
    type Error = FieldError;

    fn try_from(reply: v1::HeartbeatReply) -> Result<Self, FieldError> {
        let status = reply.status().known().ok_or_else(|| FieldError::new("status", "is missing"))?;
        let other_holder = reply.other_holder.map(OtherHolder::try_from).transpose()?;
        let incarnation = given::<Incarnation>(&reply.incarnation, "incarnation")?;
        let v1::HeartbeatReply { ttl_ms, next_heartbeat_ms, revision, .. } = reply;
        Ok(Self { ttl_ms, next_heartbeat_ms, status, revision, incarnation, other_holder })
    }
}

// === impl v1::OtherHolder ===

impl From<&OtherHolder> for v1::OtherHolder {
    fn from(other: &OtherHolder) -> Self {
        Self {
            address: other.address.to_string(),
            incarnation: other.incarnation.map(String::from).unwrap_or_default(),
            since_ms: other.since_ms,
        }
    }
}

impl TryFrom<v1::OtherHolder> for OtherHolder {
    type Error = FieldError;

    fn try_from(other: v1::OtherHolder) -> Result<Self, FieldError> {
        Ok(Self {
            address: other.address.parse::<Address>()?,
            incarnation: given::<Incarnation>(&other.incarnation, "incarnation")?,
            since_ms: other.since_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(json: &str, heartbeat: &FullHeartbeat) -> FullHeartbeat {
        let service = "mail".parse().unwrap();
        let id = "a".parse().unwrap();
        let (back_service, back_id, back) = v1::Heartbeat::of(&service, &id, heartbeat).into_parts().unwrap();
        assert_eq!((back_service, back_id), (service, id), "{json}");
        back
    }

    #[test]
    fn a_heartbeat_says_the_same_in_json_and_in_protobuf() {
        for json in [
            r#"{"address":"10.0.0.5:7070"}"#,
            r#"{"address":"[::1]:7070","scheme":"h2c","weight":7,"zone":"a","version":"1.4","health":"/healthz"}"#,
            r#"{"address":"a:1","status":"degraded","reason":"SMTP is away","tags":["b","a"],"meta":{"k":"v"}}"#,
            r#"{"address":"a:1","ttl_ms":2500,"incarnation":"new:4f2a90c1d3e5b677"}"#,
            r#"{"address":"a:1","incarnation":"new"}"#,
        ] {
            let read = |json: &str| serde_json::from_str::<FullHeartbeat>(json).unwrap();
            assert_eq!(there_and_back(json, &read(json)), read(json));
        }
    }

    #[test]
    fn a_mistake_names_the_field_as_muster_proto_has_it() {
        let good = v1::Heartbeat {
            service: "mail".to_owned(),
            instance: Some(v1::Instance { address: "10.0.0.5:7070".to_owned(), ..v1::Instance::default() }),
            ..v1::Heartbeat::default()
        };
        assert_eq!(good.clone().into_parts().unwrap().1.as_str(), "10.0.0.5:7070", "the address is the id by default");
        let field = |change: fn(&mut v1::Heartbeat)| {
            let mut heartbeat = good.clone();
            change(&mut heartbeat);
            heartbeat.into_parts().unwrap_err().field.into_owned()
        };
        assert_eq!(field(|beat| beat.service = "Mail".to_owned()), "service");
        assert_eq!(field(|beat| beat.id = "a/b".to_owned()), "id");
        assert_eq!(field(|beat| beat.incarnation = "old".to_owned()), "incarnation");
        assert_eq!(field(|beat| beat.instance = None), "instance");
        for (expected, change) in [
            ("address", (|one| one.address.clear()) as fn(&mut v1::Instance)),
            ("address", |one| one.address = "x".to_owned()),
            ("scheme", |one| one.scheme = "ftp".to_owned()),
            ("weight", |one| one.weight = 1001),
            ("health", |one| one.health = "healthz".to_owned()),
            ("status", |one| one.status = 7),
            ("reason", |one| one.reason = "a\nb".to_owned()),
        ] {
            let mut heartbeat = good.clone();
            change(heartbeat.instance.as_mut().unwrap());
            assert_eq!(heartbeat.into_parts().unwrap_err().field, expected);
        }
    }

    #[test]
    fn a_reply_says_the_same_in_protobuf() {
        let reply = HeartbeatReply {
            ttl_ms: 5000,
            next_heartbeat_ms: 2000,
            revision: 7,
            incarnation: Some("4f2a90c1d3e5b677".parse().unwrap()),
            other_holder: Some(OtherHolder {
                address: "10.0.0.6:7070".parse().unwrap(),
                incarnation: None,
                since_ms: 1,
            }),
            ..HeartbeatReply::default()
        };
        let back = HeartbeatReply::try_from(v1::HeartbeatReply::from(reply.clone())).unwrap();
        assert_eq!(back, reply);
        assert!(HeartbeatReply::try_from(v1::HeartbeatReply::default()).is_err(), "nothing is no reply");
    }
}
