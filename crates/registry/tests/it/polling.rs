//! Waiting for a change: long polls and event streams.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::task::JoinSet;

use crate::support::{Registry, instance_path, metric};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;
const LIST: &str = "/v1/services/mail/instances";

/// Longer than any test waits for anything else.
const LONG: Duration = Duration::from_secs(20);

/// Waits until so many clients wait.
async fn wait_for_waiting(registry: &Registry, count: f64) {
    wait_until(&format!("{count} wait"), SOON, async || metric(registry, "registry_waiting").await == count).await;
}

async fn index(registry: &Registry) -> i64 {
    registry.get(LIST).await.accepted()["index"].as_i64().unwrap()
}

#[tokio::test]
async fn a_poll_answers_when_its_service_changes_and_a_change_elsewhere_wakes_nobody() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Arc::new(Registry::start(&etcd).await);
    registry.beat("mail/a", ADDRESS).await;
    registry.wait_for_instance("mail", "a", true).await;
    let first = registry.get(LIST).await;
    let seen = first.body["index"].as_i64().unwrap();
    assert_eq!(first.headers["x-muster-index"], seen.to_string());

    let poller = Arc::clone(&registry);
    let path = format!("{LIST}?index={seen}&wait=20s");
    let poll = tokio::spawn(async move { poller.get(&path).await.accepted() });
    wait_for_waiting(&registry, 1.0).await;
    for n in 0..5 {
        registry.beat(&format!("web/{n}"), ADDRESS).await;
    }
    registry.wait_for_instance("web", "4", true).await;
    assert!(!poll.is_finished(), "what happens to web does not wake who waits for mail");
    let changed = registry.beat("mail/b", ADDRESS).await["revision"].as_i64().unwrap();
    let answer = tokio::time::timeout(SOON, poll).await.expect("it is woken").unwrap();
    assert_eq!(answer["index"], changed, "the etcd revision of the service's last event");
    assert_eq!(answer["instances"].as_array().unwrap().len(), 2);
    wait_for_waiting(&registry, 0.0).await;
}

#[tokio::test]
async fn a_poll_ends_with_its_time_and_with_what_is_known() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let seen = index(&registry).await;
    let started = Instant::now();
    let answer = registry.get(&format!("{LIST}?index={seen}&wait=300ms")).await.accepted();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((answer["index"].as_i64(), &answer["instances"]), (Some(seen), &json!([])));
}

#[tokio::test]
async fn an_index_from_the_future_or_of_an_etcd_that_was_wiped_is_answered_at_once() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Arc::new(Registry::start(&etcd).await);
    for n in 0..10 {
        registry.beat(&format!("mail/{n}"), ADDRESS).await;
    }
    registry.wait_for_instance("mail", "9", true).await;
    let started = Instant::now();
    let answer = registry.get(&format!("{LIST}?index=999999&wait=20s")).await.accepted();
    assert_eq!(answer["instances"].as_array().unwrap().len(), 10);
    let seen = answer["index"].as_i64().unwrap();

    let poller = Arc::clone(&registry);
    let path = format!("{LIST}?index={seen}&wait=20s");
    let poll = tokio::spawn(async move { poller.get(&path).await });
    wait_for_waiting(&registry, 1.0).await;
    etcd.wipe().await;
    let answer = tokio::time::timeout(LONG, poll).await.expect("a wiped etcd wakes everybody").unwrap().accepted();
    assert!(answer["index"].as_i64() < Some(seen), "{answer}");
    let again = registry.get(&format!("{LIST}?index={seen}&wait=20s")).await.accepted();
    assert!(again["index"].as_i64() < Some(seen));
    assert!(started.elapsed() < LONG, "nobody waited for their time to be over");
}

