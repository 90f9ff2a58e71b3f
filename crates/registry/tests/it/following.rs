//! A service that follows one of its settings through the heartbeat crate: it is told of changes, and nothing that
//! happens to registries or to etcd takes away what it has read.

use std::time::Duration;

use heartbeat::{
    HeartbeatOptions,
    setting::{self, SettingValue},
};
use reqwest::Method;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_until},
};
use tokio::sync::watch;

use crate::support::Registry;

const PATH: &str = "/v1/config/shop/limit";

/// Longer than the pause of a follower that nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

fn follow(urls: &[&str]) -> watch::Receiver<SettingValue> {
    let options = HeartbeatOptions::for_registries(urls.iter().map(|url| url.parse().unwrap()).collect());
    setting::follow(&options, "shop/limit".parse().unwrap())
}

async fn told(reading: &mut watch::Receiver<SettingValue>, value: Option<&str>) {
    let wanted = |reading: &SettingValue| *reading != SettingValue::Unknown && reading.value() == value;
    let told = tokio::time::timeout(PATIENCE, reading.wait_for(wanted)).await;
    drop(told.unwrap_or_else(|_| panic!("it is told of {value:?}")).unwrap());
}

async fn write(registry: &Registry, value: &'static str) {
    wait_until("the setting is written", SOON, async || registry.ask(Method::PUT, PATH, value).await.status == 200)
        .await;
}

#[tokio::test]
async fn a_service_is_told_when_its_setting_is_created_changed_and_deleted() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut limit = follow(&[&registry.url]);
    told(&mut limit, None).await;
    assert_eq!(*limit.borrow(), SettingValue::Absent, "that there is none is known, too");
    for value in ["10", "20", ""] {
        write(&registry, value).await;
        told(&mut limit, Some(value)).await;
    }
    registry.delete(PATH).await.accepted();
    told(&mut limit, None).await;
    write(&registry, "30").await;
    told(&mut limit, Some("30")).await;
}

#[tokio::test]
async fn a_registry_that_ends_is_replaced_by_another_one_and_nothing_is_taken_back() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    write(&replicas[0], "1").await;
    let nobody = format!("http://127.0.0.1:{}", free_ports(1)[0]);
    let mut limit = follow(&[&nobody, &replicas[0].url, &replicas[1].url]);
    told(&mut limit, Some("1")).await;
    let [first, second] = replicas;
    first.stop().await;
    write(&second, "2").await;
    told(&mut limit, Some("2")).await;
    second.stop().await;
    let change = tokio::time::timeout(Duration::from_secs(3), limit.changed()).await;
    assert!(change.is_err(), "without any registry the value holds: {:?}", *limit.borrow());
    assert_eq!(limit.borrow().value(), Some("2"));
}

#[tokio::test]
async fn an_outage_of_etcd_takes_nothing_back_and_what_changed_meanwhile_is_told_afterwards() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    write(&registry, "1").await;
    let mut limit = follow(&[&registry.url]);
    told(&mut limit, Some("1")).await;
    limit.borrow_and_update();
    etcd.kill(0);
    // Until the registry admits that it knows nothing any more, and a while longer.
    wait_until("the registry is stale", SOON, async || {
        registry.get(&format!("{PATH}?index=1&wait=1s")).await.status == 503
    })
    .await;
    let change = tokio::time::timeout(Duration::from_secs(3), limit.changed()).await;
    assert!(change.is_err(), "{:?}", *limit.borrow());
    etcd.restart(0).await;
    registry.wait_until_ready().await;
    write(&registry, "2").await;
    told(&mut limit, Some("2")).await;
}

#[tokio::test]
async fn an_etcd_that_comes_back_empty_takes_nothing_back() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    for n in 0..20 {
        registry.ask(Method::PUT, &format!("/v1/config/shop/other-{n}"), "x").await.accepted();
    }
    write(&registry, "1").await;
    let mut limit = follow(&[&registry.url]);
    told(&mut limit, Some("1")).await;
    limit.borrow_and_update();
    etcd.wipe().await;
    registry.wait_until_ready().await;
    wait_until("the registry knows that there is nothing", SOON, async || {
        registry.get(&format!("{PATH}?index=0&wait=1s")).await.status == 404
    })
    .await;
    let change = tokio::time::timeout(Duration::from_secs(5), limit.changed()).await;
    assert!(change.is_err(), "{:?}", *limit.borrow());
    write(&registry, "2").await;
    told(&mut limit, Some("2")).await;
    registry.delete(PATH).await.accepted();
    told(&mut limit, None).await;
}
