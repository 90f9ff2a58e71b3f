//! A real Prometheus finds the instances and scrapes them.

use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::{scraper::Scraper, support::Registry};

const TARGETS: &str = "/v1/prometheus/targets";

#[tokio::test]
async fn targets_are_every_instance_with_what_is_known_of_it_as_labels() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let empty = registry.get(TARGETS).await;
    assert_eq!((&empty.body, &empty.headers["content-type"]), (&json!([]), &"application/json".parse().unwrap()));
    let full = r#"{"address":"10.0.0.5:7070","scheme":"https","weight":2,"zone":"a","version":"1.4.0","health":"/up",
        "tags":["blue","big"],"meta":{"owner/team":"ops"}}"#;
    registry.beat("mail/a", full).await;
    registry.beat("web/b", r#"{"address":"[::1]:80","status":"critical"}"#).await;
    registry.wait_for_instance("web", "b", true).await;
    let targets = registry.get(TARGETS).await.accepted();
    let labels = json!({
        "__meta_muster_service": "mail", "__meta_muster_instance": "a", "__meta_muster_status": "passing",
        "__meta_muster_scheme": "https", "__meta_muster_weight": "2", "__meta_muster_tags": ",big,blue,",
        "__meta_muster_zone": "a", "__meta_muster_version": "1.4.0", "__meta_muster_health": "/up",
        "__meta_muster_meta_owner_team": "ops", "__scheme__": "https",
    });
    assert_eq!(targets[0], json!({ "targets": ["10.0.0.5:7070"], "labels": labels }));
    assert_eq!(targets[1]["targets"], json!(["[::1]:80"]));
    assert_eq!(targets[1]["labels"]["__meta_muster_status"], "critical");
    for query in ["?service=web", "?tag=blue&service=mail"] {
        assert_eq!(registry.get(&format!("{TARGETS}{query}")).await.accepted().as_array().unwrap().len(), 1, "{query}");
    }
    let passing = registry.get(&format!("{TARGETS}?passing")).await.accepted();
    assert_eq!(passing[0]["labels"]["__meta_muster_service"], "mail");
}

#[tokio::test]
async fn prometheus_scrapes_every_instance_and_keeps_them_while_etcd_is_away() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    // Registries have metrics themselves: here they are the instances that are scraped.
    let scraped = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    for (id, one) in scraped.iter().enumerate() {
        let body = json!({ "address": one.url.strip_prefix("http://").unwrap(), "ttl_ms": 600_000 }).to_string();
        registry.beat(&format!("web/{id}"), &body).await;
    }
    let prometheus = Scraper::prometheus(&format!(
        "  http_sd_configs: [{{ url: '{0}{TARGETS}', refresh_interval: 1s }}]
  relabel_configs: [{{ source_labels: [__meta_muster_service], target_label: service }}]",
        registry.url
    ));
    prometheus.wait_for_up("web", 2).await;

    etcd.kill(0);
    wait_until("old is no answer", SOON, async || {
        let answer = registry.get(TARGETS).await;
        (answer.status.as_u16(), answer.code()) == (503, "stale")
    })
    .await;
    let refused = "prometheus_sd_http_failures_total";
    wait_until("Prometheus was refused", SOON, async || prometheus.metric(refused).await >= 2.0).await;
    prometheus.wait_for_up("web", 2).await;
    etcd.restart(0).await;
    registry.wait_until_ready().await;
    registry.delete("/v1/services/web/instances/1").await.accepted();
    prometheus.wait_for_up("web", 1).await;
}
