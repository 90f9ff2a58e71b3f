//! Many watchers, and such as do not read, cost a bounded amount of memory.

use std::{process::Command, time::Duration};

use futures::future::join_all;
use muster_proto::v1::{Heartbeat, Instance};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for, wait_until},
};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

use super::{Client, Program, heartbeat, next};

const CONNECTIONS: usize = 50;
const WATCHERS: usize = 10_000;

/// Streams of a service with large instances that are opened and not read.
const STALLED: usize = 500;
const LARGE_INSTANCES: usize = 100;

/// What one watcher, and one stream that is not read, may cost: its share of the windows, buffers and tasks.
const WATCHER_MAX_KIB: u64 = 24;
const STALLED_MAX_KIB: u64 = 128;

/// The write deadline of the server, and time for a busy machine.
const ENDED: Duration = Duration::from_secs(75);

async fn start(etcd: &EtcdCluster) -> Program {
    let unbounded = |command: &mut Command| {
        command.env("REGISTRY_CLIENT_RATE", "0");
        command.env("REGISTRY_TOKEN_INSTANCE_WRITES", "off").env("REGISTRY_ALL_INSTANCE_WRITES", "off");
    };
    Program::start_with(etcd, unbounded).await
}

impl Program {
    /// Memory that is really used, in KiB.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_are_told_of_a_change_and_one_too_many_is_refused() {
    let etcd = EtcdCluster::start(1).await;
    let server = start(&etcd).await;
    let url = server.url();
    let clients = join_all((0..CONNECTIONS).map(|_| Client::at(&url))).await;
    clients[0].beat(heartbeat("mail/a", "new")).await.unwrap();
    let before = server.resident_kib();
    let mut watchers = JoinSet::new();
    for client in &clients {
        let opened = join_all((0..WATCHERS / CONNECTIONS).map(|_| client.watch("mail", 0))).await;
        for stream in opened {
            let mut stream = stream.unwrap();
            while !next(&mut stream).await.unwrap().changed.iter().any(|one| one.id == "a") {}
            watchers.spawn(async move {
                while !next(&mut stream).await.unwrap().changed.iter().any(|one| one.id == "b") {}
                stream
            });
        }
    }
    assert_eq!(server.metric("registry_waiting").await, WATCHERS as u64);
    let each = server.resident_kib().saturating_sub(before) / WATCHERS as u64;
    let started = Instant::now();
    clients[0].beat(heartbeat("mail/b", "new")).await.unwrap();
    let streams = watchers.join_all().await;
    let told = started.elapsed();
    let after = server.resident_kib().saturating_sub(before) / WATCHERS as u64;
    println!("{WATCHERS} watchers: {each} KiB each, {after} KiB when all were told, which took {told:?}");
    assert!(after < WATCHER_MAX_KIB, "{after} KiB each");

    let more = join_all((0..WATCHERS / 20).map(|n| clients[n % CONNECTIONS].watch("web", 0))).await;
    let refused = more.iter().filter_map(|opened| opened.as_ref().err()).collect::<Vec<_>>();
    assert!(!refused.is_empty() && refused.iter().all(|status| status.code() == Code::ResourceExhausted));
    drop((streams, more));
    wait_until("no watcher is left", SOON, async || server.metric("registry_waiting").await == 0).await;
}

/// As large as an instance may be: about 9 KiB.
fn large(n: usize) -> Heartbeat {
    let meta = (0..32).map(|key| (key.to_string(), format!("{n:0>256}"))).collect();
    let instance = Instance { address: "10.0.0.5:7070".to_owned(), meta, ..Instance::default() };
    Heartbeat { instance: Some(instance), ttl_ms: 600_000, ..heartbeat(&format!("mail/{n}"), "") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_not_read_cost_a_bounded_amount_and_are_ended() {
    let etcd = EtcdCluster::start(1).await;
    let server = start(&etcd).await;
    let url = server.url();
    let clients = join_all((0..4).map(|_| Client::at(&url))).await;
    for n in 0..LARGE_INSTANCES {
        clients[0].beat(large(n)).await.unwrap();
    }
    wait_for("all are listed", SOON, async || {
        (clients[0].list("mail").await.unwrap().len() == LARGE_INSTANCES).then_some(())
    })
    .await;
    let before = server.resident_kib();
    // Opened, and nothing of them is read: what they have to say is more than their windows.
    let open = (0..STALLED).map(|n| clients[n % clients.len()].watch("mail", 0));
    let stalled: Vec<_> = join_all(open).await.into_iter().map(Result::unwrap).collect();
    let each = || server.resident_kib().saturating_sub(before) / STALLED as u64;
    let at_first = each();
    for n in 0..5 {
        clients[0].beat(large(n + 1000)).await.unwrap();
    }
    let later = each();
    println!("{STALLED} streams that are not read: {at_first} KiB each, {later} KiB after changes");
    assert!(later < STALLED_MAX_KIB, "{later} KiB each");
    wait_until("all are ended, and counted", ENDED, async || {
        server.metric("http_connections_unread_total").await == STALLED as u64
    })
    .await;
    assert_eq!(server.metric("registry_waiting").await, 0);
    let listed = clients[0].list("mail").await.unwrap().len();
    assert_eq!(listed, LARGE_INSTANCES + 5, "their connections go on");
    drop(stalled);
}
