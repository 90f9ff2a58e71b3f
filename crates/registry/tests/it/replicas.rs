//! Registries side by side: none owns an instance, none needs another.

use futures::future::join_all;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, keys, leases, value, wait_for_leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
/// For those whom nobody keeps alive while the test looks around.
const LONG: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;

#[tokio::test]
async fn replicas_that_register_the_same_new_instance_at_once_leave_one_lease() {
    const INSTANCES: usize = 40;
    let etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await, Registry::start(&etcd).await];
    let all = (0..INSTANCES).flat_map(|instance| replicas.iter().map(move |replica| (instance, replica)));
    join_all(all.map(async |(instance, replica)| {
        replica.beat(&format!("mail/{instance}"), LONG).await;
    }))
    .await;
    assert_eq!(keys(&etcd).len(), INSTANCES);
    wait_for_leases(&etcd, INSTANCES).await;
    let granted = leases(&etcd);
    for replica in &replicas {
        for instance in 0..INSTANCES {
            replica.beat(&format!("mail/{instance}"), LONG).await;
        }
    }
    assert_eq!(leases(&etcd), granted, "all three keep the same leases alive");
}

#[tokio::test]
async fn replicas_that_change_the_same_instance_at_once_keep_its_lease() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    replicas[0].beat("mail/a", ADDRESS).await;
    let granted = leases(&etcd);
    let bodies = (0..20).map(|weight| format!(r#"{{"address":"10.0.0.5:7070","weight":{}}}"#, weight + 2));
    let bodies: Vec<String> = bodies.collect();
    join_all(bodies.iter().enumerate().map(async |(n, body)| {
        let answer = replicas[n % 2].heartbeat("mail/a", body).await;
        // Twenty at once on one key may be too much; then the answer says so, and nothing is broken.
        assert!(matches!(answer.status.as_u16(), 200 | 503), "{:?}", answer.body);
    }))
    .await;
    wait_until("the last word counts", SOON, async || {
        replicas[1].beat("mail/a", ADDRESS).await;
        value(&etcd, "service/mail/a").as_deref() == Some("10.0.0.5:7070")
    })
    .await;
    wait_for_leases(&etcd, 1).await;
    assert_eq!(leases(&etcd), granted);
}

#[tokio::test]
async fn an_instance_is_changed_and_deregistered_at_any_replica() {
    let etcd = EtcdCluster::start(1).await;
    let first = Registry::start(&etcd).await;
    let second = Registry::start(&etcd).await;
    for round in 0..5 {
        first.beat("mail/a", ADDRESS).await;
        second.beat("mail/a", r#"{"address":"10.0.0.5:7070","status":"draining"}"#).await;
        let drained = value(&etcd, "service/mail/a");
        assert_eq!(drained.as_deref(), Some("http://10.0.0.5:7070?status=draining"), "round {round}");
        second.delete(&instance_path("mail/a")).await.accepted();
        assert!(keys(&etcd).is_empty());
    }
    wait_for_leases(&etcd, 0).await;
}

#[tokio::test]
async fn nothing_is_deregistered_when_a_registry_ends_and_another_goes_on() {
    let etcd = EtcdCluster::start(1).await;
    let first = Registry::start(&etcd).await;
    let second = Registry::start(&etcd).await;
    for instance in ["a", "b"] {
        first.beat(&format!("mail/{instance}"), LONG).await;
    }
    let granted = leases(&etcd);
    first.stop().await;
    assert_eq!(keys(&etcd), ["service/mail/a", "service/mail/b"]);
    for instance in ["a", "b"] {
        second.beat(&format!("mail/{instance}"), LONG).await;
    }
    assert_eq!(leases(&etcd), granted, "the other replica takes the leases from etcd");
}
