//! A heartbeat that waited in a registry that was stopped brings back no instance whose sender has given it up.

use std::{cell::Cell, net::SocketAddr};

use futures::{StreamExt as _, stream};
use nix::sys::signal::Signal;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for, wait_until},
};
use tokio::task::JoinSet;

use super::{Client, Program, heartbeat};
use crate::support::keys;

/// Fewer than the h2 crate lets a client reset before they are looked at.
const GIVEN_UP: usize = 15;

/// A frame that resets a stream (RFC 9113, sections 4.1 and 6.4).
const RESET_BYTES: u64 = 13;

/// What the kernel holds of connections to `address` that has not been read, in bytes (`proc_pid_net(5)`).
fn unread(address: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = sockets.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01");
    ours.map(|fields| u64::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap()).sum()
}

/// What is unread once nothing more comes.
async fn settled(address: SocketAddr, least: u64) -> u64 {
    let before = Cell::new(0);
    wait_for("what was sent", SOON, async || {
        let now = unread(address);
        (before.replace(now) == now && now >= least).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beginnings_that_were_reset_while_the_registry_was_stopped_begin_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let mut frozen = Program::start(&etcd).await;
    let client = Client::at(&frozen.url()).await;
    client.beat(heartbeat("probe/p", "new")).await.unwrap();
    frozen.process.signal(Signal::SIGSTOP);
    let mut waiting = JoinSet::new();
    for n in 0..GIVEN_UP {
        let mut calls = client.calls.clone();
        let only = stream::iter([heartbeat(&format!("mail/{n}"), "new")]).chain(stream::pending());
        waiting.spawn(async move { calls.register(only).await });
    }
    let sent = settled(frozen.address, GIVEN_UP as u64 * 50).await;
    waiting.shutdown().await;
    // The connection stays: only the streams are given up.
    settled(frozen.address, sent + GIVEN_UP as u64 * RESET_BYTES).await;
    frozen.process.signal(Signal::SIGCONT);
    client.beat(heartbeat("probe/q", "new")).await.unwrap();
    wait_until("nothing is under way", SOON, async || frozen.metric("registry_requests_under_way").await == 0).await;
    assert_eq!(keys(&etcd), ["service/probe/p", "service/probe/q"]);
}
