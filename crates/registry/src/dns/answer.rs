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
use crate::mirror::{Entry, ServiceView};

/// How long a name that spells an address may be kept: what it spells never changes. In seconds.
const ENCODED_TTL_SECS: u32 = 3600;

/// All instances are equally near; whom to prefer is in the weight.
const PRIORITY: u16 = 1;

/// What is known, as far as DNS asks.
pub trait InstanceSource {
    /// Everything about a service.
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>>;

    /// Whether what is not there now can be said not to be there.
    fn is_fresh(&self) -> bool;

    /// Up to where it is known.
    fn revision(&self) -> Revision;

    /// The addresses of a host name outside of the zone; none, while none is known.
    fn addresses(&self, host: &HostName) -> Vec<IpAddr>;
}

/// What is at a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
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
pub(super) fn find(zone: &Zone, view: &impl InstanceSource, name: &Name, kind: RecordType, most: usize) -> Lookup {
    match zone.place(name) {
        Place::Outside => Lookup::Refused,
        Place::Apex => Lookup::plain(match kind {
            RecordType::SOA => vec![zone.soa(view.revision().0)],
            RecordType::NS => vec![zone.ns()],
            RecordType::ANY => vec![zone.soa(view.revision().0), zone.ns()],
            _ => Vec::new(),
        }),
        Place::EmptyNonTerminal => Lookup::NoData,
        Place::Nothing => Lookup::NoName,
        Place::Address(address) => Lookup::plain(address_record(name, address, ENCODED_TTL_SECS, kind)),
        Place::Service { service, tag, srv_only } => {
            let known = view.service(&service);
            let entries = known.as_ref().map_or(&[][..], |known| &known.instances);
            let tagged: Vec<&Arc<Entry>> = entries.iter().filter(|entry| has_tag(entry, tag.as_deref())).collect();
            let found = match tagged.is_empty() {
                true if is_above_a_tag(entries, tag.as_deref()) => Lookup::NoData,
                true => Lookup::NoName,
                false => at_service(zone, view, &Question { name, kind, srv_only, most }, &tagged),
            };
            // An empty answer must be true; instances may be answered from memory, and so may what they have not: an instance without an
            // IPv6 address has none, whatever etcd says next. A client that asks for both would take neither else.
            match found {
                Lookup::NoData if tagged.iter().any(|entry| is_in_rotation(entry)) => found,
                Lookup::NoData | Lookup::NoName if !view.is_fresh() => Lookup::Unknown,
                found => found,
            }
        }
    }
}

/// What is asked at a service's name.
struct Question<'a> {
    name: &'a Name,
    kind: RecordType,
    srv_only: bool,
    most: usize,
}

fn is_in_rotation(entry: &Entry) -> bool {
    entry.status().is_in_rotation()
}

/// Whether a name with more labels in front is there: `4.mail.service.muster`, where `v1.4` is a tag (RFC 8020).
fn is_above_a_tag(entries: &[Arc<Entry>], labels: Option<&str>) -> bool {
    let Some(labels) = labels else { return false };
    let is_below = |tag: &String| {
        let rest = tag.len().checked_sub(labels.len()).and_then(|at| Some((tag.get(..at)?, tag.get(at..)?)));
        rest.is_some_and(|(front, end)| front.ends_with('.') && end.eq_ignore_ascii_case(labels))
    };
    entries.iter().any(|entry| entry.registered.instance.tags.iter().any(is_below))
}

fn has_tag(entry: &Entry, tag: Option<&str>) -> bool {
    let tags = &entry.registered.instance.tags;
    tag.is_none_or(|tag| tags.iter().any(|own| own.eq_ignore_ascii_case(tag)))
}

fn at_service(zone: &Zone, view: &impl InstanceSource, question: &Question<'_>, entries: &[&Arc<Entry>]) -> Lookup {
    let passing = entries.iter().filter(|entry| is_in_rotation(entry));
    let mut passing: Vec<&Instance> = passing.map(|entry| &entry.registered.instance).collect();
    let more = passing.len() > question.most;
    let chosen = passing.partial_shuffle(&mut rand::rng(), question.most).0;
    let known = |host: &HostName| if zone.apex().zone_of(&host_name(host)) { Vec::new() } else { view.addresses(host) };
    match question.kind {
        RecordType::SRV => servers(zone, question.name, chosen, more, known),
        RecordType::A | RecordType::AAAA | RecordType::ANY | RecordType::CNAME if !question.srv_only => {
            addresses(question, chosen, more, known)
        }
        _ => Lookup::NoData,
    }
}

/// Every address once, however many instances are there; those of host names are told at the service's own name, so that a client
/// or a forwarder need not follow an alias, which most do not.
fn addresses(
    &Question { name, kind, .. }: &Question<'_>,
    instances: &[&Instance],
    more: bool,
    known: impl Fn(&HostName) -> Vec<IpAddr>,
) -> Lookup {
    let mut seen = BTreeSet::new();
    let ips = instances.iter().flat_map(|instance| match &instance.address.host {
        Host::Name(host) => known(host),
        Host::V4(ip) => vec![(*ip).into()],
        Host::V6(ip) => vec![(*ip).into()],
    });
    let ips: Vec<IpAddr> = ips.filter(|ip| seen.insert(*ip)).collect();
    let answers: Vec<Record> = ips.iter().flat_map(|ip| address_record(name, *ip, TTL_SECS, kind)).collect();
    let alias = instances.iter().find_map(|instance| match &instance.address.host {
        Host::Name(host) => Some(host),
        Host::V4(_) | Host::V6(_) => None,
    });
    match alias {
        // It does not resolve here; the client may know better. A name beside addresses would be an alias beside other
        // records, which there must not be (RFC 1034 3.6.2).
        Some(host) if seen.is_empty() => {
            Lookup::plain(vec![Record::from_rdata(name.clone(), TTL_SECS, RData::CNAME(CNAME(host_name(host))))])
        }
        _ if answers.is_empty() => Lookup::NoData,
        _ => Lookup::Records { answers, additionals: Vec::new(), more },
    }
}

fn servers(
    zone: &Zone,
    name: &Name,
    instances: &[&Instance],
    more: bool,
    known: impl Fn(&HostName) -> Vec<IpAddr>,
) -> Lookup {
    if instances.is_empty() {
        return Lookup::NoData;
    }
    let mut answers = Vec::new();
    let mut additionals = Vec::new();
    let mut seen = BTreeSet::new();
    for instance in instances {
        let encoded = |ip: IpAddr| (zone.name_of(ip), vec![ip], ENCODED_TTL_SECS);
        let (target, ips, ttl_secs) = match &instance.address.host {
            Host::Name(host) => (host_name(host), known(host), TTL_SECS),
            Host::V4(ip) => encoded((*ip).into()),
            Host::V6(ip) => encoded((*ip).into()),
        };
        if seen.insert(target.clone()) {
            let records = ips.into_iter().flat_map(|ip| address_record(&target, ip, ttl_secs, RecordType::ANY));
            additionals.extend(records);
        }
        let server = SRV::new(PRIORITY, instance.weight.get(), instance.address.port.get(), target);
        answers.push(Record::from_rdata(name.clone(), TTL_SECS, RData::SRV(server)));
    }
    Lookup::Records { answers, additionals, more }
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

// === impl Lookup ===

impl Lookup {
    fn plain(answers: Vec<Record>) -> Self {
        match answers.is_empty() {
            true => Self::NoData,
            false => Self::Records { answers, additionals: Vec::new(), more: false },
        }
    }
}
