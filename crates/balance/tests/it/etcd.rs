//! The program and real etcd: what is registered is served, and what happens to etcd happens to nobody else.

use std::time::{Duration, Instant};

use discovery::{Instance, InstanceKey, Status, Ttl};
use discovery_etcd::{Etcd, EtcdOptions, Registration};
use testkit::{
    etcd::EtcdCluster,
    upstream::Upstream,
    wait::{SOON, wait_until},
};

use crate::support::Program;

const HOUR: Duration = Duration::from_secs(3600);

/// One etcd member, the program, and one instance of `mail`.
struct Suite {
    etcd: EtcdCluster,
    client: Etcd,
    program: Program,
    mail: Upstream,
}

/// For a client that is not what is tested: on a busy machine a write may take longer than a gateway would wait.
fn patient(etcd: &EtcdCluster) -> EtcdOptions {
    EtcdOptions { etcd_timeout: SOON / 4, etcd_deadline: SOON, ..EtcdOptions::at(etcd.endpoints()) }
}

impl Suite {
    async fn start(options: &[&str]) -> Self {
        let etcd = EtcdCluster::start(1).await;
        let client = Etcd::new(&patient(&etcd)).unwrap();
        let program = Program::start(etcd.dir(), &etcd.endpoint(0), options).await;
        Self { etcd, client, program, mail: Upstream::named("mail").await }
    }

    fn instance(&self) -> Instance {
        Instance::at(self.mail.address().try_into().unwrap())
    }

    async fn register(&self, ttl: Duration) -> Registration {
        let registration = self.client.register(&key(), &self.instance(), ttl.try_into().unwrap()).await.unwrap();
        self.becomes(200, "").await;
        registration
    }

    /// Waits until `/mail` is answered so; returns the detail of the problem.
    async fn becomes(&self, status: u16, code: &str) -> String {
        let what = format!("{status} {code}");
        testkit::wait::wait_for(&what, SOON, async || {
            let answer = self.program.get("/mail").await;
            let problem = if answer.status == 200 { Default::default() } else { answer.problem() };
            (answer.status == status && problem.0 == code).then_some(problem.1)
        })
        .await
    }

    async fn decision(&self) -> String {
        let table = self.program.admin("/v1/table").await;
        table["services"]["mail"]["instances"][0]["decision"].as_str().unwrap_or("nobody").to_owned()
    }
}

fn key() -> InstanceKey {
    "service/mail/a".parse().unwrap()
}

#[tokio::test]
async fn an_instance_is_served_from_its_registration_to_its_deregistration() {
    let suite = Suite::start(&[]).await;
    let detail = suite.becomes(503, "no_instance").await;
    assert_eq!(detail, "no instance of \"mail\" was ever registered");
    let Registration { lease, .. } = suite.register(HOUR).await;
    assert_eq!(suite.decision().await, "in_rotation");

    suite.client.put_override(&key(), Status::Draining).await.unwrap();
    let detail = suite.becomes(503, "no_instance").await;
    assert!(detail.ends_with("is draining by an operator's word"), "{detail}");
    assert_eq!(suite.decision().await, "withheld");
    suite.client.delete_override(&key()).await.unwrap();
    suite.becomes(200, "").await;

    let draining = Instance { status: Status::Draining, ..suite.instance() };
    suite.client.update(&key(), &draining, lease).await.unwrap();
    suite.client.deregister(&key(), Some(lease)).await.unwrap();
    let left = Instant::now();
    while !suite.becomes(503, "no_instance").await.contains("deregistered") {
        assert!(left.elapsed() < SOON);
    }
    assert_eq!(suite.decision().await, "nobody");
}

#[tokio::test]
async fn an_instance_that_dies_is_503_at_once_and_down_when_its_lease_ends() {
    let mut suite = Suite::start(&[]).await;
    suite.register(Ttl::MIN.get()).await;
    suite.mail.down().await;
    let answer = suite.program.get("/mail").await;
    assert!(matches!(answer.code(), (503, code) if code == "instance_unreachable" || code == "no_instance"));
    wait_until("its end", SOON, async || suite.becomes(503, "no_instance").await.contains("lost its heartbeat")).await;
    wait_until("nobody is asked any more", SOON, async || suite.decision().await == "nobody").await;
}

#[tokio::test]
async fn the_death_of_etcd_stops_no_traffic_and_the_age_of_the_table_is_visible() {
    let mut suite = Suite::start(&[]).await;
    suite.register(HOUR).await;
    suite.etcd.kill(0);
    wait_until("an old table", SOON, async || {
        let readiness = suite.program.readiness().await;
        let json: serde_json::Value = serde_json::from_slice(&readiness.body).unwrap();
        assert_eq!(readiness.status, 200, "the gateway can do its work: {json}");
        json["table"]["age_ms"].as_u64().unwrap() > 3000 && json["table"]["etcd"]["connected"] == false
    })
    .await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
    let metrics = suite.program.metrics().await;
    assert!(metrics.contains("balance_watch_connected 0"), "{metrics}");
    suite.etcd.restart(0).await;
    wait_until("etcd again", SOON, async || suite.program.metrics().await.contains("balance_watch_connected 1")).await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
}

