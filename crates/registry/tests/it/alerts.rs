//! Telling people: once, by one replica, about the end and about the return.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
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
    /// `Authorization` of each.
    proofs: Arc<Mutex<Vec<String>>>,
}

impl Inbox {
    async fn open(refusals: usize) -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(Mutex::new(refusals));
        let into = Arc::clone(&taken);
        let proofs = Arc::<Mutex<Vec<String>>>::default();
        let shown = Arc::clone(&proofs);
        let take = async move |headers: HeaderMap, Json(body): Json<Value>| {
            let proof = headers.get("authorization").map(|proof| proof.to_str().unwrap().to_owned());
            shown.lock().unwrap().extend(proof);
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
        Self { address, taken, proofs }
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
    wait_until("it is written down", SOON, async || {
        value(&etcd, "alert/told").as_deref() == Some(r#"{"shop":"down"}"#)
    })
    .await;

    let sender = value(&etcd, "alert/sender").expect("somebody sends");
    let index = registries.iter().position(|registry| registry.url.ends_with(&sender)).unwrap();
    registries.remove(index).stop().await;
    wait_until("another one sends", SOON, async || {
        value(&etcd, "alert/sender").is_some_and(|successor| successor != sender)
    })
    .await;
    registries[0].beat("shop/a", PASSING).await;
    inbox.holds(2).await;
    wait_until("it is written down", SOON, async || value(&etcd, "alert/told").as_deref() == Some("{}")).await;
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
    let first = &message["services"][0];
    assert_eq!((&first["service"], &first["status"]), (&json!("s0"), &json!("below_minimum")));
    assert_eq!((&first["instances"], &first["minimum"]), (&json!(1), &json!(2)));
    assert_eq!((&first["not_well"][0]["id"], &first["not_well"][0]["cause"]), (&json!("a"), &json!("deregistered")));
}

#[tokio::test]
async fn the_second_half_of_an_outage_is_told_with_who_and_why() {
    let etcd = EtcdCluster::start(1).await;
    let inbox = Inbox::open(0).await;
    let registry = Registry::start_with(&etcd, |config| {
        quickly(config, &inbox);
        config.alerts.min_instances = vec![("shop".parse().unwrap(), 2)];
        config.alerts.alert_link = Some("https://gateway.example:8081".to_owned());
    })
    .await;
    registry.beat("shop/a", PASSING).await;
    let second = |status: &str, reason: Option<&str>| {
        json!({"address": "10.0.0.6:7070", "ttl_ms": 3_600_000, "status": status, "reason": reason}).to_string()
    };
    registry.beat("shop/b", &second("passing", None)).await;
    registry.wait_for_instance("shop", "b", true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = inbox.taken.lock().unwrap().len();

    registry.beat("shop/b", &second("critical", Some("no database"))).await;
    inbox.holds(before + 1).await;
    registry.delete(&instance_path("shop/a")).await.accepted();
    inbox.holds(before + 2).await;
    registry.beat("shop/a", PASSING).await;
    registry.beat("shop/b", &second("passing", None)).await;
    let statuses = || inbox.field("/services/0/status").split_off(before);
    wait_until("it is back", SOON, async || statuses().last().is_some_and(|last| last == "recovered")).await;
    assert_eq!(statuses()[..2], ["below_minimum", "down"], "{:?}", statuses());

    let texts = inbox.field("/text").split_off(before);
    let link = "https://gateway.example:8081/explain?service=shop";
    let few = format!("shop has 1 of 2 instances\n- b at 10.0.0.6:7070 is critical: no database\n{link}");
    assert_eq!(texts[0], few);
    assert!(texts[1].starts_with("shop is down") && texts[1].contains("- a at 10.0.0.5:7070 left "), "{texts:?}");
    assert!(texts[1].contains("- b at 10.0.0.6:7070 is critical: no database"), "{texts:?}");
}

#[tokio::test]
async fn a_degraded_service_is_told_with_the_reason() {
    let etcd = EtcdCluster::start(1).await;
    let inbox = Inbox::open(0).await;
    let registry = Registry::start_with(&etcd, |config| quickly(config, &inbox)).await;
    let degraded =
        json!({"address": "10.0.0.5:7070", "ttl_ms": 3_600_000, "status": "degraded", "reason": "SMTP is away"});
    registry.beat("mail/a", &degraded.to_string()).await;
    inbox.holds(1).await;
    let text = "mail is degraded (instances: 1, needed: 1)\n- a at 10.0.0.5:7070 is degraded: SMTP is away";
    assert_eq!(inbox.field("/text"), [text]);
    assert_eq!(inbox.field("/services/0/not_well/0/reason"), ["SMTP is away"]);
}

#[tokio::test]
async fn that_etcd_cannot_be_read_is_told_once_by_the_replica_that_sent_last_and_so_is_its_return() {
    let mut etcd = EtcdCluster::start(1).await;
    let inbox = Inbox::open(0).await;
    let _registries = three(&etcd, |config| quickly(config, &inbox)).await;
    wait_until("one of them sends", SOON, async || value(&etcd, "alert/sender").is_some()).await;
    let sender = value(&etcd, "alert/sender");
    etcd.kill(0);
    inbox.holds(1).await;
    assert_eq!(inbox.field("/etcd/status"), ["unreadable"]);
    assert_eq!(inbox.field("/sender").first(), sender.as_ref());
    etcd.restart(0).await;
    inbox.holds(2).await;
    assert_eq!(inbox.field("/etcd/status"), ["unreadable", "readable"]);
    assert!(inbox.field("/text")[1].starts_with("etcd can be read again after"), "{:?}", inbox.field("/text"));
}

#[tokio::test]
async fn an_email_goes_through_an_instance_of_mail_that_the_registry_finds_in_its_own_list() {
    let etcd = EtcdCluster::start(1).await;
    let broken = Inbox::open(usize::MAX).await;
    let mail = Inbox::open(0).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "muster_1\n").unwrap();
    let registry = Registry::start_with(&etcd, |config| {
        config.alerts.alert_mail = Some("ops@example.com".to_owned());
        config.alerts.alert_mail_token_file = Some(token.clone());
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
    assert_eq!(*mail.proofs.lock().unwrap(), ["Bearer muster_1"]);
}
