use std::time::{Duration, UNIX_EPOCH};

use discovery::Revision;
use discovery_etcd::MemberStatus;
use serde_json::json;

use super::*;

fn listed(service: &str, instances: &Value, tombstones: &Value) -> Listed {
    let answer = json!({ "age_ms": 10, "instances": instances, "tombstones": tombstones });
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    Listed { now, services: [(service.to_owned(), answer)].into(), ..Listed::default() }
}

fn gateway(decisions: &[(&str, &str)], source: &str, age_ms: u64) -> GatewayFacts {
    let instances: Vec<Value> = decisions
        .iter()
        .map(|(id, decision)| json!({ "key": format!("service/mail/{id}"), "decision": decision }))
        .collect();
    let table = json!({ "table": { "source": source, "age_ms": age_ms, "etcd": { "last_error": "refused" } },
        "services": { "mail": { "instances": instances } } });
    let readiness = Heard::Answer(json!({ "status": "ready", "checks": { "table": "ok" } }));
    GatewayFacts { name: "http://a:8081".to_owned(), readiness, table: Heard::Answer(table) }
}

fn texts(findings: &[Finding]) -> Vec<(Severity, &str)> {
    findings.iter().map(|finding| (finding.severity, finding.text.as_str())).collect()
}

#[test]
fn a_service_without_an_instance_is_down_and_says_since_when() {
    let gone = json!([{ "id": "mail-1", "address": "10.0.0.5:7070", "cause": "expired", "at_ms": 988_000 }]);
    let findings = of_services(&listed("mail", &json!([]), &gone), &[]);
    let text = "mail is down: no instance is registered; the last one, mail-1: its heartbeats stopped 12 s ago";
    assert_eq!(texts(&findings), [(Severity::Down, text)]);
}

#[test]
fn each_thing_that_is_wrong_with_an_instance_is_a_sentence() {
    let instances = json!([
        { "id": "mail-1", "address": "10.0.0.5:7070", "status": "passing" },
        { "id": "mail-2", "address": "10.0.0.6:7070", "status": "degraded", "reason": "no SMTP server" },
        { "id": "mail-3", "address": "10.0.0.7:7070", "status": "draining", "override": "draining" },
    ]);
    let gone = json!([
        { "id": "mail-4", "address": "10.0.0.8:7070", "cause": "deregistered", "at_ms": 988_000 },
        { "id": "mail-5", "address": "10.0.0.9:7070", "cause": "expired", "at_ms": 988_000 },
    ]);
    let known = gateway(&[("mail-1", "ejected"), ("mail-2", "in_rotation")], "etcd", 200);
    let listed = listed("mail", &instances, &gone);
    let services = of_services(&listed, std::slice::from_ref(&known));
    let expected = [
        (Severity::Wrong, "mail: mail-2 (10.0.0.6:7070) is degraded: no SMTP server"),
        (Severity::Note, "mail: mail-3 (10.0.0.7:7070) is draining: by an operator"),
        (Severity::Wrong, "mail: mail-5 is gone: its heartbeats stopped 12 s ago"),
        (Severity::Wrong, "mail: gateway http://a:8081 does not know mail-3"),
    ];
    assert_eq!(texts(&services), expected);
    let expected = [(Severity::Wrong, "mail: gateway http://a:8081 has mail-1 ejected")];
    assert_eq!(texts(&of_gateway(&known)), expected);
}

#[test]
fn a_gateway_that_works_from_an_old_table_is_wrong_and_one_that_does_not_tell_is_unknown() {
    let old = of_gateway(&gateway(&[("mail-1", "in_rotation")], "disk", 61_000));
    let text = "gateway http://a:8081 works from a table of disk, confirmed 61 s ago: refused";
    assert_eq!(texts(&old), [(Severity::Wrong, text)]);
    let well = of_gateway(&gateway(&[("mail-1", "in_rotation")], "etcd", 200));
    assert_eq!(texts(&well), [(Severity::Well, "gateway http://a:8081: 1 services in its table, confirmed 0 s ago")]);
    let closed = GatewayFacts { table: Heard::Refused("403".to_owned()), ..gateway(&[], "etcd", 0) };
    assert_eq!(texts(&of_gateway(&closed)), [(Severity::Unknown, "gateway http://a:8081 does not tell: 403")]);
}

#[test]
fn a_registry_says_what_it_lacks() {
    let checks = json!({ "status": "not ready", "checks": { "etcd": "no leader", "mirror": "ok" } });
    let findings = of_registry("http://b:8500", &Heard::Answer(checks));
    assert_eq!(texts(&findings), [(Severity::Wrong, "registry http://b:8500: etcd: no leader")]);
    let findings = of_registry("http://b:8500", &Heard::Silence("connection refused".to_owned()));
    let text = "registry http://b:8500 does not answer: connection refused";
    assert_eq!(texts(&findings), [(Severity::Wrong, text)]);
}

#[test]
fn etcd_is_counted_member_by_member_and_only_blamed_where_it_was_said_to_be() {
    let member = |leader| MemberStatus {
        id: 1,
        leader,
        raft_index: 9,
        revision: Revision(7),
        version: "3.4".into(),
        errors: Vec::new(),
    };
    let down = || ("http://b:2379".to_owned(), Err(Failure::Silent));
    let of = |members, is_named| of_etcd(&EtcdStatus { members }, is_named);
    let led = of(vec![("http://a:2379".to_owned(), Ok(member(1))), down()], true);
    let expected = [
        (Severity::Wrong, "etcd member http://b:2379 does not answer: no answer in time"),
        (Severity::Well, "etcd: 1 of 2 members answer; http://a:2379 leads"),
    ];
    assert_eq!(texts(&led), expected);
    let leaderless = of(vec![("http://a:2379".to_owned(), Ok(member(0)))], true);
    assert_eq!(leaderless[0].severity, Severity::Down);
    assert_eq!(of(vec![down()], false)[0].severity, Severity::Note, "it was never registered");
    assert_eq!(of(vec![down()], true)[0].severity, Severity::Wrong);
}
