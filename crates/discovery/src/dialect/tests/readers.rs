//! Readers of the dialects, each by the rules of the program that it stands for, not by what we write.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

/// etcd, as far as these readers look.
type Etcd = BTreeMap<String, String>;

fn below<'a>(etcd: &'a Etcd, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    etcd.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
}

/// `clientv3/naming`: lists `<target>/`, decodes strictly typed fields, dials `Addr` of what is not deleted.
pub(super) fn grpc(etcd: &Etcd, target: &str) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Update {
        op: u8,
        addr: String,
        metadata: Value,
    }
    let updates = below(etcd, target).filter_map(|(rest, value)| rest.starts_with('/').then_some(value));
    let updates = updates.map(|value| serde_json::from_str::<Update>(value).unwrap());
    let added = updates.filter(|update| update.op == 0);
    added
        .map(|update| {
            assert!(!update.addr.is_empty() || !update.metadata.is_null(), "etcd refuses an empty endpoint");
            update.addr
        })
        .collect()
}

#[derive(Debug, Deserialize)]
pub(super) struct SkyDns {
    pub(super) host: String,
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) ttl: u32,
    #[serde(skip)]
    key: String,
}

impl SkyDns {
    /// `msg.Domain`: the key's parts without the first, turned round.
    pub(super) fn target(&self) -> String {
        let mut labels: Vec<&str> = self.key.split('/').skip(2).collect();
        labels.reverse();
        format!("{}.", labels.join("."))
    }
}

/// `CoreDNS`: the name's labels turned round are the path; everything below it, else what is at it.
pub(super) fn coredns(etcd: &Etcd, name: &str) -> Vec<SkyDns> {
    let mut labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    labels.reverse();
    let path = format!("/skydns/{}", labels.join("/"));
    let deeper = format!("{path}/");
    let mut found: Vec<&String> = etcd.keys().filter(|key| key.starts_with(&deeper)).collect();
    if found.is_empty() {
        found.extend(etcd.keys().find(|key| **key == path));
    }
    found.into_iter().map(|key| SkyDns { key: key.clone(), ..serde_json::from_str(&etcd[key]).unwrap() }).collect()
}

/// go-micro: every value below `/micro/registry/<service>/` is a service; nodes are joined by version.
pub(super) fn go_micro(etcd: &Etcd, service: &str) -> BTreeMap<String, Vec<Value>> {
    let mut versions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, value) in below(etcd, &format!("/micro/registry/{service}/")) {
        let read: Value = serde_json::from_str(value).unwrap();
        assert_eq!(read["name"], service);
        let nodes = read["nodes"].as_array().unwrap().iter().cloned();
        versions.entry(read["version"].as_str().unwrap().to_owned()).or_default().extend(nodes);
    }
    versions
}

/// The part of Traefik's configuration that is used here.
#[derive(Debug, Default)]
pub(super) struct Traefik {
    pub(super) routers: BTreeMap<String, Router>,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) strip_prefixes: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) rule: String,
    pub(super) service: String,
    pub(super) middlewares: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Service {
    /// URL and weight.
    pub(super) servers: Vec<(String, i64)>,
    pub(super) pass_host_header: bool,
}

/// Traefik: keys in order, parts by `/`, names without regard to case, a part of digits is a place in a list (and a
/// list is as long as it has entries, whatever the numbers); a field that it does not know spoils everything.
pub(super) fn traefik(etcd: &Etcd) -> Result<Traefik, String> {
    let mut config = Traefik::default();
    let mut places: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for (path, value) in below(etcd, "traefik/http/") {
        let parts: Vec<String> = path.split('/').map(str::to_lowercase).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let number = |part: &str| part.parse::<i64>().map_err(|_| format!("{path}: {part} is no place in a list"));
        match parts.as_slice() {
            ["routers", name, "rule"] => config.routers.entry((*name).to_owned()).or_default().rule = value.to_owned(),
            ["routers", name, "service"] => {
                config.routers.entry((*name).to_owned()).or_default().service = value.to_owned();
            }
            ["routers", name, "middlewares", place] => {
                number(place)?;
                config.routers.entry((*name).to_owned()).or_default().middlewares.push(value.to_owned());
            }
            ["middlewares", name, "stripprefix", "prefixes", place] => {
                number(place)?;
                config.strip_prefixes.entry((*name).to_owned()).or_default().push(value.to_owned());
            }
            ["services", name, "loadbalancer", "passhostheader"] => {
                config.services.entry((*name).to_owned()).or_default().pass_host_header = value == "true";
            }
            ["services", name, "loadbalancer", "servers", place, field] => {
                let service = config.services.entry((*name).to_owned()).or_default();
                if places.entry((*name).to_owned()).or_default().insert(number(place)?) {
                    service.servers.push((String::new(), 1));
                }
                // Keys come in order, so those of one server come together.
                let server = service.servers.last_mut().expect("one was just pushed");
                match *field {
                    "url" => server.0 = value.to_owned(),
                    "weight" => server.1 = number(value)?,
                    field => return Err(format!("field not found, node: {field}")),
                }
            }
            _ => return Err(format!("field not found: {path}")),
        }
    }
    Ok(config)
}
