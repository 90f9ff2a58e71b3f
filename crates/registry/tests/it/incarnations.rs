//! A registration is a life, not a name: what another life holds is not touched.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{
    etcd::{EtcdCluster, EtcdConfig},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Registry, instance_path, keys, leases, metric, value, wait_for_leases};

const HERE: &str = "10.0.0.5:7070";
const THERE: &str = "10.0.0.6:7070";

fn body(address: &str, life: &str) -> String {
    json!({ "address": address, "incarnation": life, "ttl_ms": 60_000 }).to_string()
}

fn incarnation(reply: &Value) -> String {
    reply["incarnation"].as_str().expect("the reply tells the incarnation").to_owned()
}

/// Begins a life of `mail/a`.
async fn begin(registry: &Registry, address: &str) -> String {
    incarnation(&registry.beat("mail/a", &body(address, "new")).await)
}

async fn goes_on(registry: &Registry, address: &str, life: &str) -> Answer {
    registry.heartbeat("mail/a", &body(address, life)).await
}

#[track_caller]
fn refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, code), "{:?}", answer.body);
}

async fn leave(registry: &Registry, life: &str) -> Answer {
    let tag = format!("\"{life}\"");
    registry.ask_with(Method::DELETE, &instance_path("mail/a"), Some(("If-Match", &tag)), "").await
}

#[tokio::test]
async fn every_reply_tells_the_incarnation_which_is_the_lease_and_goes_on_with_the_heartbeats() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let plain = json!({ "name": "web", "host": "10.0.0.5", "port": 1, "incarnation": "new" });
    let reply = registry.ask(Method::POST, "/", plain.to_string()).await.accepted();
    assert_eq!(incarnation(&reply), leases(&etcd)[0]);
    let life = begin(&registry, HERE).await;
    for _ in 0..3 {
        assert_eq!(incarnation(&goes_on(&registry, HERE, &life).await.accepted()), life);
        let without = registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
        assert_eq!(incarnation(&without), life, "whoever does not say speaks for the one that is registered");
    }
    wait_until("the list shows it", SOON, async || {
        registry.instances("mail").await.get("a").is_some_and(|one| one["incarnation"] == life.as_str())
    })
    .await;
    wait_for_leases(&etcd, 2).await;
}

#[tokio::test]
async fn two_hosts_with_one_copied_id_do_not_take_it_from_each_other_again_and_again() {
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let first = begin(&registries[0], HERE).await;
    let second = begin(&registries[1], THERE).await;
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some(THERE), "one that has really moved wins");
    wait_for_leases(&etcd, 1).await;
    let settled = etcd.etcdctl(&["get", "service/mail/a", "-w", "json"]);
    for _ in 0..5 {
        for registry in &registries {
            let answer = goes_on(registry, HERE, &first).await;
            refused(&answer, "another_incarnation");
            assert!(answer.body["detail"].as_str().unwrap().contains(THERE), "{:?}", answer.body);
            goes_on(registry, THERE, &second).await.accepted();
        }
    }
    let unchanged = etcd.etcdctl(&["get", "service/mail/a", "-w", "json"]);
    let revision = |text: &str| serde_json::from_str::<Value>(text).unwrap()["kvs"][0]["mod_revision"].clone();
    assert_eq!(revision(&unchanged), revision(&settled));

    for registry in &registries {
        let told = goes_on(registry, THERE, &second).await.accepted();
        assert_eq!(told["other_holder"]["address"], HERE, "{told}");
        wait_until("the list shows it", SOON, async || {
            registry.instances("mail").await["a"]["other_holder"]["incarnation"] == first.as_str()
        })
        .await;
        assert!((metric(registry, "registry_contested_ids_total").await - 1.0).abs() < 0.1, "told once");
        let refused = metric(registry, r#"registry_other_incarnation_total{request="Heartbeat"}"#).await;
        assert!((refused - 5.0).abs() < 0.1, "{refused}");
    }

    leave(&registries[0], &second).await.accepted();
    refused(&goes_on(&registries[0], HERE, &first).await, "incarnation_ended");
    let third = begin(&registries[0], HERE).await;
    assert!(![first, second].contains(&third));
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some(HERE));
}

