//! What one heartbeat does, in both forms.

use reqwest::Method;
use serde_json::json;
use testkit::{etcd::EtcdCluster, etcd::EtcdConfig, wait::SOON, wait::wait_until};

use crate::support::{Registry, instance_path, keys, leases, value, wait_for_leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;

#[tokio::test]
async fn a_plain_heartbeat_registers_with_and_without_the_prefix() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for (name, port) in [("service/mail", 7070), ("mail", 7071)] {
        let body = json!({ "name": name, "host": "10.0.0.5", "port": port }).to_string();
        let reply = registry.ask(Method::POST, "/", body).await.accepted();
        assert_eq!((reply["ttl_ms"].as_u64(), reply["next_heartbeat_ms"].as_u64()), (Some(5000), Some(2000)));
        assert_eq!(reply["status"], "passing");
        assert!(reply["revision"].as_i64().unwrap() > 0);
        let key = format!("service/mail/10.0.0.5:{port}");
        assert_eq!(value(&etcd, &key), Some(format!("10.0.0.5:{port}")));
    }
    assert_eq!(leases(&etcd).len(), 2);
}

#[tokio::test]
async fn the_plain_form_says_where_to_ask_and_when_it_ends() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let body = |more: &str| format!(r#"{{"name":"mail","host":"10.0.0.5","port":7070{more}}}"#);
    let reply = registry.ask(Method::POST, "/", body(r#","health":"/healthz""#)).await.accepted();
    assert_eq!(reply["status"], "passing");
    let written = value(&etcd, "service/mail/10.0.0.5:7070");
    assert_eq!(written.as_deref(), Some("http://10.0.0.5:7070?health=/healthz"));
    for _ in 0..2 {
        let left = registry.ask(Method::POST, "/", body(r#","leaving":true"#)).await.accepted();
        assert!(left["revision"].as_i64() > reply["revision"].as_i64(), "{left}");
        assert_eq!(keys(&etcd), [""; 0], "at once, and again is harmless");
    }
    let nonsense = registry.ask(Method::POST, "/", body(r#","leaving":true,"incarnation":"new""#)).await;
    assert_eq!((nonsense.status.as_u16(), nonsense.field()), (422, "incarnation"), "{:?}", nonsense.body);
    let registered = registry.ask(Method::POST, "/", body(r#","leaving":false"#)).await.accepted();
    assert_eq!(registered["status"], "passing");
}

#[tokio::test]
async fn a_full_heartbeat_is_written_in_the_strict_form() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let body = r#"{"address":"10.0.0.5:7070","scheme":"http","weight":2,"zone":"a","version":"1.4.0","health":"/healthz",
        "status":"draining","tags":["eu"],"meta":{"owner":"ops"},"ttl_ms":10000}"#;
    let reply = registry.beat("mail/mail-1", body).await;
    assert_eq!((reply["ttl_ms"].as_u64(), reply["next_heartbeat_ms"].as_u64()), (Some(10_000), Some(4000)));
    assert_eq!(reply["status"], "draining", "what is reported is answered when no operator says otherwise");
    let written =
        "http://10.0.0.5:7070?weight=2&zone=a&version=1.4.0&health=/healthz&status=draining&tag=eu&meta.owner=ops";
    assert_eq!(value(&etcd, "service/mail/mail-1").as_deref(), Some(written));
}

#[tokio::test]
async fn a_success_is_committed_when_it_is_answered() {
    let etcd = EtcdCluster::start(3).await;
    let registry = Registry::start(&etcd).await;
    let reply = registry.beat("mail/a", ADDRESS).await;
    let found = etcd.etcdctl(&["get", "service/mail/a", "--rev", &reply["revision"].to_string(), "--print-value-only"]);
    assert_eq!(found, "10.0.0.5:7070\n", "at the very revision that the reply names");
}

#[tokio::test]
async fn what_changes_is_put_under_the_same_lease() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let before = leases(&etcd);
    for status in ["critical", "passing", "draining"] {
        let body = json!({ "address": "10.0.0.5:7070", "status": status }).to_string();
        let reply = registry.beat("mail/a", &body).await;
        assert_eq!(reply["status"], status);
    }
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("http://10.0.0.5:7070?status=draining"));
    assert_eq!(leases(&etcd), before);
    wait_until("the list shows the lease of the instance", SOON, async || {
        registry.instances("mail").await["a"]["lease"] == before[0].as_str()
    })
    .await;
}

#[tokio::test]
async fn another_ttl_means_another_lease_and_the_end_of_the_old_one() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let before = leases(&etcd);
    let longer = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;
    for _ in 0..5 {
        registry.beat("mail/a", longer).await;
    }
    wait_for_leases(&etcd, 1).await;
    let after = leases(&etcd);
    assert_ne!(after, before);
    let ttl = etcd.etcdctl(&["lease", "timetolive", &after[0]]);
    assert!(ttl.contains("granted with TTL(60s)"), "{ttl}");
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("10.0.0.5:7070"), "the key outlives its first lease");
}

#[tokio::test]
async fn an_etcd_that_grants_no_short_lease_is_not_asked_for_one_again_and_again() {
    let args = ["--heartbeat-interval", "500", "--election-timeout", "5000"].map(str::to_owned).to_vec();
    let etcd = EtcdCluster::with(EtcdConfig { members: 1, args, tls: None, can_be_cut: false }).await;
    let registries = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    // Each of the two replicas finds out once.
    for _ in 0..2 {
        for registry in &registries {
            registry.beat("mail/a", ADDRESS).await;
        }
    }
    wait_for_leases(&etcd, 1).await;
    let settled = leases(&etcd);
    for _ in 0..10 {
        for registry in &registries {
            registry.beat("mail/a", ADDRESS).await;
        }
    }
    assert_eq!(leases(&etcd), settled);
    registries[0].beat("mail/b", ADDRESS).await;
    let ttl = etcd.etcdctl(&["lease", "timetolive", &settled[0]]);
    assert!(ttl.contains("granted with TTL(8s)"), "{ttl}");
}

#[tokio::test]
async fn deregistering_removes_key_and_lease_at_once_and_twice_is_harmless() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":3600000}"#).await;
    for _ in 0..2 {
        let body = registry.delete(&instance_path("mail/a")).await.accepted();
        assert!(body["revision"].as_i64().unwrap() > 0);
        assert_eq!(keys(&etcd), [""; 0]);
    }
    wait_for_leases(&etcd, 0).await;
    registry.wait_for_instance("mail", "a", false).await;
    registry.delete(&instance_path("nobody/never-heard-of")).await.accepted();

    registry.beat("mail/a", ADDRESS).await;
    assert_eq!(keys(&etcd), ["service/mail/a"], "it may come back");
}

#[tokio::test]
async fn an_instance_whose_heartbeats_stop_expires() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":6000}"#).await;
    assert_eq!(keys(&etcd), ["service/mail/a"]);
    wait_until("its key is gone", SOON, async || keys(&etcd).is_empty()).await;
    registry.wait_for_instance("mail", "a", false).await;
    assert_eq!(leases(&etcd), [""; 0]);
}

#[tokio::test]
async fn a_key_that_somebody_wrote_for_good_or_made_unreadable_is_taken_over() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for (key, foreign) in [("mail/a", "10.0.0.5:7070"), ("mail/b", "\u{1}"), ("mail/c", "10.9.9.9:1")] {
        etcd.etcdctl(&["put", &format!("service/{key}"), foreign]);
        registry.beat(key, r#"{"address":"10.0.0.5:7070","ttl_ms":600000}"#).await;
        assert_eq!(value(&etcd, &format!("service/{key}")).as_deref(), Some("10.0.0.5:7070"));
    }
    wait_for_leases(&etcd, 3).await;
    for id in ["a", "b", "c"] {
        wait_until("it lives by a lease", SOON, async || {
            registry.instances("mail").await.get(id).is_some_and(|one| one["lease"].is_string())
        })
        .await;
    }
}
