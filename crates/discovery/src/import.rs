//! Registrations that other frameworks have written into the same etcd, read as instances.
//!
//! | framework | key | value |
//! |---|---|---|
//! | Kratos | `/microservices/mail/<id>` | `{"id","name","version","metadata","endpoints":["http://10.0.0.5:7070?isSecure=false"]}` |
//! | go-zero | `mail.rpc/<lease>` | `10.0.0.5:7070` |
//! | etcd's gRPC naming | `services/mail/<address>` | `{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}` |
//!
//! An [`Import`] is a prefix of keys. What stands below it, at `<prefix>/<service>/<instance>`, is an instance of
//! `<service>`; at `<prefix>/<instance>`, of the service that the prefix itself is called by: so go-zero's key is the
//! prefix to give. Names become ours: `User.Rpc` is the service `user-rpc`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Deserialize;

use crate::{
    CONFIG_PREFIX, FieldError, Instance, InstanceId, InstanceKey, OVERRIDE_PREFIX, SERVICE_PREFIX, Scheme, ServiceName,
    field_error::quoted,
};

/// The entry of [`Instance::meta`] that tells from where an instance was imported.
pub const IMPORTED: &str = "imported";

/// Where this suite writes itself. What it reads back there would be its own words.
const OURS: [&str; 7] =
    [SERVICE_PREFIX, OVERRIDE_PREFIX, CONFIG_PREFIX, "grpc/", "traefik/", "/skydns/", "/micro/registry/"];

/// The longest prefix, in bytes.
const PREFIX_MAX_BYTES: usize = 200;

/// A prefix of keys that are other programs' registrations, without a `/` at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import(String);

/// What Kratos writes (`registry.ServiceInstance`).
#[derive(Deserialize)]
struct Kratos {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    endpoints: Vec<String>,
}

// === impl Import ===

impl Import {
    /// Every key that is meant starts with this.
    pub fn prefix(&self) -> String {
        format!("{}/", self.0)
    }

    /// Whether `instance` was imported from here.
    pub fn is_origin_of(&self, instance: &Instance) -> bool {
        instance.meta.get(IMPORTED) == Some(&self.0)
    }

    /// Reads one registration. The instance says in its `meta` from where it comes.
    ///
    /// # Errors
    ///
    /// What in key or value is not understood. It says nothing about the others.
    pub fn read(&self, key: &[u8], value: &[u8]) -> Result<(InstanceKey, Instance), FieldError> {
        let key = self.key(key)?;
        let mut instance = match serde_json::from_slice::<Kratos>(value) {
            Ok(kratos) => kratos.instance()?,
            Err(_) => Instance::parse(value)?,
        };
        instance.meta.insert(IMPORTED.to_owned(), self.0.clone());
        instance.check()?;
        Ok((key, instance))
    }

    fn key(&self, key: &[u8]) -> Result<InstanceKey, FieldError> {
        let refused = |what: &str| FieldError::new("key", format!("{} {what}", quoted(&String::from_utf8_lossy(key))));
        let text = std::str::from_utf8(key).map_err(|_| refused("is not UTF-8 text"))?;
        let below = text.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('/'));
        let below = below.ok_or_else(|| refused("is not below the prefix"))?;
        let own = self.0.rsplit('/').next().unwrap_or(&self.0);
        let (service, id) = below.rsplit_once('/').unwrap_or((own, below));
        Ok(InstanceKey::new(service_name(service)?, instance_id(id)?))
    }
}

/// A name of theirs as one of ours: `User.Rpc` is `user-rpc`.
fn service_name(name: &str) -> Result<ServiceName, FieldError> {
    let ours = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(ours).collect::<String>().trim_matches('-').parse()
}

fn instance_id(id: &str) -> Result<InstanceId, FieldError> {
    let ours = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':') { c } else { '-' };
    id.chars().map(ours).collect::<String>().parse()
}

impl FromStr for Import {
    type Err = FieldError;

