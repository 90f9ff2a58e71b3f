//! What is at a name: records, nothing of that type, or no such name.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use discovery::{Host, HostName, Instance, Revision, ServiceName};
use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, CNAME, SRV},
};
use rand::seq::SliceRandom as _;

use super::{
    TTL_SECS,
    zone::{Place, Zone},
};
use crate::catalog::{Entry, ServiceView};

/// How long a name that spells an address may be kept: what it spells never changes. In seconds.
const SPELLED_TTL_SECS: u32 = 3600;

/// All instances are equally near; whom to prefer is in the weight.
const PRIORITY: u16 = 1;

/// What is known, as far as DNS asks.
pub trait View {
    /// Everything about a service.
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>>;

    /// Whether what is not there now can be said not to be there.
    fn is_fresh(&self) -> bool;

    /// Up to where it is known.
    fn revision(&self) -> Revision;
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Records of the type that was asked for.
    Records {
        /// In random order.
        answers: Vec<Record>,
        /// What is worth knowing with them: addresses of targets.
        additionals: Vec<Record>,
        /// Whether there are more than were asked for.
        more: bool,
    },
    /// The name is there, with no record of that type (`NODATA`).
    NoData,
    /// There is no such name (`NXDOMAIN`).
    NoName,
    /// It is not known.
    Unknown,
    /// It is not ours to say.
    Refused,
}

/// At most `most` records of type `kind` at `name`.
pub(super) fn find(zone: &Zone, view: &impl View, name: &Name, kind: RecordType, most: usize) -> Found {
    match zone.place(name) {
        Place::Outside => Found::Refused,
        Place::Apex => Found::plain(match kind {
            RecordType::SOA => vec![zone.soa(view.revision().0)],
            RecordType::NS => vec![zone.ns()],
            RecordType::ANY => vec![zone.soa(view.revision().0), zone.ns()],
            _ => Vec::new(),
        }),
        Place::Hollow => Found::NoData,
        Place::Nothing => Found::NoName,
        Place::Address(address) => Found::plain(address_record(name, address, SPELLED_TTL_SECS, kind)),
        Place::Service { service, tag, srv_only } => {
            let known = view.service(&service);
            let entries = known.as_ref().map_or(&[][..], |known| &known.instances);
            let tagged: Vec<&Arc<Entry>> = entries.iter().filter(|entry| has_tag(entry, tag.as_deref())).collect();
            let found = match tagged.is_empty() {
                true => Found::NoName,
                false => at_service(zone, name, kind, &tagged, srv_only, most),
            };
            // "Nobody" must be true; who is there may be told from memory.
            match found {
                Found::NoData | Found::NoName if !view.is_fresh() => Found::Unknown,
                found => found,
            }
        }
    }
}

fn has_tag(entry: &Entry, tag: Option<&str>) -> bool {
    let tags = &entry.registered.instance.tags;
    tag.is_none_or(|tag| tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
}

fn at_service(
    zone: &Zone,
    name: &Name,
    kind: RecordType,
    entries: &[&Arc<Entry>],
    srv_only: bool,
    most: usize,
) -> Found {
    let passing = entries.iter().filter(|entry| entry.status().is_in_rotation());
    let mut passing: Vec<&Instance> = passing.map(|entry| &entry.registered.instance).collect();
    let more = passing.len() > most;
    let chosen = passing.partial_shuffle(&mut rand::rng(), most).0;
    match kind {
        RecordType::SRV => servers(zone, name, chosen, more),
        RecordType::A | RecordType::AAAA | RecordType::ANY if !srv_only => addresses(name, kind, chosen, more),
        _ => Found::NoData,
    }
}

/// Every address once, however many instances are there.
fn addresses(name: &Name, kind: RecordType, instances: &[&Instance], more: bool) -> Found {
    let mut seen = BTreeSet::new();
    let ips = instances.iter().filter_map(|instance| instance.address.host.ip()).filter(|ip| seen.insert(*ip));
    let answers: Vec<Record> = ips.flat_map(|ip| address_record(name, ip, TTL_SECS, kind)).collect();
    let alias = instances.iter().find_map(|instance| match &instance.address.host {
        Host::Name(host) => Some(host),
        Host::V4(_) | Host::V6(_) => None,
    });
    match alias {
        // A name beside addresses would be an alias beside other records, which there must not be (RFC 1034 3.6.2).
        Some(host) if seen.is_empty() => {
            Found::plain(vec![Record::from_rdata(name.clone(), TTL_SECS, RData::CNAME(CNAME(host_name(host))))])
        }
        _ if answers.is_empty() => Found::NoData,
        _ => Found::Records { answers, additionals: Vec::new(), more },
    }
}

fn servers(zone: &Zone, name: &Name, instances: &[&Instance], more: bool) -> Found {
    if instances.is_empty() {
        return Found::NoData;
    }
    let (mut answers, mut additionals, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for instance in instances {
        let ip = instance.address.host.ip();
        let target = match &instance.address.host {
            Host::Name(host) => host_name(host),
            Host::V4(ip) => zone.name_of((*ip).into()),
            Host::V6(ip) => zone.name_of((*ip).into()),
        };
        if let Some(ip) = ip.filter(|ip| seen.insert(*ip)) {
            additionals.extend(address_record(&target, ip, SPELLED_TTL_SECS, RecordType::ANY));
        }
        let server = SRV::new(PRIORITY, instance.weight.get(), instance.address.port.get(), target);
        answers.push(Record::from_rdata(name.clone(), TTL_SECS, RData::SRV(server)));
    }
    Found::Records { answers, additionals, more }
}

/// The record of an address, if it is of the type that is asked for.
fn address_record(name: &Name, address: IpAddr, ttl_secs: u32, kind: RecordType) -> Vec<Record> {
    let data = match (address, kind) {
        (IpAddr::V4(ip), RecordType::A | RecordType::ANY) => RData::A(A(ip)),
        (IpAddr::V6(ip), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(ip)),
        _ => return Vec::new(),
    };
    vec![Record::from_rdata(name.clone(), ttl_secs, data)]
}

fn host_name(host: &HostName) -> Name {
    Name::from_ascii(format!("{host}.")).expect("a host name is a domain name")
}

// === impl Found ===

impl Found {
    fn plain(answers: Vec<Record>) -> Self {
        match answers.is_empty() {
            true => Self::NoData,
            false => Self::Records { answers, additionals: Vec::new(), more: false },
        }
    }
}
