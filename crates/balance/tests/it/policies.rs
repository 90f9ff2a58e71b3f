//! `config/<service>` in real etcd: in force at once, and never half understood.

use testkit::{
    etcd::EtcdCluster,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Program;

/// One etcd member, the program, and these instances of `mail`, written by hand.
async fn start(instances: &[&Upstream], options: &[&str]) -> (EtcdCluster, Program) {
    let etcd = EtcdCluster::start(1).await;
    for (n, upstream) in instances.iter().enumerate() {
        etcd.etcdctl(&["put", &format!("service/mail/{n}"), &upstream.address().to_string()]);
    }
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), options).await;
    wait_until("the table", SOON, async || {
        let explanation = program.admin("/explain?service=mail").await;
        explanation["instances"].as_array().is_some_and(|all| all.len() == instances.len())
    })
    .await;
    (etcd, program)
}

async fn policy(program: &Program) -> serde_json::Value {
    program.admin("/explain?service=mail").await["policy"].clone()
}

#[tokio::test]
async fn a_policy_is_in_force_as_soon_as_it_is_written_and_until_it_is_deleted() {
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    let (etcd, program) = start(&[&a, &b], &["--connect-timeout=3s"]).await;
    let before = policy(&program).await;
    assert_eq!(
        (before["source"].as_str(), &before["effective"]["timeouts"]["connect"]),
        (Some("default"), &"3s".into())
    );
    let json = r#"{"load_balancing":{"policy":"least_request"},"breaker":{"in_flight_max":7}}"#;
    etcd.etcdctl(&["put", "config/mail", json]);
    wait_until("the policy", SOON, async || policy(&program).await["source"] == "etcd").await;
    let after = policy(&program).await["effective"].clone();
    assert_eq!(
        (&after["load_balancing"]["policy"], &after["breaker"]["in_flight_max"]),
        (&"least_request".into(), &7.into())
    );
    assert_eq!(after["timeouts"]["connect"], "3s", "the flags stay the defaults");
    etcd.etcdctl(&["del", "config/mail"]);
    wait_until("the default", SOON, async || policy(&program).await["source"] == "default").await;
}

#[tokio::test]
async fn a_broken_policy_keeps_the_last_good_one_and_is_told_in_log_metric_and_explanation() {
    let a = Upstream::named("a").await;
    let (etcd, program) = start(&[&a], &[]).await;
    etcd.etcdctl(&["put", "config/mail", r#"{"retries":{"attempts_max":2}}"#]);
    wait_until("the good one", SOON, async || policy(&program).await["source"] == "etcd").await;
    etcd.etcdctl(&["put", "config/mail", r#"{"retries":{"attempts_max":99}}"#]);
    wait_until("the mistake", SOON, async || policy(&program).await["not_in_force"].is_string()).await;
    let now = policy(&program).await;
    assert_eq!(now["effective"]["retries"]["attempts_max"], 2);
    assert_eq!(now["not_in_force"], "retries.attempts_max: 99 is out of range; give 1 to 10");
    let metrics = program.metrics().await;
    assert!(metrics.contains("balance_policies_broken 1"), "{metrics}");
    let warnings = program.output().matches("a policy is not used").count();
    assert_eq!((warnings, program.get("/mail").await.text().as_str()), (1, "a"), "{}", program.output());
    etcd.etcdctl(&["put", "config/mail", "{}"]);
    wait_until("all well", SOON, async || program.metrics().await.contains("balance_policies_broken 0")).await;
}

#[tokio::test]
async fn a_policy_survives_the_loss_of_etcd_and_a_restart() {
    let a = Upstream::named("a").await;
    let folder = tempfile::tempdir().unwrap();
    let option = format!("--snapshot-file={}", folder.path().join("table.json").display());
    let (mut etcd, mut program) = start(&[&a], &[&option]).await;
    etcd.etcdctl(&["put", "config/mail", r#"{"retries":{"attempts_max":2}}"#]);
    wait_until("the policy", SOON, async || policy(&program).await["source"] == "etcd").await;
    assert_eq!(program.terminate(), Some(0));
    etcd.kill(0);
    let program = Program::start(folder.path(), &etcd.endpoint(0), &[&option]).await;
    let restored = policy(&program).await;
    assert_eq!(
        (restored["source"].as_str(), &restored["effective"]["retries"]["attempts_max"]),
        (Some("etcd"), &2.into())
    );
}

#[tokio::test]
async fn consecutive_answers_of_5xx_eject_as_the_policy_says() {
    let bad = Upstream::start(|_| Reply::status(500, &[], "bad")).await;
    let good = Upstream::named("good").await;
    let (etcd, program) = start(&[&bad, &good], &["--workers=1", "--stall-timeout=0s"]).await;
    // A check would find it awake, and let a request try it.
    let json = r#"{"health":{"active":{"kind":"off"},"passive":{"consecutive_5xx":3,"base_ejection":"1h","max_ejection":"1h"}}}"#;
    etcd.etcdctl(&["put", "config/mail", json]);
    wait_until("the policy", SOON, async || policy(&program).await["source"] == "etcd").await;
    for _ in 0..20 {
        program.get("/mail").await;
    }
    assert_eq!(bad.requests().iter().filter(|request| request.method == "GET").count(), 3);
    let instance = program.admin("/explain?service=mail").await["instances"][0].clone();
    assert!(matches!(instance["verdict"].as_str(), Some("ejected" | "probation")), "{instance}");
}

#[tokio::test]
async fn the_own_zone_is_preferred_and_explained() {
    let (near, far) = (Upstream::named("near").await, Upstream::named("far").await);
    let etcd = EtcdCluster::start(1).await;
    etcd.etcdctl(&["put", "service/mail/far", &format!("http://{}?zone=west", far.address())]);
    etcd.etcdctl(&["put", "service/mail/near", &format!("http://{}?zone=east", near.address())]);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &["--zone=east"]).await;
    wait_until("both", SOON, async || program.admin("/explain?service=mail").await["own_zone_permille"] == 1000).await;
    for _ in 0..10 {
        assert_eq!(program.get("/mail").await.text(), "near");
    }
    let explanation = program.admin("/explain?service=mail").await;
    assert_eq!((&explanation["zone"], &explanation["pick_now"]), (&"east".into(), &"service/mail/near".into()));
    assert!(explanation["instances"][0]["why"].to_string().contains("another zone"), "{explanation}");
}
