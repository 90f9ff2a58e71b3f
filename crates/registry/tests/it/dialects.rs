//! Registered once over HTTP, an instance stands in etcd in other systems' words, too.

use discovery::Dialect;
use reqwest::Method;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, keys, leases, raft_index, value, wait_for_leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
/// For those whom nobody keeps alive while the test looks around.
const LONG: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;

async fn speaking(etcd: &EtcdCluster) -> Registry {
    Registry::start_with(etcd, |config| config.dialects = Dialect::ALL.to_vec()).await
}

/// How many keys of `mail/a` there are in other systems' words.
fn views(etcd: &EtcdCluster) -> usize {
    let kept = ["rule", "service", "/0", "passhostheader"];
    let foreign = |key: &&String| !key.starts_with("service/") && !key.starts_with("override/");
    keys(etcd).iter().filter(foreign).filter(|key| !kept.iter().any(|end| key.ends_with(end))).count()
}

#[tokio::test]
async fn one_heartbeat_registers_in_every_dialect_and_one_deregistration_ends_them_all() {
    let etcd = EtcdCluster::start(1).await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    let grpc = r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#;
    assert_eq!(value(&etcd, "grpc/mail/a").as_deref(), Some(grpc));
    assert_eq!((views(&etcd), leases(&etcd).len()), (4, 1));
    registry.delete(&instance_path("mail/a")).await.accepted();
    assert_eq!(views(&etcd), 0);
    assert!(keys(&etcd).contains(&"traefik/http/routers/mail/rule".to_owned()), "503 there, not 404");
    wait_for_leases(&etcd, 0).await;
}

#[tokio::test]
async fn a_registry_that_speaks_no_dialect_writes_none() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    assert_eq!(keys(&etcd), ["service/mail/a"]);
}

#[tokio::test]
async fn steady_heartbeats_cost_etcd_no_log_entry_whatever_is_spoken() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [speaking(&etcd).await, speaking(&etcd).await];
    for replica in &replicas {
        replica.beat("mail/a", ADDRESS).await;
        replica.wait_for_instance("mail", "a", true).await;
    }
    let before = raft_index(&etcd).await;
    for beat in 0..20 {
        replicas[beat % 2].beat("mail/a", ADDRESS).await;
    }
    assert_eq!(raft_index(&etcd).await, before);
    assert_eq!(views(&etcd), 4);
}

#[tokio::test]
async fn what_was_registered_before_the_dialects_were_switched_on_follows_with_its_next_heartbeat() {
    let etcd = EtcdCluster::start(1).await;
    let silent = Registry::start(&etcd).await;
    silent.beat("mail/a", LONG).await;
    let lease = leases(&etcd);
    silent.stop().await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", LONG).await;
    assert_eq!((views(&etcd), leases(&etcd)), (4, lease));
}

#[tokio::test]
async fn an_operators_drain_reaches_the_clients_of_every_dialect() {
    let etcd = EtcdCluster::start(1).await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.wait_for_instance("mail", "a", true).await;
    let path = format!("{}/override", instance_path("mail/a"));
    registry.ask(Method::PUT, &path, r#"{"status":"draining"}"#).await.accepted();
    assert_eq!(views(&etcd), 0);
    for _ in 0..3 {
        registry.beat("mail/a", ADDRESS).await;
    }
    assert_eq!(views(&etcd), 0, "its heartbeats do not bring it back");
    registry.delete(&path).await.accepted();
    assert_eq!(views(&etcd), 4);
}

#[tokio::test]
async fn an_instance_that_is_critical_is_in_no_view_until_it_passes_again() {
    let etcd = EtcdCluster::start(1).await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","status":"critical"}"#).await;
    assert_eq!(views(&etcd), 0);
    registry.beat("mail/a", ADDRESS).await;
    assert_eq!(views(&etcd), 4);
}

#[tokio::test]
async fn an_override_that_came_another_way_is_followed_by_the_next_heartbeats() {
    let etcd = EtcdCluster::start(1).await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    etcd.etcdctl(&["put", "override/mail/a", "draining"]);
    wait_until("it is out of the views", SOON, async || {
        registry.beat("mail/a", ADDRESS).await;
        views(&etcd) == 0
    })
    .await;
}

#[tokio::test]
async fn everything_comes_back_in_every_dialect_after_etcd_was_wiped() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = speaking(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    etcd.wipe().await;
    assert!(keys(&etcd).is_empty());
    wait_until("a heartbeat is accepted again", SOON, async || {
        registry.heartbeat("mail/a", ADDRESS).await.status == 200
    })
    .await;
    assert_eq!(views(&etcd), 4);
}

#[tokio::test]
async fn skydns_names_are_below_the_domain_of_the_registrys_own_dns() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| {
        config.dialects = vec![Dialect::SkyDns];
        config.dns_domain = registry::dns::zone::Zone::new("discovery.example.com").unwrap();
    })
    .await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    let views: Vec<String> = keys(&etcd).into_iter().filter(|key| key.starts_with("/skydns/")).collect();
    assert!(
        matches!(&views[..], [one] if one.starts_with("/skydns/com/example/discovery/service/mail/a-")),
        "{views:?}"
    );
    registry.delete("/v1/services/mail/instances/a").await.accepted();
    assert_eq!(keys(&etcd), [""; 0]);
}
