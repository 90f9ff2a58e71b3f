//! What is written, read by the rules of those who read it.

mod readers;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Status;

fn key(key: &str) -> InstanceKey {
    key.parse().unwrap()
}

fn mail(address: &str) -> Instance {
    Instance::at(address.parse().unwrap())
}

/// What stands in etcd when each of these is registered.
fn written(dialects: &[Dialect], instances: &[(&str, Instance)]) -> BTreeMap<String, String> {
    let dialects = Dialects::from(dialects.iter().copied());
    let views = instances.iter().flat_map(|(id, instance)| view(&dialects, &key(&format!("service/{id}")), instance));
    views
        .filter_map(|one| match one.value {
            ViewValue::Leased(value) | ViewValue::Kept(value) => Some((one.key, value)),
            ViewValue::Absent => None,
        })
        .collect()
}

#[test]
fn grpc_naming_reads_what_etcds_own_client_library_writes() {
    let etcd = written(&[Dialect::Grpc], &[("mail/10.0.0.5:7070", mail("10.0.0.5:7070"))]);
    let expected = r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#;
    assert_eq!(etcd["grpc/mail/10.0.0.5:7070"], expected);
    assert_eq!(readers::grpc(&etcd, "grpc/mail"), ["10.0.0.5:7070"]);
}

#[test]
fn grpc_naming_finds_all_instances_of_its_target_and_no_other() {
    let instances = [("mail/a", mail("10.0.0.5:7070")), ("mail/b", mail("[::1]:7070")), ("mail2/c", mail("other:1"))];
    let etcd = written(&Dialect::ALL, &instances);
    assert_eq!(readers::grpc(&etcd, "grpc/mail"), ["10.0.0.5:7070", "[::1]:7070"]);
}

#[test]
fn traefik_builds_a_route_and_its_servers_from_the_keys() {
    let heavy = Instance { weight: "3".parse().unwrap(), ..mail("10.0.0.6:7070") };
    let secure = Instance { scheme: "https".parse().unwrap(), ..mail("[2001:db8::1]:443") };
    let instances = [("mail/a", mail("10.0.0.5:7070")), ("mail/b", heavy), ("user-list/c", secure)];
    let config = readers::traefik(&written(&[Dialect::Traefik], &instances)).unwrap();
    let mail = &config.services["mail"];
    let mut servers = mail.servers.clone();
    servers.sort();
    assert_eq!(servers, [("http://10.0.0.5:7070".into(), 1), ("http://10.0.0.6:7070".into(), 3)]);
    assert!(mail.pass_host_header);
    let router = &config.routers["mail"];
    assert_eq!(router.rule, "Path(`/mail`) || PathPrefix(`/mail/`)");
    assert_eq!((router.service.as_str(), router.middlewares.as_slice()), ("mail", &["mail".to_owned()][..]));
    assert_eq!(config.strip_prefixes["mail"], ["/mail"]);
    assert_eq!(config.services["user-list"].servers, [("https://[2001:db8::1]:443".into(), 1)]);
}

#[test]
fn traefik_keeps_service_and_router_when_the_last_instance_goes() {
    let mut etcd = written(&[Dialect::Traefik], &[("mail/a", mail("10.0.0.5:7070"))]);
    for gone in absent(&Dialects::from([Dialect::Traefik]), &key("service/mail/a")) {
        assert_eq!(gone.value, ViewValue::Absent);
        etcd.remove(&gone.key);
    }
    let config = readers::traefik(&etcd).unwrap();
    assert_eq!(config.routers["mail"].service, "mail");
    assert!(config.services["mail"].servers.is_empty(), "503, not 404");
}

#[test]
fn a_service_whose_name_is_a_number_cannot_confuse_traefik() {
    assert!(written(&[Dialect::Traefik], &[("7/a", mail("10.0.0.5:7070"))]).is_empty());
}

#[test]
fn coredns_answers_for_the_service_and_for_every_target_of_its_srv_records() {
    let instances = [
        ("mail/10.0.0.5:7070", mail("10.0.0.5:7070")),
        ("mail/10.0.0.5-7070", mail("10.0.0.6:7070")),
        ("mail/...", mail("[::1]:7070")),
        ("mail/Web_1", mail("web.example:80")),
        ("mail2/a", mail("10.0.0.9:1")),
    ];
    let etcd = written(&[Dialect::SkyDns], &instances);
    let records = readers::coredns(&etcd, "mail.service.muster.");
    let hosts: BTreeSet<&str> = records.iter().map(|record| record.host.as_str()).collect();
    assert_eq!(hosts, ["10.0.0.5", "10.0.0.6", "::1", "web.example"].into());
    for record in records {
        assert_eq!((record.priority, record.weight, record.ttl), (10, 1, 5));
        let target = record.target();
        assert!(target.split('.').all(|label| label.len() <= 63), "{target}");
        let followed = readers::coredns(&etcd, &target);
        assert_eq!(followed.len(), 1, "{target}");
        assert_eq!(followed[0].host, record.host);
    }
}

