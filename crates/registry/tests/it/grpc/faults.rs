//! Members of etcd die, stand still and are full, answers are lost: over streams of heartbeats and a watch, as over
//! HTTP.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use muster_proto::v1::{DeregisterRequest, Heartbeat, Removed, WatchReply};
use testkit::{
    chaos_proxy::ChaosProxy,
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Beats, Client, heartbeat, next, reason};
use crate::{
    full::small_etcd,
    support::{Registry, keys, leases},
};

const INSTANCES: usize = 8;

/// Of the id that says another version each time.
const CHANGING: &str = "0";

/// Instances that send heartbeats, each over a stream of its own, which is opened again when it ends.
#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    over: AtomicBool,
}

/// What a watch has told, and that nothing of it came twice.
#[derive(Default)]
struct Told {
    /// Revision and version by id.
    known: BTreeMap<String, (i64, String)>,
    removed: Vec<Removed>,
}

impl Told {
    fn take(&mut self, reply: WatchReply) {
        assert!(!reply.reset || self.known.is_empty(), "it was told everything already: {reply:?}");
        for one in reply.changed {
            let version = one.instance.unwrap_or_default().version;
            let before = self.known.insert(one.id.clone(), (one.modified_revision, version));
            assert!(before.is_none_or(|(revision, _)| revision < one.modified_revision), "{} came twice", one.id);
        }
        self.removed.extend(reply.removed);
    }
}

fn is_temporary(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled)
}

/// Sends heartbeats of one life until it is over.
async fn live(id: usize, clients: Arc<[Client; 2]>, seen: Arc<Seen>) {
    let begin = format!("new:{id:0>15}1");
    let mut said = Heartbeat { ttl_ms: 45_000, ..heartbeat(&format!("mail/{id}"), &begin) };
    let mut stream: Option<Beats> = None;
    let mut round = id;
    while !seen.over.load(Ordering::Relaxed) {
        round += 1;
        if id.to_string() == CHANGING {
            said.instance.as_mut().unwrap().version = round.to_string();
        }
        let mut beats = match stream.take() {
            Some(beats) => beats,
            None => clients[round % 2].register().await.unwrap(),
        };
        match beats.say(said.clone()).await {
            Ok(reply) => {
                assert_eq!(format!("new:{}", reply.incarnation), begin, "one life");
                said.incarnation = reply.incarnation;
                seen.accepted.fetch_add(1, Ordering::Relaxed);
                stream = Some(beats);
            }
            Err(status) => assert!(is_temporary(&status), "{status:?}"),
        }
        // The pace of an instance that is in a hurry.
        sleep(Duration::from_millis(50)).await;
    }
}

