//! Replicas killed under a load of heartbeats, and etcd away for longer than a TTL: nobody is lost.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use discovery::Update;
use discovery_etcd::{Etcd, EtcdOptions, WatchOptions};
use futures::StreamExt as _;
use heartbeat::{Details, Heartbeat, HeartbeatOptions, RegistryUrl};
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

use crate::support::keys;

const INSTANCES: u16 = 100;

/// A registry as a process, which can be killed.
fn start(etcd: &EtcdCluster, port: u16) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.env_clear().env("REGISTRY_LISTEN", format!("127.0.0.1:{port}")).env("REGISTRY_DNS_LISTEN", "off");
    // They all come from one address.
    command.env("REGISTRY_CLIENT_RATE", "0");
    command.env("ETCD_ENDPOINTS", etcd.endpoints().join(",")).env("LOG_FORMAT", "json");
    Process::start(&mut command, &etcd.dir().join(format!("registry-{port}.log"))).unwrap()
}

/// So many instances, each with a heartbeat of its own to all registries.
async fn instances(etcd: &EtcdCluster, ports: &[u16], count: u16) -> Vec<Heartbeat> {
    let registries: Vec<RegistryUrl> =
        ports.iter().map(|port| format!("http://127.0.0.1:{port}").parse().unwrap()).collect();
    let options = HeartbeatOptions::for_registries(registries);
    let start = |port: u16| {
        let listen = ([127, 0, 0, 1], port).into();
        Heartbeat::start("web".parse().unwrap(), listen, &options, Details::default())
    };
    let all: Vec<Heartbeat> = (1..=count).map(start).collect();
    wait_until("all are registered", 3 * SOON, async || keys(etcd).len() == usize::from(count)).await;
    all
}

/// Counts the instances that disappear, as a gateway would see it.
pub(crate) fn removals(etcd: &EtcdCluster) -> Arc<AtomicUsize> {
    let client = Etcd::new(&EtcdOptions::at(etcd.endpoints())).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let into = Arc::clone(&count);
    tokio::spawn(async move {
        let mut changes = discovery_etcd::watch(client, WatchOptions::default());
        let mut known = BTreeSet::new();
        while let Some(change) = changes.next().await {
            for update in change.updates {
                match update {
                    Update::Remove(_) => _ = into.fetch_add(1, Ordering::Relaxed),
                    Update::Reset(all) => {
                        let listed: BTreeSet<_> = all.into_iter().map(|one| one.key).collect();
                        into.fetch_add(known.difference(&listed).count(), Ordering::Relaxed);
                        known = listed;
                    }
                    Update::Add(one) => _ = known.insert(one.key),
                }
            }
        }
    });
    count
}

#[tokio::test]
async fn two_of_three_replicas_are_killed_and_no_instance_is_lost() {
    let etcd = EtcdCluster::start(3).await;
    let ports = free_ports(3);
    let mut replicas: Vec<Process> = ports.iter().map(|port| start(&etcd, *port)).collect();
    let _all = instances(&etcd, &ports, INSTANCES).await;
    let removed = removals(&etcd);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for replica in &mut replicas[..2] {
        replica.kill();
        // A whole TTL and more: who does not find its way would be gone.
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    assert_eq!((keys(&etcd).len(), removed.load(Ordering::Relaxed)), (usize::from(INSTANCES), 0));
}

/// A number to try by hand.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn given<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Longer than a TTL. `MUSTER_OUTAGE_SECS=60 MUSTER_OUTAGE_INSTANCES=2000` for a long one and many by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_missing_once_etcd_is_back_from_an_outage_in_which_every_heartbeat_failed() {
    let outage = Duration::from_secs(given("MUSTER_OUTAGE_SECS").unwrap_or(7));
    let count = given("MUSTER_OUTAGE_INSTANCES").unwrap_or(INSTANCES);
    let mut etcd = EtcdCluster::start(3).await;
    let ports = free_ports(2);
    let _replicas: Vec<Process> = ports.iter().map(|port| start(&etcd, *port)).collect();
    let all = instances(&etcd, &ports, count).await;
    let removed = removals(&etcd);
    (0..3).for_each(|member| etcd.kill(member));
    tokio::time::sleep(outage).await;
    wait_until("nobody is told that it is registered", SOON, async || {
        all.iter().all(|one| !one.state().borrow().registered)
    })
    .await;
    (0..3).for_each(|member| etcd.launch(member));
    etcd.healthy().await;
    let back = Instant::now();
    wait_until("the heartbeats of every instance are taken", 2 * SOON, async || {
        all.iter().all(|one| one.state().borrow().registered)
    })
    .await;
    let taken = back.elapsed();
    wait_until("every instance is there", SOON, async || keys(&etcd).len() == usize::from(count)).await;
    let removed = removed.load(Ordering::Relaxed);
    println!("{count} instances, {outage:?} without etcd: all heartbeats taken {taken:?} after it, {removed} removed");
}
