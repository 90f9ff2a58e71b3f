//! etcd cannot be reached: an honest answer, soon, and everything as before when it is back.

use std::time::{Duration, Instant};

use discovery_etcd::EtcdOptions;
use futures::future::join_all;
use registry::config::Config;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Registry, keys, leases};

const ADDRESS: &str = r#"{"address":"10.0.0.5:7070"}"#;

/// The promise is 2 s; the rest is for a machine that runs seven other tests.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

#[track_caller]
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert!(["etcd_unavailable", "etcd_slow", "overloaded"].contains(&answer.code()), "{:?}", answer.body);
}

#[tokio::test]
async fn without_etcd_a_heartbeat_is_503_and_nothing_is_claimed_to_be_known() {
    let registry = Registry::without_etcd().await;
    let started = Instant::now();
    assert_unavailable(&registry.heartbeat("mail/a", ADDRESS).await);
    assert_unavailable(&registry.delete("/v1/services/mail/instances/a").await);
    assert!(started.elapsed() < ANSWERED_WITHIN, "{:?}", started.elapsed());
    for path in ["/v1/services", "/v1/services/mail/instances"] {
        let answer = registry.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (503, "not_loaded"), "never an empty list");
    }
    wait_until("readiness says why", SOON, async || {
        let ready = registry.get("/readyz").await;
        let reason = ready.body["checks"]["etcd"].as_str().unwrap_or_default().to_owned();
        ready.status == 503 && reason.contains("nothing has been read from etcd yet") && reason.contains("refused")
    })
    .await;
    assert_eq!(registry.get("/healthz").await.status, 200, "a restart would not help");
}

#[tokio::test]
async fn while_etcd_is_away_heartbeats_are_503_and_lists_grow_old_and_then_all_is_well_again() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
    registry.wait_for_instance("mail", "a", true).await;
    let granted = leases(&etcd);
    etcd.kill(0);
    let started = Instant::now();
    assert_unavailable(&registry.heartbeat("mail/a", ADDRESS).await);
    assert_unavailable(&registry.heartbeat("mail/new", ADDRESS).await);
    assert!(started.elapsed() < 2 * ANSWERED_WITHIN, "{:?}", started.elapsed());
    wait_until("the list says that it is old, and still shows the instance", SOON, async || {
        let list = registry.get("/v1/services/mail/instances").await.accepted();
        list["age_ms"].as_u64().unwrap() > 3000 && list["instances"][0]["id"] == "a"
    })
    .await;
    wait_until("readiness says why", SOON, async || {
        let ready = registry.get("/readyz").await;
        let reason = ready.body["checks"]["etcd"].as_str().unwrap_or_default().to_owned();
        ready.status == 503 && reason.contains("no word from etcd for ") && reason.contains("refused")
    })
    .await;

    etcd.restart(0).await;
    registry.wait_until_ready().await;
    registry.beat("mail/a", r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#).await;
    assert_eq!(leases(&etcd), granted);
    assert_eq!(keys(&etcd), ["service/mail/a"], "what was answered with 503 was not registered behind anybody's back");
}

#[tokio::test]
async fn without_a_quorum_a_heartbeat_is_503_and_never_a_false_200() {
    let mut etcd = EtcdCluster::start(3).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", ADDRESS).await;
    registry.wait_for_instance("mail", "a", true).await;
    let leader = etcd.leader().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        etcd.kill(other);
    }
    wait_until("the leader has stepped down", SOON, async || registry.heartbeat("mail/a", ADDRESS).await.status == 503)
        .await;
    for key in ["mail/a", "mail/new"] {
        let started = Instant::now();
        assert_unavailable(&registry.heartbeat(key, ADDRESS).await);
        assert!(started.elapsed() < ANSWERED_WITHIN, "{:?}", started.elapsed());
    }
    for other in others {
        etcd.launch(other);
    }
    wait_until("a heartbeat is accepted again", SOON, async || {
        registry.heartbeat("mail/a", ADDRESS).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn heartbeats_do_not_pile_up_while_etcd_is_frozen() {
    const AT_ONCE: usize = 1000;
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/0", ADDRESS).await;
    // Its kernel still accepts connections and data: nothing fails, nobody answers.
    etcd.freeze(0);
    let started = Instant::now();
    let answers = join_all((0..AT_ONCE).map(async |n| registry.heartbeat(&format!("mail/{n}"), ADDRESS).await)).await;
    let elapsed = started.elapsed();
    for answer in &answers {
        assert_unavailable(answer);
    }
    let refused = answers.iter().filter(|answer| answer.code() == "overloaded").count();
    assert!(refused > AT_ONCE / 4, "only {refused} of {AT_ONCE} were refused at once");
    assert!(elapsed < 2 * ANSWERED_WITHIN, "{elapsed:?}");
    etcd.thaw(0);
    wait_until("a heartbeat is accepted again", SOON, async || {
        registry.heartbeat("mail/0", ADDRESS).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_steady_heartbeat_is_answered_by_its_deadline_while_etcd_is_frozen() {
    let mut etcd = EtcdCluster::start(1).await;
    let limits = |config: &mut Config| config.etcd = EtcdOptions::at(config.etcd.etcd_endpoints.clone());
    let registry = Registry::start_with(&etcd, limits).await;
    let steady = r#"{"address":"10.0.0.5:7070","ttl_ms":60000}"#;
    registry.beat("mail/a", steady).await;
    registry.beat("mail/a", steady).await;
    etcd.freeze(0);
    let started = Instant::now();
    let answer = registry.heartbeat("mail/a", steady).await;
    assert_unavailable(&answer);
    assert!(answer.body["detail"].as_str().unwrap().contains("etcd did not keep the lease alive"), "{:?}", answer.body);
    // The promise is 900 ms; an attempt has 450 of them, and there is one member only.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(450) && took < ANSWERED_WITHIN, "{took:?}");
    etcd.thaw(0);
    registry.beat("mail/a", steady).await;
}
