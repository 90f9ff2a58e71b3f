//! The end of a registration that is as it was seen: what others get to see of it.

use std::time::Duration;

use discovery::{
    Revision,
    dialect::{Dialect, Dialects},
};
use discovery_etcd::{Etcd, EtcdOptions, Held};
use etcd_client::{EventType, WatchOptions};
use testkit::{
    chaos_proxy::ChaosProxy,
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::time::timeout;

use crate::parts::{etcd, instance, key, long_ttl, no_lease_is_left, raw};

/// Registers an instance; how it is held then.
async fn registered(etcd: &Etcd, path: &str, value: &str) -> Held {
    etcd.register(&key(path), &instance(value), long_ttl()).await.unwrap();
    etcd.find(&key(path)).await.unwrap().expect("it is registered")
}

/// The first `count` changes of a key after `held`: values, and `None` for its deletion.
async fn changes(cluster: &EtcdCluster, path: &str, held: &Held, count: usize) -> Vec<Option<String>> {
    let mut raw = raw(cluster, 0).await;
    let after = WatchOptions::new().with_start_revision(held.modified.0 + 1);
    let mut watch = raw.watch(key(path).key(), Some(after)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < count {
        let response = timeout(SOON, watch.message()).await.expect("the change comes").unwrap().unwrap();
        seen.extend(response.events().iter().map(|event| {
            let value = event.kv().map(|kv| String::from_utf8_lossy(kv.value()).into_owned());
            value.filter(|_| event.event_type() == EventType::Put)
        }));
    }
    seen
}

#[tokio::test]
async fn watchers_see_the_farewell_and_then_the_deletion_and_no_lease_stays() {
    let cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    for round in 0..20 {
        let path = format!("mail/{round}");
        let seen = registered(&etcd, &path, "http://a:1?degraded=x").await;
        let gone_at = etcd.leave_if_seen(&key(&path), &seen).await.unwrap().expect("it is as it was seen");
        assert!(gone_at > seen.modified);
        let farewell = instance("http://a:1?status=draining").to_string();
        assert_eq!(changes(&cluster, &path, &seen, 2).await, [Some(farewell), None]);
    }
    let raw = raw(&cluster, 0).await;
    no_lease_is_left(&raw).await;
}

#[tokio::test]
async fn one_that_says_draining_already_is_deleted_without_another_word() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let seen = registered(&etcd, "mail/a", "http://a:1?status=draining").await;
    etcd.leave_if_seen(&key("mail/a"), &seen).await.unwrap().expect("it is as it was seen");
    assert_eq!(changes(&cluster, "mail/a", &seen, 1).await, [None]);
}

#[tokio::test]
async fn what_has_been_written_since_it_was_seen_is_not_touched() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let seen = registered(&etcd, "mail/a", "a:1").await;
    etcd.update(&key("mail/a"), &instance("a:2"), seen.lease.unwrap()).await.unwrap();
    assert_eq!(etcd.leave_if_seen(&key("mail/a"), &seen).await.unwrap(), None);
    assert_eq!(etcd.find(&key("mail/a")).await.unwrap().unwrap().instance, Some(instance("a:2")));
    let draining = Held { instance: Some(instance("http://a:1?status=draining")), ..seen };
    assert_eq!(etcd.leave_if_seen(&key("mail/a"), &draining).await.unwrap(), None);
    assert!(etcd.find(&key("mail/a")).await.unwrap().is_some());
}

/// Lets the answers of a leave be lost, behind what etcd did, and another member asked: when it was gone, and how it was
/// held before.
async fn left_with_lost_answers(value: &str) -> (Option<Revision>, Held) {
    let cluster = EtcdCluster::start(1).await;
    let member = cluster.endpoint(0).strip_prefix("http://").unwrap().parse().unwrap();
    let mut ways = [ChaosProxy::start(member).await, ChaosProxy::start(member).await];
    let options = EtcdOptions {
        etcd_timeout: SOON,
        etcd_deadline: 2 * SOON,
        ..EtcdOptions::at(ways.iter().map(|way| format!("http://{}", way.address())))
    };
    let etcd = Etcd::new(&options).unwrap();
    let seen = registered(&etcd, "mail/a", value).await;
    let used = ways.iter_mut().find(|way| way.connections_accepted() > 0).expect("one of the two is asked");
    used.delay(Duration::from_secs(1));
    let leaving = tokio::spawn({
        let (etcd, seen) = (etcd.clone(), seen.clone());
        async move { etcd.leave_if_seen(&key("mail/a"), &seen).await }
    });
    let raw = raw(&cluster, 0).await;
    wait_until("it is gone", SOON, || {
        let mut raw = raw.clone();
        async move { raw.get(key("mail/a").key(), None).await.unwrap().kvs().is_empty() }
    })
    .await;
    assert!(!leaving.is_finished(), "the answers are on their way");
    used.reset().await;
    let gone_at = leaving.await.unwrap().unwrap();
    no_lease_is_left(&raw).await;
    (gone_at, seen)
}

#[tokio::test]
async fn one_whose_answers_are_lost_has_left_nevertheless() {
    for value in ["a:1", "http://a:1?status=draining"] {
        let (gone_at, seen) = left_with_lost_answers(value).await;
        let gone_at = gone_at.unwrap_or_else(|| panic!("{value} has left"));
        assert!(gone_at > seen.modified, "{value}: {gone_at} is not behind its deletion");
    }
}

#[tokio::test]
async fn a_life_that_is_over_already_has_left() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let seen = registered(&etcd, "mail/a", "a:1").await;
    raw(&cluster, 0).await.lease_revoke(seen.lease.unwrap().0).await.unwrap();
    let gone_at = etcd.leave_if_seen(&key("mail/a"), &seen).await.unwrap().expect("it is gone");
    assert!(gone_at > seen.modified);
}

#[tokio::test]
async fn its_views_in_other_dialects_go_with_it() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster).with_dialects(Dialects::from([Dialect::Grpc]));
    let seen = registered(&etcd, "mail/a", "a:1").await;
    let mut raw = raw(&cluster, 0).await;
    let mut count =
        async || raw.get("", Some(etcd_client::GetOptions::new().with_all_keys())).await.unwrap().kvs().len();
    assert_eq!(count().await, 2);
    etcd.leave_if_seen(&key("mail/a"), &seen).await.unwrap().expect("it is as it was seen");
    assert_eq!(count().await, 0);
}
