//! 200 requests a second on `userlist`, a real service, while registries and etcd die: how many users notice.

use std::time::Duration;

use e2e::{load::Load, suite::Suite};
use reqwest::Method;
use serde_json::json;
use testkit::wait::wait_until;

const PER_SECOND: u32 = 200;
const SETTLED: Duration = Duration::from_secs(60);

/// A suite with one user, under load; the load asks for that user.
async fn under_load() -> (Suite, Load) {
    let suite = Suite::start().await;
    suite.post("userlist", json!({"method": "put", "name": "dong", "email": "d@example.com"})).await;
    let url: reqwest::Url = format!("{}/userlist/v1/users/dong", suite.gateway()).parse().unwrap();
    let load = Load::start(PER_SECOND, move |_, _| reqwest::Request::new(Method::GET, url.clone()));
    passed(&load, 2).await;
    (suite, load)
}

/// Waits until the load has gone on for `seconds` more.
async fn passed(load: &Load, seconds: usize) {
    let until = load.count() + seconds * PER_SECOND as usize;
    wait_until("the load to go on", SETTLED, async || load.count() >= until).await;
}

async fn no_request_failed(fault: &str, load: Load) {
    let seen = load.stop().await;
    println!("{fault}: {seen}");
    assert!(seen.failures.is_empty(), "{fault}: {seen}");
}

#[tokio::test]
async fn each_registry_is_restarted() {
    let (mut suite, load) = under_load().await;
    for name in ["registry-1", "registry-2"] {
        suite.kill(name);
        passed(&load, 3).await;
        suite.run(name);
        passed(&load, 3).await;
    }
    no_request_failed("each registry killed and restarted", load).await;
}

#[tokio::test]
async fn every_registry_and_etcd_are_gone() {
    let (mut suite, load) = under_load().await;
    for name in ["registry-1", "registry-2"] {
        suite.kill(name);
    }
    // Long enough for every lease to expire.
    passed(&load, 12).await;
    for member in 0..3 {
        suite.etcd.kill(member);
    }
    passed(&load, 5).await;
    for member in 0..3 {
        suite.etcd.launch(member);
    }
    suite.etcd.healthy().await;
    suite.run("registry-1");
    suite.run("registry-2");
    suite.wait_for_instances("userlist", 2).await;
    passed(&load, 2).await;
    no_request_failed("both registries dead, then etcd too, then all back", load).await;
}
