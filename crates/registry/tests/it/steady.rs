//! What heartbeats cost when nothing changes: the number that the whole design is about.

use futures::future::join_all;
use testkit::etcd::EtcdCluster;

use crate::support::{Registry, keys, leases, raft_index, wait_for_leases};

const INSTANCES: usize = 30;
const ROUNDS: usize = 100;

#[tokio::test]
async fn three_thousand_steady_heartbeats_at_two_replicas_add_no_raft_entry_and_no_lease() {
    let etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let beat = async |round: usize| {
        join_all((0..INSTANCES).map(async |instance| {
            let body = format!(r#"{{"address":"10.0.0.{}:7070"}}"#, instance + 1);
            replicas[(round + instance) % 2].heartbeat(&format!("mail/{instance}"), &body).await.accepted()
        }))
        .await
    };
    beat(0).await;
    for replica in &replicas {
        replica.wait_for_instance("mail", &(INSTANCES - 1).to_string(), true).await;
    }
    let (index, granted) = (raft_index(&etcd).await, leases(&etcd));
    for round in 0..ROUNDS {
        beat(round).await;
    }
    assert_eq!(raft_index(&etcd).await - index, 0, "raft entries for {} heartbeats", ROUNDS * INSTANCES);
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
            registry.heartbeat(&key, r#"{"address":"10.0.0.5:7070"}"#).await.accepted();
        }
        assert_eq!(leases(&etcd).len(), instance + 1, "none was granted and given back");
    }
    wait_for_leases(&etcd, 20).await;
}