#[tokio::test]
async fn an_address_that_goes_back_and_forth_is_told_to_those_who_know_no_incarnation() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let beat = async |address: &str| {
        let body = json!({ "address": address, "ttl_ms": 60_000 });
        registry.beat("mail/a", &body.to_string()).await["other_holder"]["address"].clone()
    };
    assert_eq!(beat(HERE).await, Value::Null);
    assert_eq!(beat(THERE).await, Value::Null, "it may have moved");
    assert_eq!(beat(HERE).await, THERE);
    assert_eq!(beat(THERE).await, HERE);
    wait_until("the list shows it", SOON, async || {
        registry.instances("mail").await["a"]["other_holder"]["address"] == HERE
    })
    .await;
    assert!((metric(&registry, "registry_contested_ids_total").await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn the_end_of_one_life_takes_nothing_away_from_the_next() {
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let old = begin(&registries[0], HERE).await;
    // The correct restart of a program that shares its port: the new one is there before the old one goes.
    let new = begin(&registries[1], HERE).await;
    for registry in &registries {
        let draining = json!({ "address": HERE, "status": "draining", "incarnation": old, "ttl_ms": 60_000 });
        refused(&registry.heartbeat("mail/a", &draining.to_string()).await, "another_incarnation");
        refused(&leave(registry, &old).await, "another_incarnation");
        assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some(HERE));
    }
    let counted = metric(&registries[0], r#"registry_other_incarnation_total{request="Deregistration"}"#).await;
    assert!((counted - 1.0).abs() < 0.1, "{counted}");
    let told = goes_on(&registries[0], HERE, &new).await.accepted();
    assert_eq!(told.get("other_holder"), None, "one that is leaving contests nothing");
    leave(&registries[0], &new).await.accepted();
    assert!(keys(&etcd).is_empty());
    leave(&registries[0], &new).await.accepted();
    wait_for_leases(&etcd, 0).await;

    begin(&registries[0], HERE).await;
    registries[1].delete(&instance_path("mail/a")).await.accepted();
    assert!(keys(&etcd).is_empty(), "without a condition it is as ever");
    let answer =
        registries[0].ask_with(Method::DELETE, &instance_path("mail/a"), Some(("If-Match", "\"1\"")), "").await;
    assert_eq!((answer.status.as_u16(), answer.field()), (422, "If-Match"));
}

#[tokio::test]
async fn a_heartbeat_of_a_life_that_has_left_is_told_so_and_registers_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let life = begin(&registries[0], HERE).await;
    leave(&registries[1], &life).await.accepted();
    for registry in &registries {
        refused(&goes_on(registry, HERE, &life).await, "incarnation_ended");
    }
    assert!(keys(&etcd).is_empty());
    wait_for_leases(&etcd, 0).await;
}

/// Its mirror may not know yet.
#[tokio::test]
async fn a_life_that_began_at_another_registry_a_moment_ago_goes_on_at_this_one() {
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    for round in 0..20 {
        let life = begin(&registries[round % 2], HERE).await;
        let reply = goes_on(&registries[(round + 1) % 2], HERE, &life).await.accepted();
        assert_eq!(incarnation(&reply), life);
    }
    wait_for_leases(&etcd, 1).await;
}

#[tokio::test]
async fn a_beginning_that_comes_twice_is_one_life_and_nobody_begins_as_somebody_else() {
    let etcd = EtcdCluster::start(1).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let wanted = "00000000deadbeef";
    for registry in &registries {
        for _ in 0..2 {
            let reply = registry.beat("mail/a", &body(HERE, &format!("new:{wanted}"))).await;
            assert_eq!(incarnation(&reply), wanted);
        }
    }
    assert_eq!(leases(&etcd), [wanted]);
    let thief = registries[0].heartbeat("web/thief", &body(THERE, &format!("new:{wanted}"))).await;
    assert_eq!((thief.status.as_u16(), thief.field()), (422, "incarnation"), "{:?}", thief.body);
    refused(&registries[0].heartbeat("web/thief", &body(THERE, wanted)).await, "incarnation_ended");
    assert_eq!(keys(&etcd), ["service/mail/a"]);
    for nonsense in ["", "newish", "1", "new:1"] {
        let answer = goes_on(&registries[0], HERE, nonsense).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, "incarnation"), "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_life_keeps_the_ttl_that_it_began_with_which_the_reply_tells() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let life = begin(&registry, HERE).await;
    for (asked_ms, told_ms) in [(120_000, 60_000), (10_000, 10_000)] {
        let other = json!({ "address": HERE, "incarnation": life, "ttl_ms": asked_ms }).to_string();
        let reply = registry.beat("mail/a", &other).await;
        assert_eq!((incarnation(&reply), reply["ttl_ms"].as_u64()), (life.clone(), Some(told_ms)));
        assert_eq!(reply["next_heartbeat_ms"].as_u64(), Some(told_ms * 2 / 5), "in time for the lease that there is");
    }
    assert_eq!(leases(&etcd), [life]);
}

/// A registry that has just been started does not know of etcd's floor.
#[tokio::test]
async fn a_life_goes_on_at_a_registry_that_takes_its_lease_for_too_long() {
    let args = ["--heartbeat-interval", "500", "--election-timeout", "5000"].map(str::to_owned).to_vec();
    let etcd = EtcdCluster::with(EtcdConfig { members: 1, args, tls: None, can_be_cut: false }).await;
    let heartbeat = |life: &str| json!({ "address": HERE, "incarnation": life }).to_string();
    let life = incarnation(&Registry::start(&etcd).await.beat("mail/a", &heartbeat("new")).await);
    for _ in 0..2 {
        let restarted = Registry::start(&etcd).await;
        let reply = restarted.beat("mail/a", &heartbeat(&life)).await;
        assert_eq!((incarnation(&reply), reply["ttl_ms"].as_u64()), (life.clone(), Some(5000)));
    }
    assert_eq!(leases(&etcd), [life]);
}

#[tokio::test]
async fn what_changes_within_a_life_is_written_under_its_lease() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let life = begin(&registry, HERE).await;
    let reply = goes_on(&registry, THERE, &life).await.accepted();
    assert_eq!((incarnation(&reply), reply.get("other_holder")), (life, None), "an address may change");
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some(THERE));
    assert_eq!(leases(&etcd).len(), 1);
}

