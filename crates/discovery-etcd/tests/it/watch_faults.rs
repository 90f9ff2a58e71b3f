//! Everything that can happen to a watch.

use std::time::Duration;

use discovery::{Revision, Status, Update};
use discovery_etcd::{Etcd, EtcdOptions, ResyncCause, WatchOptions, watch};
use futures::StreamExt;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for, wait_until},
};
use tokio::time::{Instant, timeout};

use crate::{
    follower::Follower,
    parts::{etcd, instance, key, long_ttl, raw},
};

#[tokio::test]
async fn watch_compaction_leads_to_reset_not_to_loss() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut raw = raw(&cluster, 0).await;
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    let mut changes = watch(etcd.clone(), WatchOptions::default());
    let health = changes.health();
    let first = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!(first.cause, Some(ResyncCause::Started));
    // It has listed and not yet opened its watch: what happens now is compacted away before it does.
    etcd.deregister(&key("mail/a"), None).await.unwrap();
    let last = etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.unwrap().revision;
    raw.compact(last.0, None).await.unwrap();
    let second = timeout(SOON, changes.next()).await.unwrap().unwrap();
    assert_eq!((second.cause, second.revision), (Some(ResyncCause::Compacted), last));
    let [Update::Reset(all)] = second.updates.as_slice() else { panic!("{second:?}") };
    assert_eq!(all.iter().map(|registered| &registered.key).collect::<Vec<_>>(), [&key("mail/b")]);
    assert_eq!(health.state().resyncs(ResyncCause::Compacted), 1);
}

#[tokio::test]
async fn a_watch_that_starts_before_etcd_has_its_list_when_etcd_comes() {
    let mut cluster = EtcdCluster::start(1).await;
    cluster.kill(0);
    let etcd = etcd(&cluster);
    let follower = Follower::start(etcd.clone());
    wait_until("an error to show", SOON, || async { follower.health.state().last_error.is_some() }).await;
    assert!(follower.seen().changes.is_empty(), "not knowing is not the same as nothing being there");
    assert_eq!(follower.health.lag(Instant::now()), None);
    cluster.restart(0).await;
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    follower.has(&[("mail/a", "a:1")]).await;
    follower.is_connected().await;
    assert_eq!(follower.health.state().last_error, None);
}

#[tokio::test]
async fn a_closed_stream_loses_nothing_and_identical_data_changes_nothing() {
    let mut cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    cluster.kill(0);
    wait_until("the loss to be noticed", SOON, || async { !follower.health.state().connected }).await;
    assert_eq!(follower.seen().table(), ["service/mail/a a:1"], "what is known stays");
    cluster.restart(0).await;
    follower.resynced(ResyncCause::Closed).await;
    follower.is_connected().await;
    assert_eq!(follower.seen().changes.len(), 1, "nothing has changed");
    etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.unwrap();
    follower.has(&[("mail/a", "a:1"), ("mail/b", "b:1")]).await;
    assert_eq!(follower.resets(), 1);
}

#[tokio::test]
async fn members_that_are_killed_one_after_the_other_lose_no_change() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    // One of them is the watched one, and one is the leader.
    for index in 0..3 {
        cluster.kill(index);
        let key = key(&format!("mail/{index}"));
        let value = instance(&format!("a:{}", index + 1));
        wait_for("a registration", SOON, || async { etcd.register(&key, &value, long_ttl()).await.ok() }).await;
        follower.agrees_with(&etcd).await;
        cluster.restart(index).await;
    }
    assert_eq!(follower.seen().instances.len(), 3);
    follower.resynced(ResyncCause::Closed).await;
    assert_eq!(follower.health.state().differences, 0);
}

#[tokio::test]
async fn a_member_that_freezes_under_the_watch_is_left_for_another() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    for index in 0..3 {
        cluster.freeze(index);
        let key = key(&format!("mail/{index}"));
        wait_for("a registration", SOON, || async { etcd.register(&key, &instance("a:1"), long_ttl()).await.ok() })
            .await;
        follower.agrees_with(&etcd).await;
        cluster.thaw(index);
        cluster.healthy().await;
    }
    follower.resynced(ResyncCause::Silent).await;
    assert_eq!(follower.seen().instances.len(), 3);
}

#[tokio::test]
async fn a_silent_watch_is_noticed_and_what_was_known_stays() {
    let mut cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    cluster.freeze(0);
    let frozen_at = Instant::now();
    wait_until("the silence to be noticed", SOON, || async { !follower.health.state().connected }).await;
    assert!(frozen_at.elapsed() < Duration::from_secs(8), "two seconds, on a quiet machine");
    wait_until("the age to show", SOON, || async {
        follower.health.lag(Instant::now()).is_some_and(|lag| lag > Duration::from_secs(3))
    })
    .await;
    assert_eq!(follower.seen().table(), ["service/mail/a a:1"]);
    cluster.thaw(0);
    follower.is_connected().await;
    assert_eq!(follower.seen().changes.len(), 1, "nothing has changed");
}

