//! An operator's word.

use reqwest::Method;
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
    assert_eq!(value(&etcd, "override/mail/a").as_deref(), Some("draining"));
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

#[tokio::test]
async fn a_drain_outlives_the_instance_and_can_be_ended_without_it() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.ask(Method::PUT, &path("mail/a"), DRAIN).await.accepted();
    registry.delete(&instance_path("mail/a")).await.accepted();
    assert_eq!(keys(&etcd), ["override/mail/a"]);
    wait_until("it comes back draining", SOON, async || registry.beat("mail/a", ADDRESS).await["status"] == "draining")
        .await;
    registry.delete(&instance_path("mail/a")).await.accepted();
    for existed in [true, false] {
        assert_eq!(registry.delete(&path("mail/a")).await.accepted()["existed"], existed);
    }
    assert!(keys(&etcd).is_empty());
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
