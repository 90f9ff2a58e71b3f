//! Telling people: once, by one replica, about the end and about the return.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Json, Router, http::StatusCode, routing::post};
use registry::config::Config;
use serde_json::{Value, json};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, value};

const PASSING: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":3600000}"#;

/// Takes what is posted to it, and refuses the first few.
struct Inbox {
    address: String,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Inbox {
    async fn open(refusals: usize) -> Self {
        let (taken, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(refusals)));
        let into = Arc::clone(&taken);
        let take = async move |Json(body): Json<Value>| {
            let mut left = left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            into.lock().unwrap().push(body);
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async { axum::serve(listener, Router::new().route("/", post(take))).await });
        Self { address, taken }
    }

    fn field(&self, path: &str) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|body| body.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()).collect()
    }

    async fn holds(&self, count: usize) {
        wait_until("so many messages", SOON, async || self.taken.lock().unwrap().len() >= count).await;
    }
}

fn quickly(config: &mut Config, webhook: &Inbox) {
    config.alerts.alert_webhook = Some(format!("http://{}/", webhook.address).parse().unwrap());
    config.alerts.alert_after = Duration::from_millis(300);
    config.alerts.alert_window = Duration::from_millis(300);
}

async fn three(etcd: &EtcdCluster, configure: impl Fn(&mut Config)) -> Vec<Registry> {
    let mut registries = Vec::new();
    for _ in 0..3 {
        registries.push(Registry::start_with(etcd, &configure).await);
    }
    registries
}

#[tokio::test]
async fn the_end_and_the_return_are_told_once_by_one_of_three_replicas_also_after_it_died() {
    let etcd = EtcdCluster::start(1).await;
    let inbox = Inbox::open(2).await;
    let mut registries = three(&etcd, |config| quickly(config, &inbox)).await;
    registries[0].beat("shop/a", PASSING).await;
    for registry in &registries {
        registry.wait_for_instance("shop", "a", true).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    registries[0].delete(&instance_path("shop/a")).await.accepted();
    inbox.holds(1).await;
    assert_eq!(inbox.field("/services/0/status"), ["down"], "although the first two attempts failed");
    wait_until("it is written down", SOON, async || value(&etcd, "alert/told").as_deref() == Some("[\"shop\"]")).await;

    let sender = value(&etcd, "alert/sender").expect("somebody sends");
    let index = registries.iter().position(|registry| registry.url.ends_with(&sender)).unwrap();
    registries.remove(index).stop().await;
    wait_until("another one sends", SOON, async || {
        value(&etcd, "alert/sender").is_some_and(|successor| successor != sender)
    })
    .await;
    registries[0].beat("shop/a", PASSING).await;
    inbox.holds(2).await;
    wait_until("it is written down", SOON, async || value(&etcd, "alert/told").as_deref() == Some("[]")).await;
    assert_eq!(inbox.field("/services/0/status"), ["down", "recovered"], "each once");
    assert_ne!(inbox.field("/sender")[1], sender);
}

#[tokio::test]
async fn a_storm_is_one_message_and_too_few_are_told_like_none() {
    let etcd = EtcdCluster::start(1).await;
    let inbox = Inbox::open(0).await;
    let registry = Registry::start_with(&etcd, |config| {
        quickly(config, &inbox);
        config.alerts.alert_window = Duration::from_secs(8);
        config.alerts.min_instances = vec![("s0".parse().unwrap(), 2)];
    })
    .await;
    for number in 0..10 {
        registry.beat(&format!("s{number}/a"), PASSING).await;
    }
    registry.beat("s0/b", PASSING).await;
    registry.wait_for_instance("s0", "b", true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gone = (0..10).map(async |number| registry.delete(&instance_path(&format!("s{number}/a"))).await.accepted());
    futures::future::join_all(gone).await;
    inbox.holds(1).await;
    let message = inbox.taken.lock().unwrap()[0].clone();
    assert_eq!(message["services"].as_array().unwrap().len(), 10, "{message}");
    let expected = json!({"service": "s0", "status": "below_minimum", "instances": 1, "minimum": 2});
    assert_eq!(message["services"][0], expected);
}

#[tokio::test]
async fn an_email_goes_through_an_instance_of_mail_that_the_registry_finds_in_its_own_list() {
    let etcd = EtcdCluster::start(1).await;
    let (broken, mail) = (Inbox::open(usize::MAX).await, Inbox::open(0).await);
    let registry = Registry::start_with(&etcd, |config| {
        config.alerts.alert_mail = Some("ops@example.com".to_owned());
        config.alerts.alert_after = Duration::from_millis(300);
        config.alerts.alert_window = Duration::from_millis(300);
    })
    .await;
    for (id, inbox) in [("a", &broken), ("b", &mail)] {
        let body = json!({"address": inbox.address, "ttl_ms": 3_600_000}).to_string();
        registry.beat(&format!("mail/{id}"), &body).await;
    }
    registry.beat("shop/a", PASSING).await;
    registry.wait_for_instance("shop", "a", true).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    registry.delete(&instance_path("shop/a")).await.accepted();
    mail.holds(1).await;
    assert_eq!(mail.field("/address"), ["ops@example.com"]);
    assert_eq!(mail.field("/subject"), ["[muster] shop is down"]);
}