#[tokio::test]
async fn a_drain_and_its_end_are_changes_and_the_dead_are_listed_with_their_cause() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for id in ["left", "drained", "alive"] {
        registry.beat(&format!("mail/{id}"), ADDRESS).await;
    }
    // Not heard here: a registry would write its key again.
    etcd.etcdctl(&["put", "service/mail/lost", "10.0.0.5:7070"]);
    registry.wait_for_instance("mail", "lost", true).await;
    registry.wait_for_instance("mail", "alive", true).await;
    let seen = index(&registry).await;
    let path = format!("{}/override", instance_path("mail/drained"));
    registry.ask(Method::PUT, &path, r#"{"status":"draining"}"#).await.accepted();
    let drained = registry.get(&format!("{LIST}?index={seen}&wait=20s")).await.accepted();
    assert!(drained["index"].as_i64() > Some(seen));
    assert_eq!(drained["instances"][1]["override"], "draining");
    let passing = registry.get(&format!("{LIST}?passing")).await.accepted();
    assert_eq!(passing["instances"].as_array().unwrap().len(), 3);

    for id in ["left", "drained"] {
        registry.delete(&instance_path(&format!("mail/{id}"))).await.accepted();
    }
    etcd.etcdctl(&["del", "service/mail/lost"]);
    wait_until("three are dead", SOON, async || registry.instances("mail").await.len() == 1).await;
    let list = registry.get(&format!("{LIST}?include=tombstones")).await.accepted();
    let dead = list["tombstones"].as_array().unwrap();
    let causes: Vec<_> = dead.iter().map(|one| (one["id"].as_str().unwrap(), one["cause"].as_str().unwrap())).collect();
    assert_eq!(causes, [("left", "deregistered"), ("drained", "drained"), ("lost", "expired")]);
    assert!(dead.iter().all(|one| one["at_ms"].as_u64().unwrap() > 1_700_000_000_000));
    assert!(registry.get(LIST).await.accepted().get("tombstones").is_none());
    registry.beat("mail/lost", ADDRESS).await;
    registry.wait_for_instance("mail", "lost", true).await;
    let list = registry.get(&format!("{LIST}?include=tombstones")).await.accepted();
    assert_eq!(list["tombstones"].as_array().unwrap().len(), 2, "who is back is not dead");
    let ages: Vec<u64> =
        list["instances"].as_array().unwrap().iter().flat_map(|one| one["seen_since_ms"].as_u64()).collect();
    assert!(ages.len() == 2 && ages[0] <= ages[1], "alive, and then lost, which is back: {list}");

    for id in ["alive", "lost"] {
        registry.delete(&instance_path(&format!("mail/{id}"))).await.accepted();
    }
    wait_until("all are gone", SOON, async || registry.instances("mail").await.is_empty()).await;
    assert_eq!(registry.get("/v1/services").await.accepted()["services"], serde_json::json!([]));
    let remembered = registry.get("/v1/services?include=tombstones").await.accepted();
    assert_eq!(remembered["services"][0]["name"], "mail", "{remembered}");
}

