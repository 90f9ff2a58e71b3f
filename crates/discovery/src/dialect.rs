//! The same instance in other systems' words: extra keys under the same lease.
//!
//! A team that already has clients for etcd's gRPC naming, Traefik, CoreDNS or go-micro needs none for this suite: the
//! transaction that writes the native key writes theirs, and the lease that ends it ends them.
//!
//! | dialect | key | value | its reader |
//! |---|---|---|---|
//! | [`Grpc`](Dialect::Grpc) | `grpc/mail/<id>` | JSON | `clientv3/naming` dialling `etcd:///grpc/mail` |
//! | [`Traefik`](Dialect::Traefik) | `traefik/http/services/mail/loadbalancer/servers/<n>/url` | URL | Traefik's etcd provider |
//! | [`SkyDns`](Dialect::SkyDns) | `/skydns/muster/service/mail/<label>`, below the [domain](Dialects::under) | JSON | `CoreDNS`' etcd plugin |
//! | [`GoMicro`](Dialect::GoMicro) | `/micro/registry/mail/<id>` | JSON | go-micro's etcd registry |
//!
//! None of these readers knows a status: whatever they find gets traffic. So only an instance in rotation is written;
//! one that drains or is critical is taken out of every view while its native key stays.
//!
//! Keys depend on service and instance id only, never on what the instance says, so that a writer that removes an
//! instance knows every key of it.

mod go_micro;
mod grpc;
mod skydns;
mod traefik;

use std::{fmt, str::FromStr};

use crate::{FieldError, Instance, InstanceId, InstanceKey, ServiceName, field_error::quoted};

/// Another system's way of writing an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// etcd's own gRPC naming (`clientv3/naming/endpoints`).
    Grpc,
    /// Traefik's key-value provider, at its default root `traefik`.
    Traefik,
    /// `SkyDNS`, as `CoreDNS` reads it at its default path `/skydns`.
    SkyDns,
    /// go-micro's registry.
    GoMicro,
}

/// The dialects that are spoken, and what they need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialects {
    spoken: Vec<Dialect>,
    /// The labels of the domain, turned round: `com/example`.
    skydns_domain: String,
}

/// One key of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewKey {
    /// The etcd key.
    pub key: String,
    /// What should stand there.
    pub value: ViewValue,
}

/// What should stand at a key of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewValue {
    /// This, for as long as the instance lives: under its lease.
    Leased(String),
    /// This, if nothing is there: it belongs to the service, outlives its instances, and may be edited by an operator.
    Kept(String),
    /// Nothing.
    Absent,
}

/// Everything that `dialects` have to say about an instance, at the keys that they use for it.
///
/// [`ViewValue::Absent`] at all of them unless the instance is in rotation. Nothing at all for a nameless instance:
/// that was written by another program.
pub fn view(dialects: &Dialects, key: &InstanceKey, instance: &Instance) -> Vec<ViewKey> {
    let Some(id) = &key.instance else { return Vec::new() };
    let mut view: Vec<ViewKey> =
        dialects.spoken.iter().flat_map(|dialect| dialects.written(*dialect, &key.service, id, instance)).collect();
    if !instance.status.is_in_rotation() {
        remove(&mut view);
    }
    view
}

/// The view of an instance that is not there, or should not be seen: what the service keeps is not mentioned.
pub fn absent(dialects: &Dialects, key: &InstanceKey) -> Vec<ViewKey> {
    let mut view = of_anything(dialects, key);
    remove(&mut view);
    view
}

/// Every key that a view of the instance may have, those that the service keeps included.
pub fn keys(dialects: &Dialects, key: &InstanceKey) -> Vec<String> {
    of_anything(dialects, key).into_iter().map(|one| one.key).collect()
}

/// The keys are the same whatever the instance says, so any instance will do.
fn of_anything(dialects: &Dialects, key: &InstanceKey) -> Vec<ViewKey> {
    let anywhere = Instance::at("0.0.0.0:1".parse().expect("an address"));
    view(dialects, key, &anywhere)
}

fn remove(view: &mut Vec<ViewKey>) {
    view.retain(|one| !matches!(one.value, ViewValue::Kept(_)));
    view.iter_mut().for_each(|one| one.value = ViewValue::Absent);
}

/// FNV-1a with 64 bits: small, and the same in every release, which `std`'s hasher does not promise.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

// === impl Dialect ===

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Grpc, Self::Traefik, Self::SkyDns, Self::GoMicro];

    /// `grpc`, `traefik`, `skydns` or `go-micro`, as an operator writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Traefik => "traefik",
            Self::SkyDns => "skydns",
            Self::GoMicro => "go-micro",
        }
    }
}

impl FromStr for Dialect {
    type Err = FieldError;

    fn from_str(name: &str) -> Result<Self, FieldError> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == name).ok_or_else(|| {
            let quoted = quoted(name);
            FieldError::new("dialects", format!("{quoted} is unknown; use grpc, traefik, skydns or go-micro"))
        })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl Dialects ===

impl Dialects {
    /// No instance is written in any.
    #[must_use]
    pub fn none() -> Self {
        Self::from([])
    }

    /// The names in `SkyDNS` end with `domain` (`muster`, `discovery.example.com`) instead of `muster`.
    #[must_use]
    pub fn under(mut self, domain: &str) -> Self {
        let labels: Vec<&str> = domain.trim_end_matches('.').rsplit('.').collect();
        self.skydns_domain = labels.join("/");
        self
    }

    /// Whether none is spoken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spoken.is_empty()
    }

    fn written(&self, dialect: Dialect, service: &ServiceName, id: &InstanceId, instance: &Instance) -> Vec<ViewKey> {
        match dialect {
            Dialect::Grpc => vec![grpc::write(service, id, instance)],
            Dialect::Traefik => traefik::write(service, id, instance),
            Dialect::SkyDns => vec![skydns::write(&self.skydns_domain, service, id, instance)],
            Dialect::GoMicro => vec![go_micro::write(service, id, instance)],
        }
    }
}

impl<T: IntoIterator<Item = Dialect>> From<T> for Dialects {
    fn from(spoken: T) -> Self {
        Self { spoken: spoken.into_iter().collect(), skydns_domain: "muster".to_owned() }
    }
}

// === impl ViewKey ===

impl ViewKey {
    fn leased(key: String, value: impl Into<String>) -> Self {
        Self { key, value: ViewValue::Leased(value.into()) }
    }

    fn kept(key: String, value: impl Into<String>) -> Self {
        Self { key, value: ViewValue::Kept(value.into()) }
    }
}

#[cfg(test)]
mod tests;
