//! An operator's word.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, keys, value};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
const DRAIN: &str = r#"{"status":"draining"}"#;

fn path(key: &str) -> String {
    format!("{}/override", instance_path(key))
}

#[tokio::test]
async fn a_drain_reaches_the_instance_in_its_next_reply_and_gateways_through_etcd() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    replicas[0].beat("mail/a", ADDRESS).await;
    replicas[0].ask(Method::PUT, &path("mail/a"), DRAIN).await.accepted();
    assert!(value(&etcd, "override/mail/a").is_some_and(|value| value.starts_with("draining?incarnation=")));
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("10.0.0.5:7070"), "its own word is left alone");
    for replica in &replicas {
        wait_until("the reply says draining", SOON, async || {
            replica.beat("mail/a", ADDRESS).await["status"] == "draining"
        })
        .await;
        let listed = replica.instances("mail").await["a"].clone();
        assert_eq!(listed["status"], "draining");
        assert_eq!(listed["reported_status"], "passing");
        assert_eq!(listed["override"], "draining");
        let services = replica.get("/v1/services").await.accepted();
        assert_eq!(services["services"][0]["draining"], 1);
    }
    assert_eq!(replicas[1].delete(&path("mail/a")).await.accepted()["existed"], true);
    for replica in &replicas {
        wait_until("the reply says passing", SOON, async || {
            replica.beat("mail/a", ADDRESS).await["status"] == "passing"
        })
        .await;
    }
    assert_eq!(keys(&etcd), ["service/mail/a"]);
}

/// A life of `mail/a` that lasts for as long as a test.
const LIFE: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":60000,"incarnation":"new"}"#;

async fn status(registry: &Registry, body: &str) -> Value {
    registry.beat("mail/a", body).await["status"].clone()
}

async fn listed(registry: &Registry) -> Vec<Value> {
    registry.get("/v1/overrides").await.accepted()["overrides"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_drain_ends_with_the_life_that_it_was_given_for() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let first = replicas[0].beat("mail/a", LIFE).await["incarnation"].as_str().unwrap().to_owned();
    let drain = json!({ "status": "draining", "author": "kim", "reason": "disk swap, rack 4" });
    replicas[0].ask(Method::PUT, &path("mail/a"), drain.to_string()).await.accepted();
    let same = LIFE.replace("new", &first);
    for replica in &replicas {
        wait_until("the instance is told", SOON, async || status(replica, &same).await == "draining").await;
        let [order] = &listed(replica).await[..] else { panic!("one override") };
        assert_eq!((&order["service"], &order["instance"]), (&json!("mail"), &json!("a")));
        assert_eq!((&order["author"], &order["reason"]), (&json!("kim"), &json!("disk swap, rack 4")));
        assert_eq!((&order["incarnation"], &order["outlives"]), (&json!(first), &json!(false)));
        assert!(order["at_ms"].as_u64().unwrap() > 1_700_000_000_000 && order["in_force"] == true, "{order}");
        let details = replica.instances("mail").await["a"]["override_details"].clone();
        assert_eq!((&details["author"], &details["reason"]), (&json!("kim"), &json!("disk swap, rack 4")));
    }
    // The next container that gets the address, whether or not anybody has seen the first one go.
    for replica in &replicas {
        assert_eq!(status(replica, LIFE).await, "passing");
        wait_until("the list says so", SOON, async || {
            let one = replica.instances("mail").await["a"].clone();
            one["status"] == "passing" && one.get("override").is_none()
        })
        .await;
        assert!(listed(replica).await.is_empty());
    }
    wait_until("a registry deletes what is about nobody", SOON, async || keys(&etcd) == ["service/mail/a"]).await;
}

#[tokio::test]
async fn an_override_is_only_for_the_incarnation_that_the_operator_has_seen() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let first = registry.beat("mail/a", LIFE).await["incarnation"].as_str().unwrap().to_owned();
    let second = registry.beat("mail/a", LIFE).await["incarnation"].as_str().unwrap().to_owned();
    let was = format!("\"{first}\"");
    let is = format!("\"{second}\"");
    let put = async |tag: &str| registry.ask_with(Method::PUT, &path("mail/a"), Some(("If-Match", tag)), DRAIN).await;
    let end = async |tag: &str| registry.ask_with(Method::DELETE, &path("mail/a"), Some(("If-Match", tag)), "").await;
    let answer = put(&was).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "another_incarnation"));
    let named = json!({ "status": "draining", "incarnation": first }).to_string();
    assert_eq!(registry.ask(Method::PUT, &path("mail/a"), named).await.status, 409);
    assert_eq!(keys(&etcd), ["service/mail/a"]);
    put(&is).await.accepted();
    assert_eq!((end(&was).await.status.as_u16(), end(&was).await.code()), (409, "another_incarnation"));
    assert_eq!(end(&is).await.accepted()["existed"], true);
    assert_eq!(end(&is).await.accepted()["existed"], false);
    for (field, wrong) in [("author", "x".repeat(65)), ("reason", "a\nb".to_owned())] {
        let answer =
            registry.ask(Method::PUT, &path("mail/a"), json!({ "status": "draining", field: wrong }).to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, field));
    }
}

