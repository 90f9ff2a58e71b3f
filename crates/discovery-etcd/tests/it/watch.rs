use std::time::Duration;

use discovery::{Status, Update};
use discovery_etcd::{WatchOptions, watch};
use etcd_client::{Txn, TxnOp};
use futures::StreamExt;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::time::timeout;

use crate::{
    follower::Follower,
    parts::{etcd, instance, key, long_ttl, raw},
};

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_happens() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    etcd.put_override(&key("mail/b"), Status::Draining).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.has(&[("mail/a", "a:1")]).await;
    assert_eq!(follower.seen().overrides, [(key("mail/b"), Status::Draining.into())].into());
    let lease = etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.unwrap().lease;
    follower.has(&[("mail/a", "a:1"), ("mail/b", "b:1")]).await;
    etcd.update(&key("mail/b"), &instance("https://b:1"), lease).await.unwrap();
    follower.has(&[("mail/a", "a:1"), ("mail/b", "https://b:1")]).await;
    etcd.deregister(&key("mail/b"), Some(lease)).await.unwrap();
    cluster.etcdctl(&["del", "service/mail/a"]);
    follower.has(&[]).await;
    etcd.delete_override(&key("mail/b")).await.unwrap();
    wait_until("the end of the override", SOON, || async { follower.seen().overrides.is_empty() }).await;
    assert_eq!(follower.resets(), 1, "all of it came over one watch");
}

#[tokio::test]
async fn an_empty_list_is_said_too() {
    let cluster = EtcdCluster::start(1).await;
    let mut changes = watch(etcd(&cluster), WatchOptions::default());
    let first = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(first.updates, [Update::Reset(vec![])]);
    assert!(!changes.health().state().connected, "only listed so far");
}

#[tokio::test]
async fn an_instance_that_expires_is_removed() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    let ttl = Duration::from_secs(6).try_into().unwrap();
    etcd.register(&key("mail/a"), &instance("a:1"), ttl).await.unwrap();
    follower.has(&[("mail/a", "a:1")]).await;
    follower.has(&[]).await;
}

#[tokio::test]
async fn all_events_of_one_transaction_are_one_change() {
    let cluster = EtcdCluster::start(1).await;
    let follower = Follower::start(etcd(&cluster));
    let mut raw = raw(&cluster, 0).await;
    follower.is_connected().await;
    let puts = (0..100).map(|n| TxnOp::put(format!("service/mail/{n}"), "a:1", None));
    raw.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.unwrap();
    wait_until("all hundred", SOON, || async { follower.seen().instances.len() == 100 }).await;
    let seen = follower.seen();
    assert_eq!(seen.changes.last().unwrap().updates.len(), 100);
}

