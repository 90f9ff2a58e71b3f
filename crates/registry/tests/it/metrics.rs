//! What clients send becomes no label: the number of time series is bounded.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;
use testkit::etcd::EtcdCluster;

use crate::support::Registry;

/// Every time series of a registry: names with their labels.
async fn series(registry: &Registry) -> BTreeSet<String> {
    let text = registry.get("/metrics").await.body.as_str().expect("text").to_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

/// Everything that a client can choose, with `n` in it.
async fn everything(registry: &Registry, n: usize) {
    let body = json!({ "address": "10.0.0.5:7070", "tags": [format!("t{n}")], "zone": format!("z{n}"), "version": n.to_string() });
    registry.heartbeat(&format!("s{n}/i{n}"), &body.to_string()).await.accepted();
    let path = format!("/v1/services/s{n}/instances/i{n}");
    registry.ask(Method::PUT, &format!("{path}/override"), r#"{"status":"draining"}"#).await.accepted();
    registry.ask(Method::PUT, &format!("/v1/config/s{n}/k{n}"), "x").await.accepted();
    for (method, path) in [
        ("GET", format!("/v1/services/s{n}/instances?tag=t{n}&zone=z{n}")),
        ("GET", format!("/v1/config/s{n}/k{n}")),
        ("GET", format!("/v1/health/service/s{n}")),
        ("GET", format!("/no/such/path/{n}")),
        (["BREW", "GET", "PROPFIND"][n % 3], "/v1/services".to_owned()),
        ("DELETE", path),
    ] {
        let method = if method == "BREW" { format!("BREW{n}") } else { method.to_owned() };
        registry.ask(method.parse().unwrap(), &path, "").await;
    }
    // What is refused names what it refuses only in its answer.
    registry.heartbeat(&format!("r{n}/i{n}"), r#"{"address":"8.8.8.8:53"}"#).await;
    registry.heartbeat(&format!("R_{n}/i{n}"), "{}").await;
}

#[tokio::test]
async fn labels_are_bounded_whatever_clients_register_and_ask_for() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for n in 0..3 {
        everything(&registry, n).await;
        series(&registry).await;
    }
    let before = series(&registry).await;
    assert!(before.len() > 50, "{before:?}");
    stream::iter(3..103).for_each_concurrent(8, |n| everything(&registry, n)).await;
    let after = series(&registry).await;
    let new: Vec<_> = after.difference(&before).collect();
    // Etcd may have been slow for some of them; that is a status like any other, and there are only so many.
    let unexpected: Vec<_> =
        new.iter().filter(|series| !series.contains("503") && !series.contains("navailable")).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}
