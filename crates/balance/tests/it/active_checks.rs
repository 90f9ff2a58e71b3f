//! Instances that fail their health checks, seen from outside the program.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use testkit::{
    etcd::EtcdCluster,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Program;

async fn verdict(program: &Program, index: usize) -> String {
    let explanation = program.admin("/explain?service=mail").await;
    explanation["instances"][index]["verdict"].as_str().unwrap_or("nobody").to_owned()
}

#[tokio::test]
async fn an_instance_that_fails_its_health_path_is_left_out_without_any_traffic_and_comes_back() {
    let is_well = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_well);
    let a = Upstream::start(move |request| match request.target.as_str() {
        "/healthz" if !answers.load(Ordering::Relaxed) => Reply::status(503, &[], "no database"),
        _ => Reply::ok("a"),
    })
    .await;
    let b = Upstream::named("b").await;
    let etcd = EtcdCluster::start(1).await;
    etcd.etcdctl(&["put", "service/mail/a", &format!("http://{}?health=/healthz", a.address())]);
    etcd.etcdctl(&["put", "service/mail/b", &b.address().to_string()]);
    etcd.etcdctl(&["put", "config/mail", r#"{"health":{"active":{"interval":"200ms"}}}"#]);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    wait_until("the verdict", SOON, async || verdict(&program, 0).await == "failing").await;
    for _ in 0..6 {
        assert_eq!(program.get("/mail").await.text(), "b");
    }
    let explanation = program.admin("/explain?service=mail").await.to_string();
    assert!(explanation.contains("health check: failed: it answered 503"), "{explanation}");
    let metrics = program.metrics().await;
    assert!(metrics.contains("balance_instances{service=\"mail\",state=\"ejected\"} 1"), "{metrics}");
    is_well.store(true, Ordering::Relaxed);
    wait_until("its return", SOON, async || verdict(&program, 0).await == "in_rotation").await;
    assert!(program.metrics().await.contains("balance_checks_total{result=\"good\"}"));
    assert_eq!(b.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stopped_instance_is_ejected_while_its_requests_wait_and_back_when_it_wakes() {
    let is_awake = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_awake);
    // As a process that got SIGSTOP: the kernel accepts for it, and nobody answers.
    let a =
        Upstream::start(move |_| if answers.load(Ordering::Relaxed) { Reply::ok("a") } else { Reply::Silence }).await;
    let b = Upstream::named("b").await;
    let etcd = EtcdCluster::start(1).await;
    for (name, upstream) in [("a", &a), ("b", &b)] {
        etcd.etcdctl(&["put", &format!("service/mail/{name}"), &upstream.address().to_string()]);
    }
    // The data path itself would notice, and ask another instance: here only the checks may.
    let options = ["--workers=1", "--stall-timeout=30s"];
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &options).await;
    wait_until("both", SOON, async || verdict(&program, 1).await == "in_rotation").await;
    // So many that they do not all go to the other one by chance.
    let waiting = futures::future::join_all((0..16).map(|_| program.get("/mail")));
    let ejected = wait_until("the ejection", SOON, async || verdict(&program, 0).await == "ejected");
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("one of them must wait"),
        () = ejected => {}
    }
    for _ in 0..6 {
        assert_eq!(program.get("/mail").await.text(), "b");
    }
    is_awake.store(true, Ordering::Relaxed);
    wait_until("its return", SOON, async || program.get("/mail").await.text() == "a").await;
}

#[tokio::test]
async fn an_instance_that_nobody_listens_for_is_found_by_the_checks_alone() {
    let (mut a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    a.down().await;
    let etcd = EtcdCluster::start(1).await;
    for (name, upstream) in [("a", &a), ("b", &b)] {
        etcd.etcdctl(&["put", &format!("service/mail/{name}"), &upstream.address().to_string()]);
    }
    etcd.etcdctl(&["put", "config/mail", r#"{"health":{"active":{"interval":"100ms","fall":1}}}"#]);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    wait_until("the verdict", SOON, async || verdict(&program, 0).await == "failing").await;
    assert_eq!(program.get("/mail").await.text(), "b");
}
