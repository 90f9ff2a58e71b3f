//! Why an instance is as it is: said in the heartbeat, seen by everybody, and never a write with each heartbeat.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, value};

const DEGRADED: &str = r#"{"address":"10.0.0.5:7070","status":"degraded","reason":"SMTP away"}"#;
const CRITICAL: &str = r#"{"address":"10.0.0.5:7070","status":"critical","reason":"no database"}"#;

#[tokio::test]
async fn a_reason_is_seen_wherever_the_state_is() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut stream = registry.follow("mail", None).await;
    stream.next("reset").await;
    let reply = registry.beat("mail/a", DEGRADED).await;
    assert_eq!(reply["status"], "degraded");
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("http://10.0.0.5:7070?degraded=SMTP%20away"));
    let added = stream.next("add").await.data;
    assert_eq!((&added["status"], &added["reason"]), (&json!("degraded"), &json!("SMTP away")));
    registry.wait_for_instance("mail", "a", true).await;
    let listed = registry.get("/v1/services/mail/instances?passing").await.accepted();
    assert_eq!(listed["instances"][0]["reason"], "SMTP away", "in rotation, with its remark");
    let numbers = registry.get("/v1/services").await.accepted();
    assert_eq!((&numbers["services"][0]["degraded"], &numbers["services"][0]["passing"]), (&json!(1), &json!(0)));

    registry.beat("mail/a", CRITICAL).await;
    let value = value(&etcd, "service/mail/a");
    assert_eq!(value.as_deref(), Some("http://10.0.0.5:7070?status=critical&reason=no%20database"));
    let critical = stream.next("add").await.data;
    assert_eq!((&critical["status"], &critical["reason"]), (&json!("critical"), &json!("no database")));

    let drain = format!("{}/override", instance_path("mail/a"));
    registry.ask(Method::PUT, &drain, r#"{"status":"draining"}"#).await.accepted();
    let drained = stream.next("add").await.data;
    let reported = (&drained["reported_status"], &drained["reported_reason"]);
    assert_eq!((&drained["status"], reported), (&json!("draining"), (&json!("critical"), &json!("no database"))));
    assert_eq!(drained["reason"], Value::Null, "it is not why the operator drained it");
}

#[tokio::test]
async fn a_reason_that_counts_is_not_a_write_with_each_heartbeat() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for number in 0..60 {
        let reason = format!("{number} messages wait");
        let body = json!({"address": "10.0.0.5:7070", "status": "degraded", "reason": reason}).to_string();
        let reply = registry.beat("mail/a", &body).await;
        assert_eq!(reply["status"], "degraded");
    }
    let writes = || {
        let got: Value = serde_json::from_str(&etcd.etcdctl(&["get", "service/mail/a", "-w", "json"])).unwrap();
        got["kvs"][0]["version"].as_u64().unwrap()
    };
    assert!(writes() < 20, "{} writes", writes());
    let before = writes();
    registry.beat("mail/a", CRITICAL).await;
    wait_until("what changes the rotation is written at once", SOON, async || writes() == before + 1).await;
}

#[tokio::test]
async fn a_reason_that_is_none_is_refused_by_name() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let long = "x".repeat(201);
    for (status, reason) in [("passing", "all is well"), ("critical", "a\nb"), ("degraded", ""), ("degraded", &long)] {
        let body = json!({"address": "10.0.0.5:7070", "status": status, "reason": reason}).to_string();
        let answer = registry.heartbeat("mail/a", &body).await;
        assert_eq!(answer.status, 422, "{reason:?}: {:?}", answer.body);
        assert!(answer.body.to_string().contains("reason"), "{:?}", answer.body);
    }
}