#[tokio::test]
async fn lists_are_filtered_and_a_mistyped_filter_is_refused() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:1","zone":"x","tags":["blue","big"]}"#).await;
    registry.beat("mail/b", r#"{"address":"10.0.0.5:2","zone":"y","version":"2"}"#).await;
    registry.beat("mail/c", r#"{"address":"10.0.0.5:3","status":"critical"}"#).await;
    registry.wait_for_instance("mail", "c", true).await;
    for (query, expected) in [
        ("zone=x", &["a"][..]),
        ("zone=", &[]),
        ("tag=blue", &["a"]),
        ("tag=blue&tag=big", &["a"]),
        ("tag=blue&tag=red", &[]),
        ("version=2", &["b"]),
        ("passing", &["a", "b"]),
        ("passing=0", &["a", "b", "c"]),
    ] {
        let list = registry.get(&format!("{LIST}?{query}")).await.accepted();
        let ids: Vec<_> = list["instances"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{query}");
    }
    for (query, field) in [
        ("zon=x", "zon"),
        ("index=now", "index"),
        ("index=1&wait=soon", "wait"),
        ("include=all", "include"),
        ("passing=perhaps", "passing"),
    ] {
        let answer = registry.get(&format!("{LIST}?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, field), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_wait_for_one_service_cost_etcd_one_watch_and_are_all_woken() {
    const WAITERS: usize = 1000;
    let etcd = EtcdCluster::start(1).await;
    let registry = Arc::new(Registry::start(&etcd).await);
    // What the registry itself watches. Some of it begins when the registry is ready already.
    let own = 4.0;
    wait_until("the registry's own watches are there", SOON, async || watchers(&etcd).await == own).await;
    let seen = index(&registry).await;
    let mut polls = JoinSet::new();
    for _ in 0..WAITERS {
        let registry = Arc::clone(&registry);
        let path = format!("{LIST}?index={seen}&wait=60s");
        polls.spawn(async move { registry.ask_within(LONG * 2, Method::GET, &path, None, "").await });
    }
    wait_for_waiting(&registry, 1000.0).await;
    // One that is renewed counts twice, or not at all, for a moment.
    wait_until("they cost etcd nothing", SOON, async || watchers(&etcd).await == own).await;
    registry.beat("mail/a", ADDRESS).await;
    let answers = tokio::time::timeout(LONG, polls.join_all()).await.expect("all are woken");
    assert!(answers.iter().all(|answer| answer.body["instances"][0]["id"] == "a"));
    wait_for_waiting(&registry, 0.0).await;
}

#[tokio::test]
async fn who_waits_is_answered_when_the_registry_ends() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let url = format!("{}{LIST}?index={}&wait=60s", registry.url, index(&registry).await);
    let poll = tokio::spawn(reqwest::Client::builder().no_proxy().build().unwrap().get(url).send());
    let mut stream = registry.follow("mail", None).await;
    stream.next("reset").await;
    wait_for_waiting(&registry, 2.0).await;
    registry.stop().await;
    assert_eq!(tokio::time::timeout(SOON, poll).await.expect("answered").unwrap().unwrap().status(), 200);
    assert!(stream.ended().await);
}

#[tokio::test]
async fn a_stream_tells_everything_first_and_then_what_happens() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.wait_for_instance("mail", "a", true).await;
    let mut stream = registry.follow("mail", None).await;
    let reset = stream.next("reset").await;
    assert_eq!(reset.data["instances"][0]["id"], "a");
    assert_eq!(reset.data["revision"].to_string(), reset.id);
    registry.beat("web/x", ADDRESS).await;
    let added = registry.beat("mail/b", ADDRESS).await;
    let add = stream.next("add").await;
    assert_eq!((&add.data["id"], &add.id), (&json!("b"), &added["revision"].to_string()), "and nothing about web");
    let path = format!("{}/override", instance_path("mail/b"));
    registry.ask(Method::PUT, &path, r#"{"status":"draining"}"#).await.accepted();
    assert_eq!(stream.next("add").await.data["status"], "draining");
    registry.delete(&instance_path("mail/a")).await.accepted();
    let mut gone = stream.any().await;
    if gone.name == "add" {
        assert_eq!(gone.data["status"], "draining", "the farewell");
        gone = stream.any().await;
    }
    assert_eq!(
        (gone.name.as_str(), &gone.data["id"], &gone.data["cause"]),
        ("remove", &json!("a"), &json!("deregistered"))
    );
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke_off_at_any_replica_and_after_a_gap_starts_anew() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    // Not heard here: a registry would write its key again.
    etcd.etcdctl(&["put", "service/mail/a", "10.0.0.5:7070"]);
    replicas[0].beat("mail/b", ADDRESS).await;
    for replica in &replicas {
        replica.wait_for_instance("mail", "b", true).await;
    }
    let seen = replicas[0].follow("mail", None).await.next("reset").await.id;
    replicas[0].beat("mail/c", ADDRESS).await;
    etcd.etcdctl(&["del", "service/mail/a"]);
    replicas[1].wait_for_instance("mail", "a", false).await;
    let mut resumed = replicas[1].follow("mail", Some(&seen)).await;
    let missed = [resumed.next("remove").await, resumed.next("add").await];
    assert_eq!(missed.clone().map(|event| event.data["id"].clone()), ["a", "c"]);
    assert_eq!(missed[0].id, "", "half of what happened at once is no place to resume");
    for gap in ["0", "999999", "nonsense", "-5"] {
        let reset = replicas[1].follow("mail", Some(gap)).await.next("reset").await;
        assert_eq!(reset.data["instances"].as_array().unwrap().len(), 2, "{gap}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_forgotten() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(registry.follow("mail", None).await);
    }
    for stream in &mut streams {
        stream.next("reset").await;
    }
    wait_for_waiting(&registry, 20.0).await;
    streams.truncate(5);
    wait_for_waiting(&registry, 5.0).await;
    drop(streams);
    wait_for_waiting(&registry, 0.0).await;
}

#[tokio::test]
async fn without_etcd_nobody_waits_for_what_is_not_known() {
    let registry = Registry::without_etcd().await;
    for path in ["/v1/watch?service=mail", &format!("{LIST}?index=5&wait=20s"), "/v1/prometheus/targets"] {
        let answer = registry.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "not_loaded"), "{path}");
    }
    for (path, field) in [("/v1/watch", "service"), ("/v1/watch?service=A", "service"), ("/v1/watch?x=1", "x")] {
        let answer = registry.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, field), "{path}");
    }
}

/// How many watchers etcd has, by its own count.
async fn watchers(etcd: &EtcdCluster) -> f64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = http.get(format!("{}/metrics", etcd.endpoint(0))).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
    line.expect("etcd counts its watchers").parse().unwrap()
}
