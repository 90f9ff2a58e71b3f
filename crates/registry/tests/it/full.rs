//! etcd is full: who is registered stays, nobody new gets in, and everybody is told why.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use discovery::deadlines::HEARTBEAT_ATTEMPT;
use discovery_etcd::EtcdOptions;
use serde_json::Value;
use testkit::{
    etcd::{EtcdCluster, EtcdConfig},
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, metric};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;
const CHANGED: &str = r#"{"address":"10.0.0.5:7070","version":"2"}"#;

pub(crate) async fn small_etcd() -> EtcdCluster {
    let args = ["--quota-backend-bytes", "4194304"].map(str::to_owned).to_vec();
    EtcdCluster::with(EtcdConfig { members: 1, args, ..EtcdConfig::default() }).await
}

async fn readyz(registry: &Registry) -> (u16, String, String) {
    let answer = registry.get("/readyz").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = text(&answer.body["status"]);
    let writes = text(&answer.body["checks"]["etcd_writes"]);
    (answer.status.as_u16(), status, writes)
}

#[tokio::test]
async fn a_full_etcd_makes_the_registry_degraded_and_its_words_are_the_answer_at_once() {
    let etcd = small_etcd().await;
    let registry = Registry::start_with(&etcd, |config| {
        config.etcd.etcd_timeout = EtcdOptions::default().etcd_timeout;
        config.etcd.etcd_deadline = EtcdOptions::default().etcd_deadline;
    })
    .await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
    registry.wait_for_instance("mail", "a", true).await;
    wait_until("it is ready", SOON, async || readyz(&registry).await == (200, "ready".to_owned(), "ok".to_owned()))
        .await;
    etcd.fill();

    let granted = etcd.calls(0, "Lease", "LeaseGrant").await;
    let started = Instant::now();
    let answer = registry.heartbeat("mail/new", ADDRESS).await;
    let took = started.elapsed();
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "etcd_refused"), "{:?}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("database space exceeded"), "{:?}", answer.body);
    assert!(took < HEARTBEAT_ATTEMPT, "a heartbeat would have given up: {took:?}");
    let granted = etcd.calls(0, "Lease", "LeaseGrant").await - granted;
    // One for the heartbeat, one perhaps to find out whether there is room again.
    assert!(granted <= 2.0, "{granted} leases for one heartbeat");

    wait_until("it is degraded, and says why", SOON, async || {
        let (code, status, writes) = readyz(&registry).await;
        code == 200 && status == "degraded" && writes.contains("database space exceeded")
    })
    .await;
    assert_eq!(metric(&registry, "registry_writes_failing").await, 1.0);
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
    let changed = r#"{"address":"10.0.0.5:7070","version":"2","ttl_ms":60000}"#;
    let answer = registry.heartbeat("mail/a", changed).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["holds_ms"], 60_000, "the registration stays: {:?}", answer.body);
    assert!(registry.instances("mail").await.contains_key("a"));

    etcd.make_room();
    wait_until("it is ready again, without a heartbeat", SOON, async || readyz(&registry).await.1 == "ready").await;
    assert_eq!(metric(&registry, "registry_writes_failing").await, 0.0);
    registry.beat("mail/a", changed).await;
    registry.beat("mail/new", ADDRESS).await;
}

#[tokio::test]
async fn one_warning_says_what_to_do_and_one_line_that_it_is_over() {
    let etcd = small_etcd().await;
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.env_clear().env("REGISTRY_LISTEN", &listen).env("REGISTRY_DNS_LISTEN", "off").env("LOG_FORMAT", "json");
    command.env("ETCD_ENDPOINTS", etcd.endpoint(0));
    let registry = Process::start(&mut command, &etcd.dir().join("registry.log")).unwrap();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let beat = async |id: usize| {
        let url = format!("http://{listen}/v1/services/mail/instances/{id}");
        http.put(url).body(CHANGED).send().await.map_or(0, |answer| answer.status().as_u16())
    };
    wait_until("a heartbeat is taken", SOON, async || beat(0).await == 200).await;
    etcd.fill();
    for id in 1..50 {
        assert_eq!(beat(id).await, 503);
    }
    let lines = |what: &str| registry.output().lines().filter(|line| line.contains(what)).count();
    wait_until("a warning", SOON, async || lines("etcd does not write") > 0).await;
    etcd.make_room();
    wait_until("the line that it is over", SOON, async || lines("etcd writes again") > 0).await;
    let log = registry.output();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("etcd does not write")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("database space exceeded") && warnings[0].contains("alarm disarm"), "{warnings:?}");
    assert_eq!(lines("etcd writes again"), 1);
}
