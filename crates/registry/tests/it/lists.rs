//! What is registered, as a client sees it.

use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, metric};

#[tokio::test]
async fn services_and_instances_are_listed_with_the_revision_and_its_age() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    assert_eq!(registry.get("/v1/services").await.accepted()["services"], json!([]), "read, and nobody is there");
    let full = r#"{"address":"10.0.0.5:7070","weight":2,"zone":"a","status":"critical","meta":{"owner":"ops"}}"#;
    let reply = registry.heartbeat("mail/a", full).await.accepted();
    registry.heartbeat("mail/b", r#"{"address":"10.0.0.6:7070"}"#).await.accepted();
    registry.heartbeat("userlist/c", r#"{"address":"[::1]:6060","scheme":"https"}"#).await.accepted();
    registry.wait_for_instance("userlist", "c", true).await;

    let list = registry.get("/v1/services").await.accepted();
    let services = json!([
        { "name": "mail", "instances": 2, "passing": 1, "degraded": 0, "draining": 0, "critical": 1 },
        { "name": "userlist", "instances": 1, "passing": 1, "degraded": 0, "draining": 0, "critical": 0 },
    ]);
    assert_eq!(list["services"], services);
    assert!(list["revision"].as_i64() >= reply["revision"].as_i64());
    assert!(list["age_ms"].is_u64());

    let list = registry.get("/v1/services/mail/instances").await.accepted();
    assert_eq!(list["service"], "mail");
    assert!(list["revision"].is_i64() && list["age_ms"].is_u64());
    let first = &list["instances"][0];
    let lease = first["lease"].as_str().unwrap();
    assert_eq!((lease.len(), u64::from_str_radix(lease, 16).is_ok()), (16, true));
    let expected = json!({
        "id": "a", "address": "10.0.0.5:7070", "weight": 2, "zone": "a", "meta": { "owner": "ops" },
        "status": "critical", "reported_status": "critical", "origin": "heartbeat", "lease": lease, "incarnation": lease,
        "created_revision": reply["revision"], "modified_revision": reply["revision"],
        "seen_since_ms": first["seen_since_ms"],
    });
    assert_eq!(*first, expected);
    assert!(first["seen_since_ms"].is_u64());
    assert_eq!(list["instances"][1]["id"], "b");
    assert_eq!(registry.instances("nobody").await.len(), 0);
}

#[tokio::test]
async fn what_others_wrote_is_listed_and_what_makes_no_sense_is_skipped_and_counted() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    etcd.etcdctl(&["put", "service/mail", "http://10.0.0.1:80"]);
    etcd.etcdctl(&["put", "service/mail/go", r#"{"Op":0,"Addr":"10.0.0.2:80","Metadata":null}"#]);
    etcd.etcdctl(&["put", "service/mail/bad", "what is this"]);
    etcd.etcdctl(&["put", "service/UPPER/x", "10.0.0.1:80"]);
    wait_until("both are listed", SOON, async || registry.instances("mail").await.len() == 2).await;
    let list = registry.get("/v1/services/mail/instances").await.accepted();
    assert_eq!(list["instances"][0]["id"], json!(null));
    assert_eq!(list["instances"][0]["address"], "10.0.0.1:80");
    assert_eq!(list["instances"][0]["lease"], json!(null));
    assert_eq!(list["instances"][1]["id"], "go");
    wait_until("two are counted", SOON, async || metric(&registry, "registry_mirror_unreadable_keys").await == 2.0)
        .await;
}

#[tokio::test]
async fn metrics_tell_what_heartbeats_came_to_and_how_the_mirror_is() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for weight in [1, 1, 1, 2] {
        let body = json!({ "address": "10.0.0.5:7070", "weight": weight }).to_string();
        registry.heartbeat("mail/a", &body).await.accepted();
    }
    for (outcome, count) in [("Registered", 1.0), ("KeptAlive", 2.0), ("Updated", 1.0)] {
        let name = format!("registry_heartbeats_total{{outcome=\"{outcome}\"}}");
        assert_eq!(metric(&registry, &name).await, count, "{name}");
    }
    registry.wait_for_instance("mail", "a", true).await;
    assert_eq!(metric(&registry, "registry_instances").await, 1.0);
    assert_eq!(metric(&registry, "registry_mirror_connected").await, 1.0);
    assert!(metric(&registry, "registry_mirror_age_seconds").await < 60.0);
    assert_eq!(metric(&registry, "registry_mirror_differences_total").await, 0.0);
    wait_until("every commit is settled", SOON, async || metric(&registry, "registry_unsettled_commits").await == 0.0)
        .await;
}
