//! Replicas killed under a load of heartbeats, and etcd away for longer than a TTL: nobody is lost.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
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
    command.env("ETCD_ENDPOINTS", etcd.endpoints().join(",")).env("LOG_FORMAT", "json");
    Process::start(&mut command, &etcd.dir().join(format!("registry-{port}.log"))).unwrap()
}

/// A hundred instances, each with a heartbeat of its own to all registries.
async fn instances(etcd: &EtcdCluster, ports: &[u16]) -> Vec<Heartbeat> {
    let registries: Vec<RegistryUrl> =
        ports.iter().map(|port| format!("http://127.0.0.1:{port}").parse().unwrap()).collect();
    let options = HeartbeatOptions::for_registries(registries);
    let start = |port: u16| {
        let listen = ([127, 0, 0, 1], port).into();
        Heartbeat::start("web".parse().unwrap(), listen, &options, Details::default())
    };
    let all: Vec<Heartbeat> = (1..=INSTANCES).map(start).collect();
    wait_until("all are registered", SOON, async || keys(etcd).len() == usize::from(INSTANCES)).await;
    all
}

/// Counts the instances that disappear, as a gateway would see it.
fn removals(etcd: &EtcdCluster) -> Arc<AtomicUsize> {
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
    let _all = instances(&etcd, &ports).await;
    let removed = removals(&etcd);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for replica in &mut replicas[..2] {
        replica.kill();
        // A whole TTL and more: who does not find its way would be gone.
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    assert_eq!((keys(&etcd).len(), removed.load(Ordering::Relaxed)), (usize::from(INSTANCES), 0));
}

/// How long etcd is away: longer than a TTL. `MUSTER_OUTAGE_SECS=60` for a long one by hand.
#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn outage() -> Duration {
    let secs = std::env::var("MUSTER_OUTAGE_SECS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(secs.unwrap_or(7))
}

#[tokio::test]
async fn nobody_is_missing_once_etcd_is_back_from_an_outage_in_which_every_heartbeat_failed() {
    let mut etcd = EtcdCluster::start(3).await;
    let ports = free_ports(2);
    let _replicas: Vec<Process> = ports.iter().map(|port| start(&etcd, *port)).collect();
    let all = instances(&etcd, &ports).await;
    (0..3).for_each(|member| etcd.kill(member));
    tokio::time::sleep(outage()).await;
    (0..3).for_each(|member| etcd.launch(member));
    etcd.healthy().await;
    wait_until("every instance is there and its heartbeats are taken", SOON, async || {
        keys(&etcd).len() == usize::from(INSTANCES) && all.iter().all(|one| one.state().borrow().registered)
    })
    .await;
}
