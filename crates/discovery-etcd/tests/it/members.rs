//! Members that are killed, frozen, or without a quorum: what a call does.

use std::time::Duration;

use discovery_etcd::{Etcd, EtcdError, EtcdOptions, Failure};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for, wait_until},
};
use tokio::time::Instant;

use crate::parts::{etcd, instance, key, long_ttl};

/// What a registry does with one instance, from beginning to end.
async fn life(etcd: &Etcd, path: &str) -> Result<(), EtcdError> {
    let key = key(path);
    let lease = etcd.register(&key, &instance("a:1"), long_ttl()).await?.lease;
    etcd.keep_alive(lease).await?;
    etcd.update(&key, &instance("a:2"), lease).await?;
    assert!(etcd.snapshot().await?.instances.iter().any(|registered| registered.key == key));
    etcd.deregister(&key, Some(lease)).await?;
    assert!(!etcd.snapshot().await?.instances.iter().any(|registered| registered.key == key));
    Ok(())
}

#[tokio::test]
async fn a_member_that_is_killed_fails_no_call() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    life(&etcd, "mail/before").await.unwrap();
    let follower = cluster.follower().await;
    cluster.kill(follower);
    for round in 0..20 {
        life(&etcd, &format!("mail/{round}")).await.unwrap();
    }
    let status = etcd.status().await;
    assert_eq!(status.reachable().count(), 2);
    assert!(matches!(status.members[follower].1, Err(Failure::Unreachable(_))), "{status:?}");
}

#[tokio::test]
async fn a_member_that_is_frozen_costs_at_most_one_attempt() {
    let mut cluster = EtcdCluster::start(3).await;
    let follower = cluster.follower().await;
    cluster.freeze(follower);
    let attempt = Duration::from_secs(2);
    let options =
        EtcdOptions { etcd_timeout: attempt, etcd_deadline: 4 * attempt, ..EtcdOptions::at(cluster.endpoints()) };
    // Every client starts with a member by chance: enough of them, and some start with the frozen one.
    let mut met = 0;
    for client in 0..60 {
        let etcd = Etcd::new(&options).unwrap();
        let mut slow = 0;
        for call in 0..4 {
            let began = Instant::now();
            etcd.snapshot().await.unwrap();
            if call == 0 {
                life(&etcd, &format!("mail/{client}")).await.unwrap();
            }
            slow += usize::from(began.elapsed() >= attempt);
        }
        assert!(slow <= 1, "{slow} of its calls waited for the frozen member");
        met += slow;
        if met >= 2 {
            break;
        }
    }
    assert!(met >= 1, "of 60 clients none began with the frozen member");
    cluster.thaw(follower);
}

#[tokio::test]
async fn a_member_that_freezes_under_many_keep_alives_fails_none() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    let keys: Vec<_> = (0..50).map(|n| key(&format!("mail/{n}"))).collect();
    let value = instance("a:1");
    let registered = keys.iter().map(|key| etcd.register(key, &value, long_ttl()));
    let registered = futures::future::try_join_all(registered).await.unwrap();
    let keep_all = async || {
        futures::future::try_join_all(registered.iter().map(|registration| etcd.keep_alive(registration.lease))).await
    };
    keep_all().await.unwrap();
    // One after the other, so that the one in use is among them. The leader is left alone: that one costs an election.
    for index in 0..3 {
        if index == cluster.leader().await {
            continue;
        }
        cluster.freeze(index);
        for _ in 0..5 {
            keep_all().await.unwrap();
        }
        cluster.thaw(index);
        cluster.healthy().await;
    }
}

#[tokio::test]
async fn a_lost_leader_is_survived_within_an_election() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    for frozen in [false, true] {
        let leader = cluster.leader().await;
        if frozen {
            cluster.freeze(leader)
        } else {
            cluster.kill(leader)
        }
        let began = Instant::now();
        wait_for("a life after the leader's", SOON, || async { life(&etcd, "mail/b").await.ok() }).await;
        etcd.keep_alive(lease).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(15), "an election takes about two seconds");
        if frozen {
            cluster.thaw(leader);
            cluster.healthy().await;
        } else {
            cluster.restart(leader).await;
        }
    }
}

#[tokio::test]
async fn without_a_quorum_every_call_fails_within_its_deadline_and_works_again_with_one() {
    let mut cluster = EtcdCluster::start(3).await;
    let options = EtcdOptions::at(cluster.endpoints());
    let etcd = Etcd::new(&options).unwrap();
    let registered = wait_for("a registration", SOON, || async {
        etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.ok()
    });
    let lease = registered.await.lease;
    cluster.kill(0);
    cluster.freeze(1);
    let bound = options.etcd_deadline + Duration::from_secs(5);
    for _ in 0..2 {
        let began = Instant::now();
        let error = etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.unwrap_err();
        assert!(error.is_transient() && began.elapsed() < bound, "{:?}: {error}", began.elapsed());
        let began = Instant::now();
        let error = etcd.snapshot().await.unwrap_err();
        assert!(error.is_transient() && began.elapsed() < bound, "{:?}: {error}", began.elapsed());
        let began = Instant::now();
        let kept = etcd.keep_alive(lease).await;
        assert!(began.elapsed() < bound, "{:?}", began.elapsed());
        assert!(kept.is_err_and(|error| error.is_transient()), "it is not certain that it lives on");
    }
    cluster.thaw(1);
    wait_until("a life with a quorum", SOON, || async { life(&etcd, "mail/c").await.is_ok() }).await;
    etcd.keep_alive(lease).await.unwrap();
    cluster.restart(0).await;
    wait_until("all members in the status", SOON, || async { etcd.status().await.reachable().count() == 3 }).await;
    let status = etcd.status().await;
    assert!(status.leader().is_some() && status.reachable().all(|member| !member.version.is_empty()));
}
