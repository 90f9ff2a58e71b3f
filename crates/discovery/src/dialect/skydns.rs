//! `SkyDNS` records, as `CoreDNS`' etcd plugin reads them: the labels of the name, turned round, are the key.
//!
//! `mail.service.muster` is `/skydns/muster/service/mail/<label>`, so that a name is the same whether the registry's
//! own DNS answers for it or `CoreDNS`. The last part becomes a label, too: a SRV record points to
//! `<label>.mail.service.muster`, and a resolver that follows it asks for that name. An id such as `10.0.0.5:7070`
//! would be four labels that lead nowhere; so it is made one.

use serde::Serialize;

use super::{ViewKey, fnv};
use crate::{Instance, InstanceId, ServiceName};

/// For `CoreDNS` this is what lower is better; 10 is its own default.
const PRIORITY: u16 = 10;

/// In seconds: no longer than a lease. It must be said: `CoreDNS` takes the number of the lease for one otherwise.
const TTL_SECS: u32 = 5;

/// Room for the hash in a label of 63 bytes.
const READABLE_MAX_BYTES: usize = 54;

/// `msg.Service`.
#[derive(Serialize)]
struct Record {
    host: String,
    port: u16,
    priority: u16,
    weight: u16,
    ttl: u32,
}

/// `domain` is a path: `com/example` for `example.com`.
pub(super) fn write(domain: &str, service: &ServiceName, id: &InstanceId, instance: &Instance) -> ViewKey {
    let record = Record {
        host: instance.address.host.to_string(),
        port: instance.address.port.get(),
        priority: PRIORITY,
        weight: instance.weight.get(),
        ttl: TTL_SECS,
    };
    let value = serde_json::to_string(&record).expect("text and numbers are JSON");
    ViewKey::leased(format!("/skydns/{domain}/service/{service}/{}", label(id)), value)
}

/// A DNS label for an id: what is readable of it, and a hash, because `a.b` and `a-b` are two instances.
fn label(id: &InstanceId) -> String {
    let readable = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = id.as_str().chars().map(readable).take(READABLE_MAX_BYTES).collect();
    let hash = fnv(id.as_str()) as u32;
    match text.trim_matches('-') {
        "" => format!("{hash:08x}"),
        text => format!("{text}-{hash:08x}"),
    }
}
