//! Clients that ask for much and read nothing cost no memory of their own.

use futures::future::join_all;
use registry::admission::budget::Budget;
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{Registry, metric};

const INSTANCES: usize = 500;
const STREAMS: usize = 250;
const LISTS: usize = 50;

/// What all of them together may cost. Each with a body of its own, the streams alone would cost more than 1 GiB.
const GROWTH_MAX_KIB: u64 = 128 * 1024;

/// Memory of this process that is really used, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// As large as an instance may be: about 9 KiB of JSON.
fn large_instance(n: usize) -> String {
    let meta: serde_json::Map<_, _> = (0..32).map(|key| (key.to_string(), format!("{n:0>256}").into())).collect();
    let address = format!("10.0.{}.{}:7070", n / 250, n % 250 + 1);
    json!({ "address": address, "ttl_ms": 600_000, "meta": meta }).to_string()
}

/// Asks, waits until the answer has begun, and reads nothing of it.
async fn ask_and_read_nothing(registry: &Registry, path: &str) -> TcpStream {
    let address = registry.url.strip_prefix("http://").unwrap().parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    timeout(SOON, stream.peek(&mut [0])).await.expect("the answer begins").unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_answers_that_nobody_reads_cost_little_more_than_one() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| {
        let writes = &mut config.admission.writes;
        (writes.token_instance_writes, writes.all_instance_writes) = (Budget::Unbounded, Budget::Unbounded);
    })
    .await;
    for first in (0..INSTANCES).step_by(10) {
        let beat = async |n: usize| registry.beat(&format!("mail/{n}"), &large_instance(n)).await;
        join_all((first..first + 10).map(beat)).await;
    }
    wait_until("all are listed", SOON, async || {
        registry.get("/v1/services").await.accepted()["services"][0]["instances"] == INSTANCES
    })
    .await;
    // What one reader makes of it is shared by all.
    assert_eq!(registry.instances("mail").await.len(), INSTANCES);
    let before = resident_kib();
    let ask = |path: &'static str, count: usize| join_all((0..count).map(|_| ask_and_read_nothing(&registry, path)));
    let mut unread = ask("/v1/watch?service=mail", STREAMS).await;
    let streams = resident_kib().saturating_sub(before);
    assert_eq!(metric(&registry, "registry_waiting").await, STREAMS as f64);
    for path in ["/v1/services/mail/instances", "/v1/health/service/mail"] {
        unread.extend(ask(path, LISTS).await);
    }
    // Each change is news for every stream.
    for n in 0..10 {
        registry.beat(&format!("mail/{n}"), &large_instance(n + 1000)).await;
    }
    let all = resident_kib().saturating_sub(before);
    println!("{STREAMS} unread streams: {streams} KiB; with {} unread lists: {all} KiB", 2 * LISTS);
    assert!(all < GROWTH_MAX_KIB, "{all} KiB more");
    drop(unread);
    let reset = registry.follow("mail", None).await.next("reset").await;
    assert_eq!(reset.data["instances"].as_array().unwrap().len(), INSTANCES, "who reads gets all of it");
}