    fn from_str(prefix: &str) -> Result<Self, FieldError> {
        let refuse = |what: &str| Err(FieldError::new("import", format!("{} {what}", quoted(prefix))));
        let import = Self(prefix.trim_end_matches('/').to_owned());
        if import.0.is_empty() {
            return refuse("would be all of etcd; give the prefix of their keys, /microservices say");
        }
        if import.0.len() > PREFIX_MAX_BYTES || import.0.chars().any(char::is_control) {
            return refuse("is no prefix of keys: at most 200 bytes without control characters");
        }
        let own = import.prefix();
        if OURS.iter().any(|ours| own.starts_with(ours) || ours.starts_with(&own)) {
            return refuse("is where this suite writes itself");
        }
        Ok(import)
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

// === impl Kratos ===

impl Kratos {
    /// Of several endpoints, that for HTTP: it is what our gateway speaks.
    fn instance(self) -> Result<Instance, FieldError> {
        let mut readable: Vec<Instance> =
            self.endpoints.iter().filter_map(|endpoint| read_endpoint(endpoint).ok()).collect();
        readable.sort_by_key(|instance| instance.scheme == Scheme::H2c);
        let Some(mut instance) = readable.into_iter().next() else {
            let given = quoted(&self.endpoints.join(", "));
            return Err(FieldError::new("endpoints", format!("{given} have none for http, https or grpc")));
        };
        // What is beyond our bounds is left out; the instance can be reached all the same.
        instance.version = self.version.filter(|version| !version.is_empty());
        if instance.check().is_err() {
            instance.version = None;
        }
        for (key, value) in self.metadata.unwrap_or_default() {
            instance.meta.insert(key.clone(), value);
            // One place is for IMPORTED.
            if instance.check().is_err() || instance.meta.len() >= Instance::META_MAX {
                instance.meta.remove(&key);
            }
        }
        Ok(instance)
    }
}

/// `grpc://10.0.0.5:9000?isSecure=false`
fn read_endpoint(endpoint: &str) -> Result<Instance, FieldError> {
    let mut instance = endpoint.parse::<Instance>()?;
    let query = endpoint.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|parameter| parameter.eq_ignore_ascii_case("isSecure=true")) {
        instance.scheme = Scheme::Https;
    }
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prefix: &str, key: &str, value: &str) -> (String, String) {
        let (key, instance) = prefix.parse::<Import>().unwrap().read(key.as_bytes(), value.as_bytes()).unwrap();
        (key.key(), instance.to_string())
    }

    #[test]
    fn a_kratos_registration_is_an_instance() {
        let value = r#"{"id":"x1","name":"mail","version":"1.4.0","metadata":{"owner":"ops","bad key":"x"},
            "endpoints":["grpc://10.0.0.5:9000?isSecure=false","http://10.0.0.5:7070?isSecure=false"]}"#;
        let (key, instance) = read("/microservices/", "/microservices/mail/x1", value);
        assert_eq!(key, "service/mail/x1");
        assert_eq!(instance, "http://10.0.0.5:7070?version=1.4.0&meta.imported=/microservices&meta.owner=ops");
    }

    #[test]
    fn kratos_endpoints_are_taken_as_they_are_secured() {
        let only = |endpoint: &str| {
            let value = format!(r#"{{"endpoints":["tcp://10.0.0.5:1","{endpoint}"],"metadata":null}}"#);
            read("/m", "/m/mail/a", &value).1
        };
        assert!(only("grpc://10.0.0.5:9000").starts_with("h2c://10.0.0.5:9000?"));
        assert!(only("http://10.0.0.5:7070?isSecure=true").starts_with("https://10.0.0.5:7070?"));
        let import: Import = "/m".parse().unwrap();
        let error = import.read(b"/m/mail/a", br#"{"endpoints":["tcp://10.0.0.5:1"]}"#).unwrap_err();
        assert_eq!(error.field, "endpoints");
    }

    #[test]
    fn a_go_zero_registration_is_an_instance_of_the_service_that_its_key_names() {
        let (key, instance) = read("user.rpc", "user.rpc/7587869434525013772", "10.0.0.5:8081");
        assert_eq!(key, "service/user-rpc/7587869434525013772");
        assert_eq!(instance, "http://10.0.0.5:8081?meta.imported=user.rpc");
    }

    #[test]
    fn a_grpc_naming_endpoint_is_an_instance() {
        let value = r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#;
        assert_eq!(read("services", "services/Mail/10.0.0.5:7070", value).0, "service/mail/10.0.0.5:7070");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let import: Import = "/m".parse().unwrap();
        for (key, value) in
            [("/m/mail/a", "nonsense"), ("/m/mail/a", "{}"), ("/mail/a", "a:1"), ("/m/mail/", "a:1"), ("/m//a", "a:1")]
        {
            assert!(import.read(key.as_bytes(), value.as_bytes()).is_err(), "{key} {value}");
        }
        assert!(import.read(b"/m/\xff/a", b"a:1").is_err());
    }

    #[test]
    fn our_own_words_are_never_imported() {
        for prefix in ["", "/", "service", "service/mail", "override/", "grpc/mail", "/micro", "traefik", "/skydns"] {
            assert_eq!(prefix.parse::<Import>().unwrap_err().field, "import", "{prefix:?}");
        }
        let import: Import = "/microservices".parse().unwrap();
        assert!(import.is_origin_of(&"http://a:1?meta.imported=/microservices".parse().unwrap()));
        assert!(!import.is_origin_of(&"a:1".parse().unwrap()));
    }
}
