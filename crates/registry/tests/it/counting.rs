//! What is counted is what was done, whether or not the caller still waited for it.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for_eq, wait_until},
};
use tokio::time::timeout;

use crate::support::{Registry, instance_path, leases, metric};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
/// Shorter than the work with an etcd that is stopped, 800 ms, and long enough for so many requests to arrive.
const IMPATIENT: Duration = Duration::from_millis(500);
const SENT: usize = 20;

/// The sum of a counter over its labels.
pub(crate) async fn total(registry: &Registry, name: &str) -> f64 {
    let text = registry.get("/metrics").await.body.as_str().expect("text").to_owned();
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Heartbeats whose senders leave before a stopped etcd could answer; waits until they are counted. etcd stays stopped.
async fn abandoned(etcd: &mut EtcdCluster, registry: &Registry, body: &str) {
    let before = total(registry, "registry_heartbeats_total").await;
    etcd.freeze(0);
    let sent = (0..SENT).map(async |n| timeout(IMPATIENT, registry.heartbeat(&format!("mail/{n}"), body)).await);
    let answered = join_all(sent).await.into_iter().flatten().count();
    assert_eq!(answered, 0, "an etcd that is stopped answers none");
    wait_for_eq("every heartbeat is counted", SOON, before + SENT as f64, async || {
        total(registry, "registry_heartbeats_total").await
    })
    .await;
}

#[tokio::test]
async fn heartbeats_whose_senders_have_gone_are_counted() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    abandoned(&mut etcd, &registry, ADDRESS).await;
    etcd.thaw(0);
}

#[tokio::test]
async fn a_keep_alive_whose_sender_has_gone_is_finished_and_counted_and_leaves_nothing_under_way() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let steady = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;
    for n in 0..SENT {
        registry.beat(&format!("mail/{n}"), steady).await;
    }
    registry.beat("mail/0", steady).await;
    let granted = leases(&etcd);
    abandoned(&mut etcd, &registry, steady).await;
    assert_eq!(metric(&registry, "registry_requests_under_way").await, 0.0);
    etcd.thaw(0);
    for n in 0..SENT {
        registry.beat(&format!("mail/{n}"), steady).await;
    }
    assert_eq!(leases(&etcd), granted);
}

#[tokio::test]
async fn a_deregistration_that_succeeds_behind_its_callers_back_is_counted_as_one_that_did() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    etcd.freeze(0);
    let path = instance_path("mail/a");
    let asked = registry.ask(Method::DELETE, &path, "");
    assert!(timeout(IMPATIENT, asked).await.is_err(), "an etcd that is stopped answers nobody");
    etcd.thaw(0);
    wait_until("it is gone", SOON, async || !registry.instances("mail").await.contains_key("a")).await;
    wait_until("it is counted", SOON, async || {
        let text = registry.get("/metrics").await.body.as_str().expect("text").to_owned();
        text.contains("registry_deregistrations_total{outcome=\"Deregistered\"} 1")
    })
    .await;
}