#[tokio::test]
async fn an_address_in_another_spelling_is_the_same_instance() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for host in ["10.0.0.5", "::ffff:10.0.0.5", "::FFFF:a00:5"] {
        let plain = json!({ "name": "mail", "host": host, "port": 7070 }).to_string();
        registry.ask(Method::POST, "/", plain).await.accepted();
        assert_eq!(keys(&etcd), ["service/mail/10.0.0.5:7070"], "{host}");
    }
    registry.beat("mail/::ffff:10.0.0.5:7070", r#"{"address":"[::ffff:10.0.0.5]:7070"}"#).await;
    registry.beat("mail/FD00::01:80", r#"{"address":"[fd00:0:0::1]:80"}"#).await;
    for name in ["LocalHost", "localhost."] {
        let body = json!({ "address": format!("{name}:1") }).to_string();
        registry.beat("mail/by-name", &body).await;
        assert_eq!(value(&etcd, "service/mail/by-name").as_deref(), Some("localhost:1"));
    }
    let expected = ["service/mail/10.0.0.5:7070", "service/mail/by-name", "service/mail/fd00::1:80"];
    assert_eq!(keys(&etcd), expected);
    registry.delete(&instance_path("mail/::ffff:10.0.0.5:7070")).await.accepted();
    assert_eq!(keys(&etcd), expected[1..]);
}

/// Registered by an earlier version, which wrote the key as it was spelled.
#[tokio::test]
async fn an_instance_in_an_odd_spelling_of_before_is_there_twice_for_no_longer_than_its_ttl() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let granted = etcd.etcdctl(&["lease", "grant", "3"]);
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    etcd.etcdctl(&["put", "service/mail/::ffff:10.0.0.5:7070", "[::ffff:10.0.0.5]:7070", "--lease", &lease]);
    wait_until("only one is left", SOON, async || {
        registry.beat("mail/::ffff:10.0.0.5:7070", r#"{"address":"[::ffff:10.0.0.5]:7070"}"#).await;
        keys(&etcd) == ["service/mail/10.0.0.5:7070"]
    })
    .await;
}
