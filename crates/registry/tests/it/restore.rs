//! A key that vanishes although its instance was heard is written again, and one that was deregistered is not.

use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, keys, leases, metric, value, wait_for_leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
/// They are not kept alive while the test looks around, and whatever becomes of their keys, no heartbeat did it.
const LONG: &str = r#"{"address":"10.0.0.5:7070","weight":3,"ttl_ms":60000}"#;

/// As etcd's thawed leader does it.
fn revoke_all(etcd: &EtcdCluster) {
    for lease in leases(etcd) {
        etcd.etcdctl(&["lease", "revoke", &lease]);
    }
}

async fn restored(registry: &Registry) -> f64 {
    let text = registry.get("/metrics").await.body.as_str().expect("text").to_owned();
    if !text.contains(r#"registry_restores_total{outcome="Restored"}"#) {
        return 0.0;
    }
    metric(registry, r#"registry_restores_total{outcome="Restored"}"#).await
}

/// Waits until `registry` has dealt with everything that vanished before: it does so in order, and this comes last.
async fn settle(etcd: &EtcdCluster, registry: &Registry) {
    registry.beat("probe/p", LONG).await;
    registry.wait_for_instance("probe", "p", true).await;
    let before = restored(registry).await;
    etcd.etcdctl(&["del", "service/probe/p"]);
    wait_until("the probe is restored", SOON, async || restored(registry).await > before).await;
}

#[tokio::test]
async fn a_key_whose_lease_is_revoked_is_back_without_a_heartbeat() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", LONG).await;
    registry.wait_for_instance("mail", "a", true).await;
    let before = value(&etcd, "service/mail/a");
    let granted = leases(&etcd);
    revoke_all(&etcd);
    wait_until("the key is back", SOON, async || value(&etcd, "service/mail/a").is_some()).await;
    assert_eq!(value(&etcd, "service/mail/a"), before);
    assert_eq!(leases(&etcd).len(), 1);
    assert_eq!(leases(&etcd), granted, "its life goes on");
    registry.beat("mail/a", LONG).await;
    assert_eq!(leases(&etcd).len(), 1, "the next heartbeat finds it as it should be");
}

#[tokio::test]
async fn registries_that_heard_the_same_instances_put_back_one_key_with_one_lease_each() {
    const INSTANCES: usize = 100;
    let etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await, Registry::start(&etcd).await];
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("mail/{n}")).collect();
    for replica in &replicas {
        join_all(names.iter().map(|name| replica.beat(name, LONG))).await;
    }
    wait_for_leases(&etcd, INSTANCES).await;
    let granted = leases(&etcd);
    for replica in &replicas {
        wait_until("all are known", SOON, async || replica.instances("mail").await.len() == INSTANCES).await;
    }
    revoke_all(&etcd);
    wait_until("all are back", SOON, async || keys(&etcd).len() == INSTANCES).await;
    wait_for_leases(&etcd, INSTANCES).await;
    assert_eq!(leases(&etcd), granted);
}

#[tokio::test]
async fn a_life_whose_key_was_put_back_goes_on_and_an_operators_word_for_it_too() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let body = r#"{"address":"10.0.0.5:7070","ttl_ms":60000,"incarnation":"new"}"#;
    let life = registry.beat("mail/a", body).await["incarnation"].as_str().unwrap().to_owned();
    let path = format!("{}/override", instance_path("mail/a"));
    registry.ask(reqwest::Method::PUT, &path, r#"{"status":"draining"}"#).await.accepted();
    registry.wait_for_instance("mail", "a", true).await;
    revoke_all(&etcd);
    wait_until("the key is back", SOON, async || value(&etcd, "service/mail/a").is_some()).await;
    let reply = registry.beat("mail/a", &body.replace("new", &life)).await;
    assert_eq!((&reply["incarnation"], &reply["status"]), (&life.into(), &"draining".into()));
}

#[tokio::test]
async fn an_instance_that_is_deregistered_anywhere_is_not_put_back_by_a_registry_that_heard_it() {
    let etcd = EtcdCluster::start(1).await;
    let heard = Registry::start(&etcd).await;
    let other = Registry::start(&etcd).await;
    for round in 0..10 {
        heard.beat("mail/a", LONG).await;
        // Every other time at once, before the other one's mirror may know that it is there.
        if round % 2 == 0 {
            other.wait_for_instance("mail", "a", true).await;
        }
        let at = if round % 3 == 0 { &heard } else { &other };
        at.delete(&instance_path("mail/a")).await.accepted();
        settle(&etcd, &heard).await;
        assert_eq!(value(&etcd, "service/mail/a"), None, "round {round}");
    }
}

#[tokio::test]
async fn an_instance_that_said_that_it_leaves_is_not_put_back() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", LONG).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","weight":3,"ttl_ms":60000,"status":"draining"}"#).await;
    registry.wait_for_instance("mail", "a", true).await;
    etcd.etcdctl(&["del", "service/mail/a"]);
    settle(&etcd, &registry).await;
    assert_eq!(value(&etcd, "service/mail/a"), None);
}

#[tokio::test]
async fn an_instance_whose_heartbeats_stopped_is_not_put_back() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.wait_for_instance("mail", "a", true).await;
    registry.wait_for_instance("mail", "a", false).await;
    settle(&etcd, &registry).await;
    assert_eq!(value(&etcd, "service/mail/a"), None);
    assert!((restored(&registry).await - 1.0).abs() < 0.5, "only the probe was");
}

/// It would have lived with another TTL, too.
#[tokio::test]
async fn an_instance_is_not_put_back_because_of_a_successor_that_was_refused() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| config.admission.writes.service_bytes_max = 100).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":2000}"#).await;
    registry.wait_for_instance("mail", "a", true).await;
    let successor =
        format!(r#"{{"address":"10.0.0.5:7070","version":"{}","ttl_ms":60000,"incarnation":"new"}}"#, "1".repeat(64));
    assert_eq!(registry.heartbeat("mail/a", &successor).await.code(), "too_much_stored");
    registry.wait_for_instance("mail", "a", false).await;
    settle(&etcd, &registry).await;
    assert_eq!(value(&etcd, "service/mail/a"), None);
}

/// What this registry has heard was another process, or the same one with another TTL.
#[tokio::test]
async fn an_instance_that_lives_by_another_registrys_lease_now_is_not_put_back_when_that_ends() {
    const SHORT: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":2000}"#;
    let etcd = EtcdCluster::start(1).await;
    let heard = Registry::start(&etcd).await;
    let other = Registry::start(&etcd).await;
    for does_leave in [true, false] {
        heard.beat("mail/a", LONG).await;
        other.wait_for_instance("mail", "a", true).await;
        if does_leave {
            other.delete(&instance_path("mail/a")).await.accepted();
        }
        other.beat("mail/a", SHORT).await;
        wait_until("it lives by the other lease", SOON, async || {
            heard.instances("mail").await.values().any(|one| one["weight"] != 3)
        })
        .await;
        heard.wait_for_instance("mail", "a", false).await;
        settle(&etcd, &heard).await;
        assert_eq!(value(&etcd, "service/mail/a"), None, "does leave: {does_leave}");
    }
}
