//! What heartbeats cost when nothing changes: the number that the whole design is about.

use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, keys, leases, raft_index, wait_for_leases};

const INSTANCES: usize = 30;
const ROUNDS: usize = 100;

#[tokio::test]
async fn three_thousand_steady_heartbeats_at_two_replicas_add_no_raft_entry_and_no_lease() {
    let etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let beat = async |round: usize| {
        join_all((0..INSTANCES).map(async |instance| {
            let body = format!(r#"{{"address":"10.0.0.{}:7070","ttl_ms":60000}}"#, instance + 1);
            replicas[(round + instance) % 2].beat(&format!("mail/{instance}"), &body).await
        }))
        .await
    };
    beat(0).await;
    for replica in &replicas {
        wait_until("all are shown", SOON, async || replica.instances("mail").await.len() == INSTANCES).await;
    }
    let granted = leases(&etcd);
    let mut entries = 0;
    // An election, for which a pause of the machine is enough, adds an entry of its own.
    for _ in 0..3 {
        let index = raft_index(&etcd).await;
        for round in 0..ROUNDS {
            beat(round).await;
        }
        entries = raft_index(&etcd).await - index;
        if entries == 0 {
            break;
        }
    }
    assert_eq!(entries, 0, "raft entries for {} heartbeats", ROUNDS * INSTANCES);
    assert_eq!(leases(&etcd), granted, "the same leases as before");
    assert_eq!((granted.len(), keys(&etcd).len()), (INSTANCES, INSTANCES));
}

#[tokio::test]
async fn a_heartbeat_right_behind_the_first_finds_the_lease_that_the_mirror_does_not_show_yet() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for instance in 0..20 {
        for _ in 0..2 {
            let key = format!("mail/{instance}");
            registry.beat(&key, r#"{"address":"10.0.0.5:7070","ttl_ms":600000}"#).await;
        }
        assert_eq!(leases(&etcd).len(), instance + 1, "none was granted and given back");
    }
    wait_for_leases(&etcd, 20).await;
}
