//! `/explain`, for a person who asks why.

use testkit::{
    etcd::EtcdCluster,
    upstream::Upstream,
    wait::{SOON, wait_until},
};

use crate::support::Program;

#[tokio::test]
async fn every_instance_has_its_verdict_and_the_reason() {
    let (well, mut dead) = (Upstream::named("well").await, Upstream::named("dead").await);
    let etcd = EtcdCluster::start(1).await;
    for (key, value) in [
        ("service/mail/draining", "http://10.0.0.9:1?status=draining".to_owned()),
        ("service/mail/metadata", "169.254.169.254:80".to_owned()),
        ("service/mail/operator", "10.0.0.8:1".to_owned()),
        ("override/mail/operator", "draining".to_owned()),
        ("service/mail/dead", dead.address().to_string()),
        ("service/mail/well", well.address().to_string()),
    ] {
        etcd.etcdctl(&["put", key, &value]);
    }
    dead.down().await;
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &["--workers=1"]).await;
    let told = async |key: &str| {
        let explanation = program.admin("/explain?service=mail").await;
        let all = explanation["instances"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|one| one["key"] == key).unwrap_or_default();
        (one["verdict"].as_str().unwrap_or_default().to_owned(), one["why"].to_string())
    };
    wait_until("the table", SOON, async || told("service/mail/well").await.0 == "in_rotation").await;
    wait_until("the ejection", SOON, async || {
        program.get("/mail").await;
        let (verdict, why) = told("service/mail/dead").await;
        verdict == "ejected" && why.contains("refused a connection; the next try is in")
    })
    .await;
    for (key, reason) in [
        ("service/mail/draining", "it is draining"),
        ("service/mail/operator", "it is draining by an operator's word"),
        ("service/mail/metadata", "it is link-local"),
    ] {
        let (verdict, why) = told(key).await;
        assert!(verdict == "withheld" && why.contains(reason), "{key}: {verdict} {why}");
    }
    let explanation = program.admin("/explain?service=mail").await;
    assert_eq!((&explanation["pick_now"], &explanation["panic"]), (&"service/mail/well".into(), &false.into()));
    assert_eq!(explanation["table"]["source"], "etcd");
    etcd.etcdctl(&["del", "service/mail/well"]);
    wait_until("its grave", SOON, async || {
        let gone = program.admin("/explain?service=mail").await["gone"].to_string();
        gone.contains("service/mail/well") && gone.contains("was deleted from etcd")
    })
    .await;
}

#[tokio::test]
async fn what_instances_say_of_their_state_is_explained() {
    let well = Upstream::named("well").await;
    let etcd = EtcdCluster::start(1).await;
    let degraded = format!("http://{}?degraded=SMTP%20is%20away", well.address());
    etcd.etcdctl(&["put", "service/mail/degraded", &degraded]);
    etcd.etcdctl(&["put", "service/shop/critical", "http://10.0.0.9:1?status=critical&reason=no%20database"]);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &["--workers=1"]).await;
    wait_until("the table", SOON, async || {
        program.admin("/explain?service=mail").await["instances"][0]["verdict"] == "in_rotation"
    })
    .await;
    assert_eq!(program.get("/mail").await.status, 200, "a degraded instance takes requests");
    let mail = program.admin("/explain?service=mail").await;
    assert_eq!(mail["instances"][0]["why"][0], "it is degraded: SMTP is away");
    let shop = program.admin("/explain?service=shop").await;
    let why = "shop is down: its only instance 10.0.0.9:1 is critical (no database)";
    assert_eq!((&shop["why_nobody"], &shop["instances"][0]["verdict"]), (&why.into(), &"withheld".into()));
    let answer = program.get("/shop").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.text().contains("database"), "users are not told what may hold addresses: {}", answer.text());
}

#[tokio::test]
async fn a_service_that_nobody_knows_is_a_problem_that_says_so() {
    let etcd = EtcdCluster::start(1).await;
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    wait_until("the table", SOON, async || {
        let problem = program.admin("/explain?service=nobody").await;
        problem["code"] == "no_such_service" && problem["detail"] == "no instance of \"nobody\" was ever registered"
    })
    .await;
    assert_eq!(program.admin("/explain").await["code"], "no_service_name");
}