#[tokio::test]
async fn what_others_write_is_understood_and_invalid_values_affect_no_other_instance() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    let values = [
        ("service/userlist", "http://10.0.0.6:6060"),
        ("service/mail/a", r#"{"Op":0,"Addr":"10.0.0.5:7070","Metadata":null}"#),
        ("service/mail/b", "http://10.0.0.5:7071/?weight=2"),
        ("service/mail/nonsense", "\u{0}"),
        ("service/mail/too/deep", "a:1"),
        ("override/mail/a", "sleeping"),
        ("services/elsewhere", "a:1"),
    ];
    for (key, value) in values {
        raw.put(key, value, None).await.unwrap();
    }
    let follower = Follower::start(etcd.clone());
    let good = [
        ("mail/a", "10.0.0.5:7070"),
        ("mail/b", "http://10.0.0.5:7071?weight=2"),
        ("userlist", "http://10.0.0.6:6060"),
    ];
    let good =
        good.map(|(path, value)| (path, value.strip_prefix("http://10.0.0.6").map_or(value, |_| "10.0.0.6:6060")));
    follower.has(&good).await;
    let unreadable = |seen: &crate::follower::Seen| {
        let all = seen.changes.iter().flat_map(|change| &change.unreadable);
        all.map(|unreadable| unreadable.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(unreadable(&follower.seen()), ["service/mail/nonsense", "service/mail/too/deep", "override/mail/a"]);
    assert_eq!(follower.health.state().unreadable, 3);
    follower.is_connected().await;
    raw.put("service/mail/a", "nonsense", None).await.unwrap();
    follower.has(&good[1..]).await;
    raw.put("service/mail/a", "10.0.0.5:7070", None).await.unwrap();
    raw.delete("service/mail/nonsense", None).await.unwrap();
    follower.has(&good).await;
    wait_until("two unreadable ones", SOON, || async { follower.health.state().unreadable == 2 }).await;
    assert_eq!(unreadable(&follower.seen()).len(), 4, "each is said once");
}

#[tokio::test]
async fn a_list_and_a_transaction_beyond_four_mebibytes_are_taken() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    let filler = "x".repeat(250);
    let meta: Vec<String> = (0..32).map(|n| format!("meta.{n}={filler}")).collect();
    let value = format!("http://a:1?{}", meta.join("&"));
    for batch in 0..6 {
        let puts = (0..100).map(|n| TxnOp::put(format!("service/mail/{batch}-{n}"), value.as_str(), None));
        raw.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.unwrap();
    }
    let follower = Follower::start(etcd.clone());
    wait_until("all six hundred", SOON, || async { follower.seen().instances.len() == 600 }).await;
    follower.is_connected().await;
    // One deletion of everything is one revision, and one response.
    let range = etcd_client::DeleteOptions::new().with_prefix();
    raw.delete("service/", Some(range)).await.unwrap();
    follower.has(&[]).await;
    assert_eq!(follower.resets(), 1);
}

#[tokio::test]
async fn a_quiet_watch_is_known_to_be_alive() {
    let cluster = EtcdCluster::start(1).await;
    let options = WatchOptions { silence_limit: Duration::from_secs(10), ..WatchOptions::default() };
    let follower = Follower::with(etcd(&cluster), options);
    follower.is_connected().await;
    let connected_at = follower.health.state().last_response.unwrap();
    wait_until("three seconds of signs of life", SOON, || async {
        follower.health.state().last_response.unwrap() > connected_at + Duration::from_secs(3)
    })
    .await;
    let state = follower.health.state();
    assert_eq!(state.resyncs.values().sum::<u64>(), 1, "the first list only: {state:?}");
    assert_eq!(follower.seen().changes.len(), 1);
}

#[tokio::test]
async fn under_constant_change_the_comparison_with_a_list_finds_nothing() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    let options = WatchOptions {
        progress_interval: Duration::from_millis(50),
        reconcile_interval: Duration::from_millis(50),
        ..WatchOptions::default()
    };
    let follower = Follower::with(etcd.clone(), options);
    follower.is_connected().await;
    let mut round = 0_u16;
    while follower.health.state().comparisons < 10 {
        round += 1;
        assert!(round < 60_000, "ten comparisons take a few seconds: {:?}", follower.health.state());
        let key = format!("service/mail/{}", round % 7);
        match round % 3 {
            0 => drop(raw.delete(key, None).await.unwrap()),
            _ => drop(raw.put(key, format!("a:{round}"), None).await.unwrap()),
        }
    }
    let state = follower.health.state();
    assert_eq!((state.differences, follower.resets()), (0, 1), "{state:?}");
    follower.agrees_with(&etcd).await;
}

#[tokio::test]
async fn policies_are_told_as_they_were_written() {
    let cluster = EtcdCluster::start(1).await;
    cluster.etcdctl(&["put", "config/mail", "{}"]);
    cluster.etcdctl(&["put", "config/mail/smtp", "free words"]);
    let follower = Follower::start(etcd(&cluster));
    follower.is_connected().await;
    let mail = || "mail".parse::<discovery::ServiceName>().unwrap();
    assert_eq!(follower.seen().policies, [(mail(), "{}".to_owned())].into());
    cluster.etcdctl(&["put", "config/mail", "nonsense"]);
    let is = |text: Option<&'static str>| {
        let seen = follower.seen().policies.get(&mail()).cloned();
        async move { seen.as_deref() == text }
    };
    wait_until("the new words", SOON, || is(Some("nonsense"))).await;
    cluster.etcdctl(&["del", "config/mail"]);
    wait_until("none", SOON, || is(None)).await;
    assert_eq!(follower.health.state().unreadable, 0, "a policy is read by what uses it");
}

#[tokio::test]
async fn the_revision_never_runs_ahead_of_what_was_told() {
    let cluster = EtcdCluster::start(1).await;
    let follower = Follower::start(etcd(&cluster));
    follower.is_connected().await;
    let mut raw = raw(&cluster, 0).await;
    for n in 0..300 {
        // Every other write is about us.
        raw.put(format!("other/{n}"), "x", None).await.unwrap();
        raw.put(format!("service/mail/{}", n % 7), format!("a:{}", n + 1), None).await.unwrap();
        let told = follower.health.state().revision;
        // What the follower has by now was told before; a key modified up to `told` must be as it was then, or newer.
        let now = etcd(&cluster).snapshot().await.unwrap();
        let seen = follower.seen();
        let missing = now.instances.iter().find(|one| {
            one.modified <= told && seen.instances.get(&one.key).is_none_or(|has| has.modified < one.modified)
        });
        assert_eq!(missing, None, "told up to {told}");
    }
}