#[tokio::test]
async fn a_wiped_etcd_leaves_its_instances_as_the_last_resort() {
    let mut suite = Suite::start(&[]).await;
    suite.register(HOUR).await;
    suite.etcd.wipe().await;
    wait_until("the last resort", SOON, async || suite.decision().await == "last_resort_in_use").await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
    suite.mail.down().await;
    suite.becomes(503, "no_instance").await;
    wait_until("a dead last resort", SOON, async || suite.decision().await == "nobody").await;
}

#[tokio::test]
async fn a_value_that_makes_no_sense_is_left_out_and_the_others_are_served() {
    let suite = Suite::start(&[]).await;
    suite.etcd.etcdctl(&["put", "service/mail/bad", "not an address"]);
    suite.etcd.etcdctl(&["put", "service/mail/metadata", "169.254.169.254:80"]);
    suite.register(HOUR).await;
    for _ in 0..4 {
        assert_eq!(suite.program.get("/mail").await.text(), "mail");
    }
    let metrics = suite.program.metrics().await;
    for line in [
        "balance_values_unreadable 1",
        "balance_addresses_refused{reason=\"link_local\"} 1",
        "balance_instances{service=\"mail\",state=\"in_rotation\"} 1",
        "balance_instances{service=\"mail\",state=\"withheld\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(suite.program.output().contains("link-local"), "{}", suite.program.output());
}

#[tokio::test]
async fn a_start_without_etcd_serves_from_the_snapshot_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    let option = format!("--snapshot-file={}", file.display());
    let mut suite = Suite::start(&[&option]).await;
    suite.register(HOUR).await;
    assert_eq!(suite.program.terminate(), Some(0), "{}", suite.program.output());
    assert!(file.exists(), "what is known is saved, at the latest at the end");

    suite.etcd.kill(0);
    suite.program = Program::start(folder.path(), &suite.etcd.endpoint(0), &[&option]).await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
    let readiness = suite.program.readiness().await;
    let json: serde_json::Value = serde_json::from_slice(&readiness.body).unwrap();
    assert_eq!((readiness.status, json["table"]["source"].as_str()), (200, Some("disk")), "{json}");
    let unknown = suite.program.get("/userlist").await;
    assert_eq!(unknown.code(), (503, "discovery_unknown".to_owned()), "what the disk does not know is not down");

    suite.etcd.launch(0);
    wait_until("etcd's own word", SOON, async || suite.program.admin("/v1/table").await["table"]["source"] == "etcd")
        .await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
}

#[tokio::test]
async fn labels_come_from_etcd_and_never_from_users() {
    let suite = Suite::start(&[]).await;
    suite.register(HOUR).await;
    for n in 0..50 {
        suite.program.get(&format!("/nobody-{n}/x{n}?y={n}")).await;
    }
    let metrics = suite.program.metrics().await;
    assert!(!metrics.contains("nobody-"), "{metrics}");
    assert!(metrics.contains("balance_refusals_total{code=\"no_instance\"}"), "{metrics}");
    assert!(metrics.contains("balance_requests_total{service=\"mail\",status=\"2xx\"}"), "{metrics}");
    let count = "balance_request_duration_seconds_count{service=\"mail\"}";
    assert!(metrics.contains(count), "{metrics}");
    assert!(metrics.contains("le=\"+Inf\""), "{metrics}");
}

#[tokio::test]
async fn etcd_is_never_reached_through_the_gateway_though_its_endpoint_is_a_name() {
    let etcd = EtcdCluster::start(1).await;
    let client = Etcd::new(&patient(&etcd)).unwrap();
    let endpoint = etcd.endpoint(0).replace("127.0.0.1", "localhost");
    assert!(endpoint.contains("//localhost:"), "{endpoint}");
    let program = Program::start(etcd.dir(), &endpoint, &[]).await;
    let address = etcd.endpoint(0).replace("http://", "");
    let instance = Instance::at(address.parse().unwrap());
    client.register(&key(), &instance, HOUR.try_into().unwrap()).await.unwrap();
    testkit::wait::wait_for("the instance to be judged by etcd's address", SOON, async || {
        let answer = program.get("/mail/version").await;
        assert_ne!(answer.status, 200, "etcd answered: {}", answer.text());
        let table = program.admin("/v1/table").await;
        let reason = table["services"]["mail"]["instances"][0]["reason"].as_str().unwrap_or_default().to_owned();
        (answer.status == 503 && reason.contains("is an etcd member")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn readiness_is_told_as_by_every_service_and_with_the_age_of_the_table() {
    let suite = Suite::start(&[]).await;
    suite.becomes(503, "no_instance").await;
    let readiness = suite.program.readiness().await;
    let json: serde_json::Value = serde_json::from_slice(&readiness.body).unwrap();
    assert_eq!((readiness.status, &json["status"], &json["checks"]["table"]), (200, &"ready".into(), &"ok".into()));
    assert_eq!(json["table"]["source"], "etcd", "{json}");
    assert!(readiness.header("x-request-id").is_some(), "{}", readiness.head);
    let counted = "http_requests_total{route=\"/readyz\",method=\"GET\",status=\"200\"} 1";
    let metrics = suite.program.metrics().await;
    assert!(metrics.contains(counted), "{metrics}");
}
