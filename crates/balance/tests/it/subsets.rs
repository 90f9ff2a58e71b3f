//! A service with many instances: a core uses connections again, and every instance gets requests.

use std::time::{Duration, Instant};

use testkit::{
    etcd::EtcdCluster,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};
use tokio::time::interval;

use crate::support::{Gateway, Program};

const INSTANCES: usize = 50;
/// Forty requests a second: all instances are gone over in 1.25 s, longer than a connection is kept (0.8 s).
const PACE: Duration = Duration::from_millis(25);
const KEEP_ALIVE: &str = "--upstream-keep-alive=800ms";
/// The window wanders over all instances in 11 s.
const ALL_WITHIN: Duration = Duration::from_secs(40);

fn connections(upstreams: &[Upstream]) -> usize {
    upstreams.iter().map(Upstream::connections_accepted).sum()
}

/// Sends a request every [`PACE`] until all have had one, and so many at least; returns how many connections were opened
/// for each, after the first hundred.
async fn opened(gateway: &Gateway, service: &str, upstreams: &[Upstream]) -> f64 {
    let (mut client, mut pace, began) = (gateway.connect().await, interval(PACE), Instant::now());
    let head = format!("GET /{service} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut requests = 0;
    let mut before = 0;
    while requests < 400 || upstreams.iter().any(|upstream| upstream.connections_accepted() == 0) {
        pace.tick().await;
        assert_eq!(client.ask(&head).await.status, 200);
        requests += 1;
        if requests == 100 {
            before = connections(upstreams);
        }
        assert!(began.elapsed() < ALL_WITHIN, "an instance has had no request for {ALL_WITHIN:?}");
    }
    (connections(upstreams) - before) as f64 / f64::from(requests - 100)
}

#[tokio::test]
async fn few_requests_open_a_connection_and_every_instance_gets_requests() {
    let start = || async {
        let all = (0..INSTANCES).map(|_| Upstream::start(|_| Reply::ok("")));
        futures::future::join_all(all).await
    };
    let (many, sticky) = (start().await, start().await);
    let mut gateway = Gateway::with(&[KEEP_ALIVE]);
    for (service, upstreams) in [("many", &many), ("sticky", &sticky)] {
        for (n, upstream) in upstreams.iter().enumerate() {
            gateway.register(&format!("service/{service}/{n}"), &upstream.address().to_string());
        }
    }
    // Cookies lead to any instance, so the core goes over all.
    gateway.set_policy("sticky", r#"{"load_balancing":{"sticky":{"cookie":"at"}}}"#);
    let both = futures::future::join(opened(&gateway, "many", &many), opened(&gateway, "sticky", &sticky));
    let (from_a_subset, over_all) = both.await;
    println!("connections opened for each request: {over_all:.2} over all, {from_a_subset:.2} from a subset");
    assert!(from_a_subset < 0.35, "{from_a_subset} for each request");
    assert!(over_all > 0.6, "{over_all} for each request, without a subset");
}

#[tokio::test]
async fn who_is_not_in_the_subset_of_a_core_is_explained() {
    let upstream = Upstream::named("all").await;
    let etcd = EtcdCluster::start(1).await;
    for n in 0..40 {
        etcd.etcdctl(&["put", &format!("service/mail/{n}"), &upstream.address().to_string()]);
    }
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &["--workers=1", "--upstream-keep-alive=10m"]).await;
    let explained = async || program.admin("/explain?service=mail").await;
    wait_until("the table", SOON, async || {
        explained().await["instances"].as_array().is_some_and(|all| all.len() == 40)
    })
    .await;
    assert_eq!(explained().await["subsets"], serde_json::json!([]), "before the first request");
    // Sixteen make a subset, which is to last half of ten minutes: of 34 instances by the seventeenth.
    for _ in 0..17 {
        assert_eq!(program.get("/mail").await.status, 200);
    }
    let explanation = explained().await;
    let instances = explanation["subsets"][0]["instances"].as_u64().unwrap();
    assert!((17..40).contains(&instances), "{}", explanation["subsets"]);
    let all = explanation["instances"].as_array().unwrap();
    let outside = all.iter().filter(|one| one["why"].to_string().contains("it is not in core 0's subset now"));
    assert_eq!(outside.count() as u64, 40 - instances);
}
