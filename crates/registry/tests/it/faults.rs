//! Members die, freeze and come back while instances heartbeat: no success is ever false, and no lease is left behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use discovery_etcd::{Etcd, EtcdOptions};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for_eq, wait_until},
};
use tokio::task::JoinSet;

use crate::support::{Registry, keys, leases};

/// Long enough that nothing expires here for any other reason than a fault.
const BODY: &str = r#"{"address":"10.0.0.5:7070","ttl_ms":45000}"#;
const INSTANCES: usize = 12;

/// What the instances have seen.
#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    refused: AtomicUsize,
    proven: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_success_is_false_while_members_die_freeze_and_come_back() {
    let mut etcd = EtcdCluster::start(3).await;
    let replicas = Arc::new([Registry::start(&etcd).await, Registry::start(&etcd).await]);
    let seen = Arc::new(Seen::default());
    let over = Arc::new(AtomicBool::new(false));
    let mut instances = JoinSet::new();
    for instance in 0..INSTANCES {
        let witness = Etcd::new(&EtcdOptions::at(etcd.endpoints())).unwrap();
        instances.spawn(live(instance, Arc::clone(&replicas), witness, Arc::clone(&seen), Arc::clone(&over)));
    }
    for round in 0..3 {
        let leader = etcd.leader().await;
        let victim = if round == 1 { (leader + 1) % 3 } else { leader };
        match round {
            0 => etcd.kill(victim),
            _ => etcd.freeze(victim),
        }
        let before = seen.accepted.load(Ordering::Relaxed);
        wait_until("heartbeats are accepted again", SOON, async || {
            seen.accepted.load(Ordering::Relaxed) > before + 3 * INSTANCES
        })
        .await;
        match round {
            0 => etcd.restart(victim).await,
            _ => etcd.thaw(victim),
        }
        etcd.healthy().await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = instances.join_next().await {
        ended.expect("an instance saw a success that was none");
    }
    let seen = [&seen.accepted, &seen.refused, &seen.proven].map(|count| count.load(Ordering::Relaxed));
    println!("accepted, refused, proven: {seen:?}");
    assert!(seen[2] > 10 * INSTANCES, "{seen:?}");
    assert_eq!(keys(&etcd).len(), INSTANCES);
    // A grant whose answer was lost leaves a lease that ends with its TTL.
    let longest = Duration::from_secs(60);
    wait_for_eq("the number of leases", longest, INSTANCES, async || leases(&etcd).len()).await;
}

/// Heartbeats at both replicas in turn; after every success, asks etcd itself.
async fn live(instance: usize, replicas: Arc<[Registry; 2]>, witness: Etcd, seen: Arc<Seen>, over: Arc<AtomicBool>) {
    let path = format!("mail/{instance}");
    let key = format!("service/{path}").parse().unwrap();
    let mut round = instance;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let answer = replicas[round % 2].heartbeat(&path, BODY).await;
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "{:?}", answer.body);
            seen.refused.fetch_add(1, Ordering::Relaxed);
            // As the body says: try again, here at the other replica.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        seen.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(held) = witness.find(&key).await {
            let held = held.unwrap_or_else(|| panic!("{key} was accepted and is not there: {:?}", answer.body));
            assert!(held.lease.is_some());
            seen.proven.fetch_add(1, Ordering::Relaxed);
        }
    }
}
