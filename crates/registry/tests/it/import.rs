//! What Kratos and go-zero have written into the same etcd is listed like any other instance, and goes when they go.

use registry::config::Config;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for_eq, wait_until},
};

use crate::support::{Registry, raft_index, value};

const KRATOS: &str = r#"{"id":"k1","name":"mail","version":"1.4.0","metadata":{},"endpoints":["grpc://10.0.0.5:9000?isSecure=false","http://10.0.0.5:7070?isSecure=false"]}"#;

fn both(config: &mut Config) {
    config.imports = vec!["/microservices".parse().unwrap(), "user.rpc".parse().unwrap()];
}

/// A lease of ten minutes.
fn grant(etcd: &EtcdCluster) -> String {
    let granted = etcd.etcdctl(&["lease", "grant", "600"]);
    granted.split_whitespace().nth(1).unwrap().to_owned()
}

fn put(etcd: &EtcdCluster, lease: &str, key: &str, value: &str) {
    etcd.etcdctl(&["put", &format!("--lease={lease}"), "--", key, value]);
}

async fn wait_for_count(registry: &Registry, service: &str, count: usize) {
    wait_for_eq(&format!("instances of {service}"), SOON, count, async || registry.instances(service).await.len())
        .await;
}

#[tokio::test]
async fn kratos_and_go_zero_instances_are_listed_and_gone_with_their_leases() {
    let etcd = EtcdCluster::start(1).await;
    let kratos = grant(&etcd);
    let zero = grant(&etcd);
    put(&etcd, &kratos, "/microservices/mail/k1", KRATOS);
    put(&etcd, &zero, "user.rpc/7587869434525013772", "10.0.0.6:8081");
    let registry = Registry::start_with(&etcd, both).await;
    wait_for_count(&registry, "mail", 1).await;
    wait_for_count(&registry, "user-rpc", 1).await;
    assert_eq!(registry.instances("mail").await["k1"]["address"], "10.0.0.5:7070");
    etcd.etcdctl(&["lease", "revoke", &kratos]);
    assert_eq!(value(&etcd, "service/mail/k1"), None, "in the same moment, whoever looks");
    wait_for_count(&registry, "mail", 0).await;
    wait_for_count(&registry, "user-rpc", 1).await;
}

#[tokio::test]
async fn a_copy_follows_its_original() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, both).await;
    let lease = grant(&etcd);
    put(&etcd, &lease, "/microservices/mail/k1", KRATOS);
    wait_for_count(&registry, "mail", 1).await;
    put(&etcd, &lease, "/microservices/mail/k1", &KRATOS.replace(":7070", ":7071"));
    wait_until("its address has changed", SOON, async || {
        registry.instances("mail").await["k1"]["address"] == "10.0.0.5:7071"
    })
    .await;
    // The key goes while the lease lives on.
    etcd.etcdctl(&["del", "/microservices/mail/k1"]);
    wait_for_count(&registry, "mail", 0).await;
}

#[tokio::test]
async fn an_instance_that_registers_itself_is_not_touched_and_nonsense_harms_nobody() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, both).await;
    registry.beat("mail/k1", r#"{"address":"10.0.0.9:7070","ttl_ms":600000}"#).await;
    let lease = grant(&etcd);
    put(&etcd, &lease, "/microservices/mail/k1", KRATOS);
    put(&etcd, &lease, "/microservices/mail/k0", "nonsense");
    put(&etcd, &lease, "/microservices/mail/k2", KRATOS);
    wait_for_count(&registry, "mail", 2).await;
    assert_eq!(registry.instances("mail").await["k1"]["address"], "10.0.0.9:7070");
}

#[tokio::test]
async fn two_replicas_import_without_writing_against_each_other() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start_with(&etcd, both).await, Registry::start_with(&etcd, both).await];
    let lease = grant(&etcd);
    put(&etcd, &lease, "/microservices/mail/k1", KRATOS);
    for replica in &replicas {
        wait_for_count(replica, "mail", 1).await;
    }
    let before = raft_index(&etcd).await;
    // Both look several times, one second apart: a second copy shows that they do.
    put(&etcd, &lease, "/microservices/mail/k2", KRATOS);
    wait_for_count(&replicas[0], "mail", 2).await;
    put(&etcd, &lease, "/microservices/mail/k3", KRATOS);
    wait_for_count(&replicas[1], "mail", 3).await;
    let entries = raft_index(&etcd).await - before;
    assert!((4..=10).contains(&entries), "two originals, two copies, at most one race each: {entries}");
}

#[tokio::test]
async fn an_imported_address_is_held_to_the_same_networks() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, both).await;
    let lease = grant(&etcd);
    put(&etcd, &lease, "/microservices/mail/k1", &KRATOS.replace("10.0.0.5", "169.254.169.254"));
    put(&etcd, &lease, "/microservices/mail/k2", &KRATOS.replace("k1", "k2").replace("10.0.0.5", "8.8.8.8"));
    put(&etcd, &lease, "/microservices/mail/k3", &KRATOS.replace("k1", "k3"));
    wait_for_count(&registry, "mail", 1).await;
    assert!(registry.instances("mail").await.contains_key("k3"));
    put(&etcd, &lease, "/microservices/mail/k1", KRATOS);
    wait_for_count(&registry, "mail", 2).await;
}
