//! Whole messages, without a network: what is asked as bytes, what is answered as bytes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use discovery::{HostName, Instance, Registered, Revision, ServiceName, Status};
use hickory_proto::{
    op::Query,
    rr::{Name, RData, Record},
};
use proptest::prelude::*;

use super::*;
use crate::mirror::{Entry, Rendered, ServiceView, Since};

/// A catalog of one service, `mail`.
struct Known {
    entries: Vec<Arc<Entry>>,
    fresh: bool,
}

impl InstanceSource for Known {
    fn service(&self, name: &ServiceName) -> Option<Arc<ServiceView>> {
        let view = ServiceView {
            name: name.clone(),
            index: Revision(7),
            instances: self.entries.clone(),
            tombstones: Vec::new(),
            complete_since: Revision(0),
        };
        (name.as_str() == "mail").then(|| Arc::new(view))
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn revision(&self) -> Revision {
        Revision((3 << 32) + 7)
    }

    /// `two.example` has an IPv4 and an IPv6 address, `one.example` only one of the first kind, and no other name resolves.
    fn addresses(&self, host: &HostName) -> Vec<IpAddr> {
        let addresses: &[&str] = match host.as_str() {
            "one.example" => &["10.0.1.1"],
            "two.example" => &["10.0.1.2", "fd00::2"],
            _ => &[],
        };
        addresses.iter().map(|ip| ip.parse().unwrap()).collect()
    }
}

/// `mail` with these instances: values as in etcd.
fn mail<'a>(instances: impl IntoIterator<Item = &'a str>) -> Known {
    let entry = |(place, value): (usize, &str)| {
        let registered = Registered {
            key: format!("service/mail/{place}").parse().unwrap(),
            instance: value.parse::<Instance>().unwrap(),
            lease: None,
            created: Revision(1),
            modified: Revision(1),
        };
        let json = Rendered::default();
        let since = Since { at: std::time::UNIX_EPOCH, from_start: false };
        Arc::new(Entry { registered, overridden: None, other_holder: None, changed: Revision(1), json, since })
    };
    Known { entries: instances.into_iter().enumerate().map(entry).collect(), fresh: true }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The answer to these bytes.
fn ask_bytes(known: &Known, request: &[u8], transport: Transport) -> Option<Message> {
    let zone = Zone::new("muster").unwrap();
    let (bytes, code) = answer(&zone, known, request, transport)?;
    let message = Message::from_vec(&bytes).expect("what we answer can be read");
    assert_eq!(u16::from(message.metadata.response_code), u16::from(code));
    Some(message)
}

fn ask(known: &Known, name: &str, kind: RecordType) -> Message {
    ask_bytes(known, &question(name, kind).to_vec().unwrap(), Transport::Udp).expect("an answer")
}

fn data(records: &[Record]) -> Vec<String> {
    let mut data: Vec<String> = records.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data
}

#[test]
fn addresses_of_passing_instances_are_answered_once_each_with_a_short_ttl() {
    let known = mail([
        "10.0.0.5:7070",
        "10.0.0.5:7071",
        "10.0.0.6:7070",
        "[2001:db8::1]:7070",
        "http://10.0.0.7:1?status=draining",
        "http://10.0.0.8:1?status=critical",
    ]);
    let a = ask(&known, "Mail.service.muster.", RecordType::A);
    assert_eq!(data(&a.answers), ["10.0.0.5", "10.0.0.6"]);
    assert!(a.answers.iter().all(|record| record.ttl == 1));
    assert!(a.metadata.authoritative && a.metadata.recursion_desired && !a.metadata.recursion_available);
    assert_eq!(a.metadata.id, 4711);
    let aaaa = ask(&known, "mail.service.muster.", RecordType::AAAA);
    assert_eq!(data(&aaaa.answers), ["2001:db8::1"]);
}

#[test]
fn an_operators_drain_is_heeded() {
    let mut known = mail(["10.0.0.5:7070", "10.0.0.6:7070"]);
    Arc::make_mut(&mut known.entries[0]).overridden = Some(Status::Draining.into());
    assert_eq!(data(&ask(&known, "mail.service.muster.", RecordType::A).answers), ["10.0.0.6"]);
}

#[test]
fn servers_come_with_port_weight_and_the_addresses_of_their_targets() {
    let known = mail(["http://10.0.0.5:7070?weight=3", "10.0.0.5:7071", "[::1]:7070", "mail.example:25"]);
    for name in ["mail.service.muster.", "_mail._tcp.service.muster."] {
        let answer = ask(&known, name, RecordType::SRV);
        let expected = [
            "1 1 25 mail.example.",
            "1 1 7070 00000000000000000000000000000001.addr.muster.",
            "1 1 7071 0a000005.addr.muster.",
            "1 3 7070 0a000005.addr.muster.",
        ];
        assert_eq!(data(&answer.answers), expected, "{name}");
        assert_eq!(data(&answer.additionals), ["10.0.0.5", "::1"]);
        for record in &answer.additionals {
            let followed = ask(&known, &record.name.to_ascii(), record.record_type());
            assert_eq!(followed.answers[0].data, record.data, "the target can be asked for, too");
        }
    }
}

#[test]
fn a_tag_selects() {
    let known = mail(["http://10.0.0.5:1?tag=EU&tag=v1.4", "http://10.0.0.6:1?tag=us"]);
    assert_eq!(data(&ask(&known, "eu.mail.service.muster.", RecordType::A).answers), ["10.0.0.5"]);
    assert_eq!(data(&ask(&known, "v1.4.mail.service.muster.", RecordType::A).answers), ["10.0.0.5"]);
    let code = |name: &str| ask(&known, name, RecordType::A).metadata.response_code;
    assert_eq!(code("asia.mail.service.muster."), ResponseCode::NXDomain);
    assert_eq!(
        code("4.mail.service.muster."),
        ResponseCode::NoError,
        "a name that has one below it is there (RFC 8020)"
    );
    assert_eq!(code("1.4.mail.service.muster."), ResponseCode::NXDomain);
}

#[test]
fn an_instance_that_is_a_name_is_told_by_its_addresses_at_the_services_own_name() {
    let known = mail(["one.example:25", "two.example:25", "10.0.0.5:25"]);
    let a = ask(&known, "mail.service.muster.", RecordType::A);
    assert_eq!(data(&a.answers), ["10.0.0.5", "10.0.1.1", "10.0.1.2"]);
    assert!(a.answers.iter().all(|record| record.name.to_ascii() == "mail.service.muster." && record.ttl == 1));
    assert_eq!(data(&ask(&known, "mail.service.muster.", RecordType::AAAA).answers), ["fd00::2"]);
    let servers = ask(&known, "_mail._tcp.service.muster.", RecordType::SRV);
    assert_eq!(data(&servers.additionals), ["10.0.0.5", "10.0.1.1", "10.0.1.2", "fd00::2"]);
    let only = ask(&mail(["one.example:25"]), "mail.service.muster.", RecordType::AAAA);
    assert_eq!((only.answers.len(), only.authorities.len()), (0, 1), "it has no IPv6 address");
}

#[test]
fn the_alias_of_a_name_that_does_not_resolve_here_is_found_by_asking_for_it_too() {
    let alias = ask(&mail(["mail.example:25"]), "mail.service.muster.", RecordType::CNAME);
    assert_eq!(data(&alias.answers), ["mail.example."]);
    assert!(ask(&mail(["10.0.0.5:25"]), "mail.service.muster.", RecordType::CNAME).answers.is_empty());
    let own = ask(&mail(["web.service.muster:25"]), "mail.service.muster.", RecordType::A);
    assert_eq!(data(&own.answers), ["web.service.muster."], "a name of ours is not looked up elsewhere");
}

#[test]
fn an_instance_that_is_a_name_is_an_alias_only_where_there_is_no_address() {
    let answer = ask(&mail(["mail.example:25"]), "mail.service.muster.", RecordType::A);
    assert_eq!(data(&answer.answers), ["mail.example."]);
    assert_eq!(answer.answers[0].record_type(), RecordType::CNAME);
    let both = mail(["mail.example:25", "10.0.0.5:25"]);
    assert_eq!(data(&ask(&both, "mail.service.muster.", RecordType::A).answers), ["10.0.0.5"]);
    assert!(ask(&both, "mail.service.muster.", RecordType::AAAA).answers.is_empty());
}

#[test]
fn no_such_name_is_told_from_no_such_record_and_both_say_for_how_long() {
    let known = mail(["http://10.0.0.5:1?status=draining"]);
    let cases = [
        ("mail.service.muster.", RecordType::A, ResponseCode::NoError),
        ("mail.service.muster.", RecordType::MX, ResponseCode::NoError),
        ("_mail._tcp.service.muster.", RecordType::A, ResponseCode::NoError),
        ("service.muster.", RecordType::A, ResponseCode::NoError),
        ("muster.", RecordType::A, ResponseCode::NoError),
        ("0a000005.addr.muster.", RecordType::AAAA, ResponseCode::NoError),
        ("nobody.service.muster.", RecordType::A, ResponseCode::NXDomain),
        ("_nobody._tcp.service.muster.", RecordType::SRV, ResponseCode::NXDomain),
        ("else.muster.", RecordType::A, ResponseCode::NXDomain),
    ];
    for (name, kind, code) in cases {
        let answer = ask(&known, name, kind);
        assert_eq!(answer.metadata.response_code, code, "{name} {kind}");
        assert!(answer.answers.is_empty() && answer.metadata.authoritative, "{name} {kind}");
        let RData::SOA(soa) = &answer.authorities[0].data else { panic!("{name}: {:?}", answer.authorities) };
        assert_eq!((soa.minimum, answer.authorities[0].ttl, soa.serial), (1, 1, 7), "{name} {kind}");
    }
}

#[test]
fn nobody_is_said_only_when_it_is_known() {
    let silent = Known { fresh: false, ..mail(["10.0.0.5:7070"]) };
    assert_eq!(data(&ask(&silent, "mail.service.muster.", RecordType::A).answers), ["10.0.0.5"], "from memory");
    for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::MX] {
        let answer = ask(&silent, "mail.service.muster.", kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "as well known as the address: {kind}");
        assert_eq!((answer.answers.len(), answer.authorities[0].record_type()), (0, RecordType::SOA));
    }
    let drained = Known { fresh: false, ..mail(["http://10.0.0.5:1?status=draining"]) };
    for (known, name, kind) in [
        (&silent, "nobody.service.muster.", RecordType::A),
        (&silent, "eu.mail.service.muster.", RecordType::A),
        (&drained, "mail.service.muster.", RecordType::A),
        (&drained, "mail.service.muster.", RecordType::AAAA),
    ] {
        let answer = ask(known, name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{name}");
        assert!(answer.authorities.is_empty(), "nothing to be kept");
    }
}

#[test]
fn what_stands_for_the_protocol_is_a_tag_as_in_consul() {
    let known = mail(["http://10.0.0.5:7070?tag=EU", "10.0.0.6:7070"]);
    let targets = |name: &str| data(&ask(&known, name, RecordType::SRV).answers);
    assert_eq!(targets("_mail._eu.service.muster."), ["1 1 7070 0a000005.addr.muster."]);
    assert_eq!(targets("_mail._tcp.service.muster.").len(), 2, "tcp is no tag");
    let code = |name: &str| ask(&known, name, RecordType::SRV).metadata.response_code;
    assert_eq!(code("_mail._asia.service.muster."), ResponseCode::NXDomain);
    assert_eq!(code("_eu.service.muster."), ResponseCode::NoError, "there are names below it");
}

#[test]
fn the_domain_has_an_authority() {
    let known = mail([]);
    let soa = ask(&known, "muster.", RecordType::SOA);
    assert_eq!((soa.answers.len(), soa.answers[0].record_type()), (1, RecordType::SOA));
    assert_eq!(data(&ask(&known, "muster.", RecordType::NS).answers), ["ns.muster."]);
}

#[test]
fn other_domains_classes_and_transfers_are_refused() {
    let known = mail(["10.0.0.5:7070"]);
    for (name, kind) in [("example.com.", RecordType::A), (".", RecordType::NS), ("muster.", RecordType::AXFR)] {
        let answer = ask(&known, name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        assert!(!answer.metadata.authoritative);
    }
    let mut chaos = question("mail.service.muster.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let answer = ask_bytes(&known, &chaos.to_vec().unwrap(), Transport::Udp).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_is_no_query_is_told_so_and_answers_are_never_answered() {
    let known = mail(["10.0.0.5:7070"]);
    let code = |message: &Message| {
        let answer = ask_bytes(&known, &message.to_vec().unwrap(), Transport::Udp);
        answer.map(|answer| (answer.metadata.response_code, answer.metadata.id))
    };
    let mut update = question("mail.service.muster.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), Some((ResponseCode::NotImp, 4711)));
    let mut two = question("mail.service.muster.", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(code(&two), Some((ResponseCode::FormErr, 4711)));
    two.queries.clear();
    assert_eq!(code(&two), Some((ResponseCode::FormErr, 4711)));
    let mut newer = question("mail.service.muster.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let told = code(&newer).map(|(code, id)| (u16::from(code), id));
    assert_eq!(told, Some((u16::from(ResponseCode::BADVERS), 4711)));
    let mut answer = question("mail.service.muster.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(code(&answer), None);
}

/// 300 instances at as many addresses.
fn crowd() -> Known {
    let values: Vec<String> = (0..300_u32).map(|n| format!("{}:7070", Ipv4Addr::from(0x0a00_0000 + n))).collect();
    mail(values.iter().map(String::as_str))
}

#[test]
fn an_answer_that_does_not_fit_a_datagram_is_cut_and_says_so() {
    let known = crowd();
    let plain = question("mail.service.muster.", RecordType::A);
    let mut offering = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    offering.set_edns(edns);
    for (request, limit) in [(plain, 512), (offering, 1232)] {
        let zone = Zone::new("muster").unwrap();
        let (bytes, _) = answer(&zone, &known, &request.to_vec().unwrap(), Transport::Udp).unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= limit && bytes.len() > limit * 8 / 10, "{} of {limit}", bytes.len());
        assert!(read.metadata.truncation && !read.answers.is_empty());
        assert_eq!(read.edns.is_some(), request.edns.is_some(), "who speaks EDNS is answered in EDNS");
    }
    let request = question("mail.service.muster.", RecordType::A).to_vec().unwrap();
    let whole = ask_bytes(&known, &request, Transport::Tcp).unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (300, false));
}

#[test]
fn addresses_of_targets_are_left_out_before_servers_are() {
    let values: Vec<String> = (1..=10).map(|n| format!("10.0.0.{n}:7070")).collect();
    let known = mail(values.iter().map(String::as_str));
    let answer = ask(&known, "mail.service.muster.", RecordType::SRV);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (10, 0));
    assert!(!answer.metadata.truncation, "nothing that was asked for is missing");
}

#[test]
fn more_instances_than_fit_any_message_are_still_an_answer() {
    let values: Vec<String> = (0..5000_u32).map(|n| format!("{}:7070", Ipv4Addr::from(0x0a00_0000 + n))).collect();
    let known = mail(values.iter().map(String::as_str));
    let request = question("mail.service.muster.", RecordType::SRV).to_vec().unwrap();
    let answer = ask_bytes(&known, &request, Transport::Tcp).unwrap();
    assert!(answer.answers.len() > 500, "{}", answer.answers.len());
}

#[test]
fn every_instance_gets_its_turn_at_the_head_of_the_list() {
    let known = mail(["10.0.0.5:1", "10.0.0.6:1", "10.0.0.7:1", "10.0.0.8:1"]);
    let first = |_| ask(&known, "mail.service.muster.", RecordType::A).answers[0].data.to_string();
    // By chance less than one in 10^22 runs misses one.
    let heads: BTreeSet<String> = (0..200).map(first).collect();
    assert_eq!(heads.len(), 4);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_answer_too_long(mut request in prop::collection::vec(any::<u8>(), 0..600), valid: bool) {
        let known = mail(["10.0.0.5:7070"]);
        if valid {
            // A good question with a bad tail gets further than noise.
            let mut whole = question("mail.service.muster.", RecordType::SRV).to_vec().unwrap();
            whole.append(&mut request);
            request = whole;
        }
        let zone = Zone::new("muster").unwrap();
        if let Some((bytes, _)) = answer(&zone, &known, &request, Transport::Udp) {
            prop_assert!(bytes.len() <= 1232);
            prop_assert_eq!(&bytes[..2], &request[..2]);
        }
    }
}