/// Follows `mail` over one stream until all that is listed was told.
fn follow(mut watch: Streaming<WatchReply>, mut wanted: tokio::sync::watch::Receiver<i64>) -> JoinHandle<Told> {
    tokio::spawn(async move {
        let mut told = Told::default();
        let mut index = 0;
        while index < *wanted.borrow() {
            tokio::select! {
                reply = next(&mut watch) => {
                    let reply = reply.unwrap();
                    index = index.max(reply.index);
                    told.take(reply);
                }
                changed = wanted.changed() => changed.unwrap(),
            }
        }
        told
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_etcds_leader_dies_or_stands_still_no_instance_goes_and_a_watch_tells_everything_once() {
    let mut etcd = EtcdCluster::start(3).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let clients = Arc::new([Client::of(&replicas[0]).await, Client::of(&replicas[1]).await]);
    let seen = Arc::new(Seen::default());
    let mut instances = JoinSet::new();
    for id in 0..INSTANCES {
        instances.spawn(live(id, Arc::clone(&clients), Arc::clone(&seen)));
    }
    let all = async || clients[0].list("mail").await.is_ok_and(|listed| listed.len() == INSTANCES);
    wait_until("all are registered", SOON, all).await;
    let (end, wanted) = tokio::sync::watch::channel(i64::MAX);
    let following = follow(clients[0].watch("mail", 0).await.unwrap(), wanted);
    for is_killed in [true, false] {
        let leader = etcd.leader().await;
        match is_killed {
            true => etcd.kill(leader),
            false => etcd.freeze(leader),
        }
        let before = seen.accepted.load(Ordering::Relaxed);
        wait_until("heartbeats are accepted again", SOON, async || {
            seen.accepted.load(Ordering::Relaxed) > before + 3 * INSTANCES
        })
        .await;
        match is_killed {
            true => etcd.restart(leader).await,
            false => etcd.thaw(leader),
        }
        etcd.healthy().await;
    }
    seen.over.store(true, Ordering::Relaxed);
    while let Some(ended) = instances.join_next().await {
        ended.expect("an instance has seen what it must not");
    }
    // One more, so that there is an index to wait for.
    clients[1].beat(heartbeat("mail/last", "new")).await.unwrap();
    replicas[0].wait_for_instance("mail", "last", true).await;
    let listed = clients[0].list("mail").await.unwrap();
    end.send_replace(listed.iter().map(|one| one.modified_revision).max().unwrap());
    let told = following.await.expect("nothing comes twice, and the stream lasts");
    let list = listed.into_iter().map(|one| {
        let version = one.instance.unwrap_or_default().version;
        (one.id, (one.modified_revision, version))
    });
    assert_eq!(told.known, list.collect(), "nothing is lost");
    assert_eq!(told.removed, []);
    assert_eq!(keys(&etcd).len(), INSTANCES + 1);
}

#[tokio::test]
async fn a_full_etcd_registers_nothing_more_keeps_who_is_there_and_lets_them_leave() {
    let etcd = small_etcd().await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let life = client.beat(heartbeat("mail/a", "new")).await.unwrap().incarnation;
    registry.wait_for_instance("mail", "a", true).await;
    etcd.fill();
    let refused = client.register().await.unwrap().say(heartbeat("mail/new", "")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "etcd_refused"));
    assert!(refused.message().contains("database space exceeded"), "{refused:?}");
    assert!(refused.get_details_retry_info().is_some() && refused.get_details_request_info().is_some());

    let mut beats = client.register().await.unwrap();
    for _ in 0..3 {
        assert_eq!(beats.say(heartbeat("mail/a", &life)).await.unwrap().incarnation, life);
    }
    let mut changed = heartbeat("mail/a", &life);
    changed.instance.as_mut().unwrap().version = "2".to_owned();
    let status = beats.say(changed).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["holds_ms"].as_str()), ("etcd_refused", "60000"), "it lives on");

    let leave = DeregisterRequest { service: "mail".to_owned(), id: "a".to_owned(), incarnation: life };
    client.calls.clone().deregister(leave).await.unwrap();
    assert!(keys(&etcd).iter().all(|key| key != "service/mail/a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_whose_answer_is_lost_and_that_is_said_again_is_one_life() {
    const LIFE: &str = "4f2a90c1d3e5b677";
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut proxy = ChaosProxy::start(registry.url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    let client = Client::at(&format!("http://{}", proxy.address())).await;
    let begin = heartbeat("mail/a", &format!("new:{LIFE}"));
    let mut beats = client.register().await.unwrap();
    proxy.delay(Duration::from_secs(2));
    let said = begin.clone();
    let first = tokio::spawn(async move { beats.say(said).await });
    wait_until("it is committed", SOON, async || leases(&etcd) == [LIFE] && keys(&etcd) == ["service/mail/a"]).await;
    assert!(!first.is_finished(), "the answer is on its way");
    proxy.reset().await;
    assert!(first.await.unwrap().is_err(), "and is lost");

    let again = Client::of(&registry).await.beat(begin).await.unwrap();
    assert_eq!(again.incarnation, LIFE);
    let listed = Client::of(&registry).await.list("mail").await.unwrap();
    assert_eq!((listed[0].created_revision, listed[0].modified_revision), (again.revision, again.revision));
    assert_eq!((leases(&etcd), keys(&etcd)), (vec![LIFE.to_owned()], vec!["service/mail/a".to_owned()]));
}