#[tokio::test]
async fn without_a_quorum_nothing_is_forgotten_and_with_one_nothing_was_missed() {
    let mut cluster = EtcdCluster::start(3).await;
    let etcd = etcd(&cluster);
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    cluster.kill(0);
    cluster.kill(1);
    // A watch on the member that is left stays open; only that it needs a leader makes etcd end it.
    wait_until("the loss to be noticed", SOON, || async { !follower.health.state().connected }).await;
    assert_eq!(follower.seen().table(), ["service/mail/a a:1"]);
    cluster.launch(0);
    cluster.launch(1);
    cluster.healthy().await;
    let registered = || async { etcd.register(&key("mail/b"), &instance("b:1"), long_ttl()).await.ok() };
    wait_for("a registration", SOON, registered).await;
    follower.has(&[("mail/a", "a:1"), ("mail/b", "b:1")]).await;
    follower.is_connected().await;
}

#[tokio::test]
async fn a_wiped_cluster_leads_to_reset_not_to_a_watch_that_is_silent_for_ever() {
    let mut cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    let mut before = Revision::default();
    for n in 0..5 {
        let registration = etcd.register(&key(&format!("mail/{n}")), &instance("a:1"), long_ttl()).await.unwrap();
        before = registration.revision;
    }
    etcd.put_override(&key("mail/0"), Status::Draining).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    cluster.wipe().await;
    follower.has(&[]).await;
    let seen = follower.seen();
    let last = seen.changes.last().unwrap();
    assert_eq!((last.cause, seen.overrides.len()), (Some(ResyncCause::Wiped), 0));
    assert!(last.revision < before, "the history went backwards");
    etcd.register(&key("mail/new"), &instance("a:1"), long_ttl()).await.unwrap();
    follower.has(&[("mail/new", "a:1")]).await;
}

#[tokio::test]
async fn a_wiped_cluster_that_has_outgrown_the_old_one_is_listed_anew_all_the_same() {
    let mut cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    etcd.register(&key("mail/old"), &instance("a:1"), long_ttl()).await.unwrap();
    let follower = Follower::start(etcd.clone());
    follower.is_connected().await;
    // Frozen, it does not see the new cluster grow; the watch finds it further on than where it left the old one.
    cluster.freeze(0);
    wait_until("the silence to be noticed", SOON, || async { !follower.health.state().connected }).await;
    cluster.wipe().await;
    let mut raw = raw(&cluster, 0).await;
    for n in 0..20 {
        raw.put("service/mail/new", format!("a:{}", n + 1), None).await.unwrap();
    }
    follower.has(&[("mail/new", "a:20")]).await;
}

#[tokio::test]
async fn a_history_full_of_faults_ends_in_agreement() {
    let mut cluster = EtcdCluster::start(3).await;
    let options = EtcdOptions { etcd_timeout: Duration::from_secs(1), ..EtcdOptions::at(cluster.endpoints()) };
    let etcd = Etcd::new(&EtcdOptions { etcd_deadline: Duration::from_secs(3), ..options }).unwrap();
    let fast = WatchOptions {
        progress_interval: Duration::from_millis(300),
        silence_limit: Duration::from_millis(900),
        reconcile_interval: Duration::from_secs(1),
        retry_max: Duration::from_millis(500),
    };
    let followers = [Follower::with(etcd.clone(), fast), Follower::with(etcd.clone(), fast)];
    for round in 0..9_usize {
        let member = round % 3;
        match round % 4 {
            0 => cluster.freeze(member),
            1 => cluster.kill(member),
            2 => cluster.stop(member),
            _ => {}
        }
        for n in 0..5 {
            let key = key(&format!("mail/{}", (round + n) % 8));
            // Whether it succeeds under the fault is not the question here.
            let _ = if n % 3 == 2 {
                etcd.deregister(&key, None).await.map(drop)
            } else {
                etcd.register(&key, &instance(&format!("a:{}", round + 1)), long_ttl()).await.map(drop)
            };
        }
        match round % 4 {
            0 => cluster.thaw(member),
            1 | 2 => cluster.restart(member).await,
            _ => {}
        }
        cluster.healthy().await;
    }
    for follower in &followers {
        follower.is_connected().await;
        follower.agrees_with(&etcd).await;
        assert_eq!(follower.health.state().differences, 0, "the watch alone lost nothing");
    }
}

#[tokio::test]
async fn a_watch_on_which_nothing_happens_is_not_taken_for_a_silent_one() {
    let cluster = EtcdCluster::start(1).await;
    let etcd = etcd(&cluster);
    // Nothing is written after the list. From 3.5.22 on etcd answers no progress request for a watch that starts in the
    // future (its pull request 20245), so ours must not.
    let options = WatchOptions {
        progress_interval: Duration::from_millis(100),
        silence_limit: Duration::from_secs(10),
        ..WatchOptions::default()
    };
    let mut changes = watch(etcd, options);
    let health = changes.health();
    changes.next().await;
    let mut signs_of_life = Vec::new();
    let listening = async {
        while signs_of_life.len() < 10 {
            let _ = timeout(Duration::from_millis(50), changes.next()).await;
            let last = health.state().last_response;
            if signs_of_life.last() != Some(&last) {
                signs_of_life.push(last);
            }
        }
    };
    timeout(SOON, listening).await.expect("etcd answers ten progress requests soon");
    assert_eq!(health.state().resyncs(ResyncCause::Silent), 0, "{:?}", health.state());
}