#[tokio::test]
async fn an_override_of_an_earlier_version_is_about_whoever_has_the_id() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    etcd.etcdctl(&["put", "override/mail/a", "draining"]);
    for _ in 0..2 {
        wait_until("it is drained", SOON, async || status(&registry, LIFE).await == "draining").await;
    }
    let [order] = &listed(&registry).await[..] else { panic!("one override") };
    assert_eq!((order["outlives"].clone(), order.get("author")), (json!(true), None));
    assert_eq!(registry.delete(&path("mail/a")).await.accepted()["existed"], true);
    wait_until("it is taken back", SOON, async || listed(&registry).await.is_empty()).await;
}

#[tokio::test]
async fn a_drain_outlives_the_instance_if_told_to_and_can_be_ended_without_it() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let drain = r#"{"status":"draining","outlives":true}"#;
    registry.ask(Method::PUT, &path("mail/a"), drain).await.accepted();
    registry.delete(&instance_path("mail/a")).await.accepted();
    assert_eq!(keys(&etcd), ["override/mail/a"]);
    wait_until("it is listed without an instance", SOON, async || {
        listed(&registry).await.iter().any(|order| order["instance"] == "a" && order["in_force"] == false)
    })
    .await;
    wait_until("it comes back draining", SOON, async || registry.beat("mail/a", ADDRESS).await["status"] == "draining")
        .await;
    registry.delete(&instance_path("mail/a")).await.accepted();
    for existed in [true, false] {
        assert_eq!(registry.delete(&path("mail/a")).await.accepted()["existed"], existed);
    }
    assert!(keys(&etcd).is_empty());
}

#[tokio::test]
async fn drains_that_outlive_their_instances_do_not_pile_up() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| config.admission.instances_max = 2).await;
    let drain = r#"{"status":"draining","outlives":true}"#;
    let put = async |key: &str| {
        registry.beat(key, ADDRESS).await;
        let answer = registry.ask(Method::PUT, &path(key), drain).await;
        registry.delete(&instance_path(key)).await.accepted();
        (answer.status.as_u16(), answer.code().to_owned())
    };
    let count_is = async |count| {
        wait_until("they are known", SOON, async || listed(&registry).await.len() == count).await;
    };
    for (n, key) in ["mail/a", "mail/b"].into_iter().enumerate() {
        assert_eq!(put(key).await.0, 200);
        count_is(n + 1).await;
    }
    assert_eq!(put("mail/c").await, (429, "too_many_overrides".to_owned()));
    assert_eq!(put("mail/b").await.0, 200, "one that is there can be written again");
    assert_eq!(put("web/a").await.0, 200, "and another service's");
    registry.delete(&path("mail/a")).await.accepted();
    count_is(2).await;
    assert_eq!(put("mail/c").await.0, 200);
}

#[tokio::test]
async fn only_draining_can_be_ordered_and_only_for_an_instance_that_is_there() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let answer = registry.ask(Method::PUT, &path("mail/typo"), DRAIN).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, "no_such_instance"));
    for body in [r#"{"status":"passing"}"#, r#"{"status":"critical"}"#, r#"{"status":"asleep"}"#, r#"{"status":1}"#] {
        let answer = registry.ask(Method::PUT, &path("mail/a"), body).await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, "status"), "{body}");
    }
    let answer = registry.ask(Method::PUT, &path("mail/a"), r#"{"status":"draining","until":"noon"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.field()), (422, "until"));
    assert_eq!(keys(&etcd), ["service/mail/a"]);
}
