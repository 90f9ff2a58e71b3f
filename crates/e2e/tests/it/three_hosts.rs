//! One of three hosts is lost, with its gateway, its registry, the leader of etcd and its instances; users of the other
//! gateway notice nothing. Twice: every process of the host is killed, and its cable is cut.
//!
//! What no gateway can hide is a response of which the first part has been passed on when the host is lost; the
//! instances here write theirs in one piece.

use std::time::Instant;

use e2e::three_hosts::ThreeHosts;
use testkit::wait::SOON;

/// How long a host stays in the table at most: an election of etcd's leader, which then gives every lease its whole TTL
/// again. What it took is printed; a busy machine takes longer, and the limit is for what never comes true.
const EXPECTED_S: u64 = 7;

/// The hosts; `None`, said aloud, where network namespaces are not allowed.
async fn hosts() -> Option<ThreeHosts> {
    ThreeHosts::start().await.inspect_err(|why| println!("SKIPPED three_hosts: {why}")).ok()
}

#[tokio::test]
async fn no_request_fails_at_the_other_gateway_when_a_host_is_killed_and_comes_back() {
    let Some(mut hosts) = hosts().await else { return };
    let users = hosts.users(2);
    hosts.pass(&users, 2).await;
    let at = Instant::now();
    hosts.kill(1).await;
    hosts.wait_for_table(2, &[2, 3], SOON).await;
    println!(
        "host 1 is out of the table {:.1} s after it was killed (expected: {EXPECTED_S} s)",
        at.elapsed().as_secs_f64()
    );
    hosts.pass(&users, 2).await;
    hosts.boot(1).await;
    hosts.wait_for_table(2, &[1, 2, 3], SOON).await;
    hosts.wait_for_table(1, &[1, 2, 3], SOON).await;
    hosts.pass(&users, 2).await;
    let seen = users.stop().await;
    println!("a host killed and started again: {seen}");
    assert!(seen.failures.is_empty(), "{seen}");
}

#[tokio::test]
async fn no_request_fails_at_the_other_gateway_when_the_cable_of_a_host_is_cut_and_mended() {
    let Some(hosts) = hosts().await else { return };
    let users = hosts.users(2);
    hosts.pass(&users, 2).await;
    let at = Instant::now();
    hosts.cut(1);
    hosts.wait_for_table(2, &[2, 3], SOON).await;
    println!(
        "host 1 is out of the table {:.1} s after its cable was cut (expected: {EXPECTED_S} s)",
        at.elapsed().as_secs_f64()
    );
    hosts.pass(&users, 2).await;
    hosts.mend(1);
    hosts.wait_for_table(2, &[1, 2, 3], SOON).await;
    hosts.wait_for_table(1, &[1, 2, 3], SOON).await;
    hosts.pass(&users, 2).await;
    let seen = users.stop().await;
    println!("a cable cut and mended: {seen}");
    assert!(seen.failures.is_empty(), "{seen}");
}
