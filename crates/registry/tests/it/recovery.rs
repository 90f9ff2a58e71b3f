//! What was lost comes back with the next heartbeat.

use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, keys, leases, value, wait_for_leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
/// For those whom nobody keeps alive while the test looks around.
const LONG: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;

#[tokio::test]
async fn a_key_that_was_deleted_comes_back_with_the_next_heartbeat_at_a_registry_that_had_not_heard_it() {
    let etcd = EtcdCluster::start(1).await;
    let heard = Registry::start(&etcd).await;
    let other = Registry::start(&etcd).await;
    heard.beat("mail/a", ADDRESS).await;
    other.wait_for_instance("mail", "a", true).await;
    heard.stop().await;
    // The lease lives on, and every keep-alive succeeds: only the key tells.
    etcd.etcdctl(&["del", "service/mail/a"]);
    other.wait_for_instance("mail", "a", false).await;
    other.beat("mail/a", ADDRESS).await;
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("10.0.0.5:7070"));
    wait_until("the lease that lost its key has expired", SOON, async || {
        other.beat("mail/a", ADDRESS).await;
        leases(&etcd).len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_is_gone_is_granted_anew_by_the_same_heartbeat() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for _ in 0..5 {
        registry.beat("mail/a", ADDRESS).await;
        // At once, so that the mirror may still show the key.
        etcd.etcdctl(&["lease", "revoke", &leases(&etcd)[0]]);
        registry.beat("mail/a", ADDRESS).await;
        assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some("10.0.0.5:7070"));
        // The registry restores it by itself, too: whichever comes second has no use for its lease.
        wait_until("there is one lease", SOON, async || {
            registry.beat("mail/a", ADDRESS).await;
            leases(&etcd).len() == 1
        })
        .await;
    }
}

#[tokio::test]
async fn everything_is_back_within_one_heartbeat_after_etcd_was_wiped() {
    const INSTANCES: usize = 50;
    let mut etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let beat = async || {
        join_all(
            (0..INSTANCES)
                .map(async |instance| replicas[instance % 2].heartbeat(&format!("mail/{instance}"), LONG).await),
        )
        .await
    };
    for answer in beat().await {
        answer.accepted();
    }
    etcd.wipe().await;
    assert!(keys(&etcd).is_empty());
    wait_until("every heartbeat is taken", SOON, async || beat().await.iter().all(|one| one.status == 200)).await;
    assert_eq!(keys(&etcd).len(), INSTANCES);
    wait_for_leases(&etcd, INSTANCES).await;
    for replica in &replicas {
        wait_until("the mirror shows the new cluster", SOON, async || {
            replica.instances("mail").await.len() == INSTANCES && replica.get("/readyz").await.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn an_instance_keeps_its_lease_when_the_leader_dies() {
    let mut etcd = EtcdCluster::start(3).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let granted = leases(&etcd);
    let leader = etcd.leader().await;
    etcd.kill(leader);
    wait_until("a heartbeat is accepted again", SOON, async || {
        let answer = registry.heartbeat("mail/a", ADDRESS).await;
        assert!(answer.status == 200 || answer.status == 503, "{:?}", answer.body);
        answer.status == 200
    })
    .await;
    assert_eq!(leases(&etcd), granted);
    assert_eq!(keys(&etcd), ["service/mail/a"]);
}

#[tokio::test]
async fn a_frozen_follower_is_not_noticed() {
    let mut etcd = EtcdCluster::start(3).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let follower = etcd.follower().await;
    etcd.freeze(follower);
    for _ in 0..20 {
        registry.beat("mail/a", ADDRESS).await;
    }
    registry.beat("mail/b", ADDRESS).await;
    etcd.thaw(follower);
}
