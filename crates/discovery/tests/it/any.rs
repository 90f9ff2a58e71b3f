//! Any value of each type, as far as its bounds allow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use discovery::{
    Address, HealthPath, Host, HostName, Instance, InstanceId, InstanceKey, Reason, Scheme, ServiceName, Status,
};
use proptest::{
    collection::{btree_map, btree_set},
    option,
    prelude::*,
};

pub(crate) fn service() -> impl Strategy<Value = ServiceName> {
    "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?".prop_map(|name| name.parse().unwrap())
}

pub(crate) fn instance_id() -> impl Strategy<Value = InstanceId> {
    let id = "[A-Za-z0-9._:-]{1,128}".prop_filter("path tricks", |id| id != "." && id != "..");
    id.prop_map(|id| id.parse().unwrap())
}

pub(crate) fn key() -> impl Strategy<Value = InstanceKey> {
    (service(), option::of(instance_id())).prop_map(|(service, instance)| InstanceKey { service, instance })
}

fn host_name() -> impl Strategy<Value = HostName> {
    let name = "([a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?\\.){0,5}[a-z]([-a-z0-9]{0,20}[a-z0-9])?";
    name.prop_map(|name| name.parse().unwrap())
}

pub(crate) fn address() -> impl Strategy<Value = Address> {
    let host = prop_oneof![
        any::<Ipv4Addr>().prop_map(Host::V4),
        any::<Ipv6Addr>().prop_map(|ip| Host::from(IpAddr::V6(ip))),
        host_name().prop_map(Host::Name),
    ];
    (host, any::<std::num::NonZeroU16>()).prop_map(|(host, port)| Address { host, port })
}

/// Text without control characters, of any script, as long as its bound allows.
fn text(max_bytes: usize) -> impl Strategy<Value = String> {
    prop_oneof![4 => "\\PC{1,20}", 1 => "[ -~]{1,300}"].prop_map(move |text| {
        let mut end = max_bytes.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_owned()
    })
}

fn health() -> impl Strategy<Value = HealthPath> {
    "/([!\"$-\\[\\]-~]{0,50}[!\"$-.0-\\[\\]-~])?".prop_filter_map("one slash only", |path| path.parse().ok())
}

pub(crate) fn instance() -> impl Strategy<Value = Instance> {
    let scheme = prop_oneof![Just(Scheme::Http), Just(Scheme::Https), Just(Scheme::H2c)];
    let status =
        prop_oneof![Just(Status::Passing), Just(Status::Degraded), Just(Status::Draining), Just(Status::Critical)];
    let status = (status, "\\PC{0,220}").prop_map(|(status, reason)| {
        (status, Some(status).filter(|status| *status != Status::Passing).and_then(|_| Reason::shorten(&reason)))
    });
    let weight = (1_u64..=1000).prop_map(|weight| weight.try_into().unwrap());
    let tags = btree_set(text(Instance::TAG_MAX_BYTES), 0..5);
    let meta = btree_map("[A-Za-z0-9._/-]{1,64}", text(Instance::META_VALUE_MAX_BYTES), 0..5);
    let texts = (option::of(text(Instance::ZONE_MAX_BYTES)), option::of(text(Instance::VERSION_MAX_BYTES)));
    (address(), scheme, weight, texts, option::of(health()), status, tags, meta).prop_map(
        |(address, scheme, weight, (zone, version), health, (status, reason), tags, meta)| Instance {
            address,
            scheme,
            weight,
            zone,
            version,
            health,
            status,
            reason,
            tags,
            meta,
        },
    )
}