#[test]
fn an_id_of_any_length_makes_one_label() {
    let id = format!("mail/{}", "x.".repeat(64));
    let etcd = written(&[Dialect::SkyDns], &[(id.as_str(), mail("10.0.0.5:7070"))]);
    assert_eq!(readers::coredns(&etcd, "mail.service.muster.").len(), 1);
}

#[test]
fn go_micro_joins_the_nodes_of_each_version() {
    let versioned = |version: &str, address: &str| Instance { version: Some(version.into()), ..mail(address) };
    let named =
        Instance { meta: [("owner".into(), "ops".into()), ("protocol".into(), "x".into())].into(), ..mail("m:1") };
    let instances = [
        ("mail/a", versioned("1.4.0", "10.0.0.5:7070")),
        ("mail/b", versioned("1.4.0", "10.0.0.6:7070")),
        ("mail/c", named),
    ];
    let services = readers::go_micro(&written(&[Dialect::GoMicro], &instances), "mail");
    let addresses = |version: &str| -> Vec<&str> {
        services[version].iter().map(|node| node["address"].as_str().unwrap()).collect()
    };
    assert_eq!(addresses("1.4.0"), ["10.0.0.5:7070", "10.0.0.6:7070"]);
    assert_eq!(addresses("latest"), ["m:1"]);
    let metadata = &services["latest"][0]["metadata"];
    assert_eq!((&metadata["owner"], &metadata["protocol"]), (&"ops".into(), &"http".into()));
}

#[test]
fn a_degraded_instance_is_written_as_a_passing_one() {
    let degraded = Instance { status: Status::Degraded, ..mail("10.0.0.5:7070") };
    let written = |instance| written(&Dialect::ALL, &[("mail/a", instance)]);
    assert_eq!(written(degraded), written(mail("10.0.0.5:7070")));
}

#[test]
fn an_instance_that_wants_no_traffic_is_in_no_view() {
    for status in [Status::Draining, Status::Critical] {
        let away = Instance { status, ..mail("10.0.0.5:7070") };
        assert!(written(&Dialect::ALL, &[("mail/a", away.clone())]).is_empty());
        let names = |view: Vec<ViewKey>| view.into_iter().map(|one| one.key).collect::<BTreeSet<_>>();
        assert_eq!(
            names(view(&Dialect::ALL.into(), &key("service/mail/a"), &away)),
            names(absent(&Dialect::ALL.into(), &key("service/mail/a")))
        );
    }
}

#[test]
fn whatever_an_instance_says_its_keys_are_those_that_are_removed_with_it() {
    let said = Instance {
        weight: "9".parse().unwrap(),
        zone: Some("a".into()),
        version: Some("1".into()),
        scheme: "h2c".parse().unwrap(),
        ..mail("mail.example:1")
    };
    let removed: BTreeSet<String> =
        absent(&Dialect::ALL.into(), &key("service/mail/a")).into_iter().map(|one| one.key).collect();
    for one in view(&Dialect::ALL.into(), &key("service/mail/a"), &said) {
        let kept = matches!(one.value, ViewValue::Kept(_));
        assert_eq!(removed.contains(&one.key), !kept, "{}", one.key);
    }
}

#[test]
fn no_two_instances_share_a_key_of_their_own() {
    let ids = ["a", "A", "a.b", "a-b", "a:b", "a_b", "10.0.0.5:7070"];
    let keys: Vec<String> = ids
        .iter()
        .flat_map(|id| absent(&Dialect::ALL.into(), &key(&format!("service/mail/{id}"))))
        .map(|one| one.key)
        .collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert!(keys.iter().all(|key| !key.starts_with(crate::SERVICE_PREFIX)));
}

#[test]
fn a_nameless_instance_has_no_view() {
    assert!(view(&Dialect::ALL.into(), &key("service/mail"), &mail("10.0.0.5:7070")).is_empty());
}

#[test]
fn dialects_are_known_by_name() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.to_string().parse::<Dialect>().unwrap(), dialect);
    }
    assert_eq!("gRPC".parse::<Dialect>().unwrap_err().field, "dialects");
}

#[test]
fn skydns_names_end_with_the_configured_domain() {
    let keys = |domain| keys(&Dialects::from([Dialect::SkyDns]).under(domain), &key("service/mail/a"));
    for (domain, expected) in [
        ("muster", "/skydns/muster/service/mail/a-"),
        ("discovery.example.com", "/skydns/com/example/discovery/service/mail/a-"),
        ("example.com.", "/skydns/com/example/service/mail/a-"),
    ] {
        assert!(keys(domain)[0].starts_with(expected), "{domain}: {:?}", keys(domain));
    }
}
