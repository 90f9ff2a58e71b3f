//! Three registries with one table: exactly one checks each instance, and when it dies or stands still another one does.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_for, wait_until},
};
use tokio::net::TcpListener;

use crate::tables::{ServicesFile, listening, quick, wait_until_kept};

/// What the table promises.
const MOVED_WITHIN: Duration = Duration::from_secs(5);
const INSTANCES: usize = 12;

/// A registry as a process.
struct Member {
    process: Process,
    listen: String,
}

/// Three of them, and what they check.
struct Fleet {
    etcd: EtcdCluster,
    members: Vec<Member>,
    _file: ServicesFile,
    http: reqwest::Client,
    /// What the last instance is, for a test that ends it.
    doomed: Option<TcpListener>,
    _listener: TcpListener,
}

/// How an instance is registered: revision of its creation, and lease.
type Lives = BTreeMap<String, (Value, Value)>;

impl Fleet {
    async fn start() -> Self {
        let (listener, address) = listening().await;
        let (doomed, doomed_address) = listening().await;
        let entry = |id: usize| {
            let address = if id == 0 { &doomed_address } else { &address };
            json!({ "service": "web", "id": id.to_string(), "address": address, "checks": [quick("tcp", &json!({}))] })
        };
        let file = ServicesFile::new(&(0..INSTANCES).map(entry).collect());
        let etcd = EtcdCluster::start(1).await;
        let members = free_ports(3).into_iter().map(|port| Member::start(&etcd, port, &file)).collect();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        let fleet = Self { etcd, members, _file: file, http, doomed: Some(doomed), _listener: listener };
        let all = [0, 1, 2];
        wait_until("each knows the three", 3 * SOON, async || fleet.agree(&all).await).await;
        wait_until("all are registered", SOON, async || fleet.lives(0).await.len() == INSTANCES).await;
        fleet
    }

    async fn get(&self, member: usize, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.members[member].listen);
        let answer = self.http.get(url).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// Which registry checks each instance, as one of them knows it.
    async fn checkers(&self, member: usize) -> BTreeMap<String, String> {
        let table = self.get(member, "/v1/table").await.unwrap_or_default();
        let instances = table["instances"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        instances.iter().map(|one| (text(&one["id"]), text(&one["checked_by"]))).collect()
    }

    /// Whether these registries know of each other and of no more, and agree on which checks what.
    async fn agree(&self, members: &[usize]) -> bool {
        let first = self.checkers(members[0]).await;
        let listens: Vec<&String> = members.iter().map(|member| &self.members[*member].listen).collect();
        for member in members {
            let table = self.get(*member, "/v1/table").await.unwrap_or_default();
            let known = table["registries"].as_array().map_or(0, Vec::len);
            if known != members.len() || self.checkers(*member).await != first {
                return false;
            }
        }
        first.len() == INSTANCES && first.values().all(|checker| listens.contains(&checker))
    }

    async fn lives(&self, member: usize) -> Lives {
        let list = self.get(member, "/v1/services/web/instances").await.unwrap_or_default();
        let instances = list["instances"].as_array().cloned().unwrap_or_default();
        let of = |one: &Value| (one["created_revision"].clone(), one["lease"].clone());
        instances.iter().map(|one| (one["id"].as_str().unwrap_or_default().to_owned(), of(one))).collect()
    }

    /// The registry that checks the most.
    async fn busiest(&self) -> usize {
        let checkers = self.checkers(0).await;
        let share = |member: &usize| checkers.values().filter(|by| **by == self.members[*member].listen).count();
        let busiest = (0..3).max_by_key(share).unwrap();
        assert!(share(&busiest) > 0);
        busiest
    }

    async fn wait_until_kept(&self, lives: &Lives, then: Instant) {
        for (_, lease) in lives.values() {
            wait_until_kept(&self.etcd, lease.as_str().unwrap(), then).await;
        }
    }

    /// Waits until none of `others` is checked by the registry `gone`, which takes at most [`MOVED_WITHIN`].
    async fn wait_until_moved(&self, gone: usize, others: &[usize], since: Instant) {
        let listen = &self.members[gone].listen;
        wait_for("its share has moved", SOON, async || {
            let mut moved = true;
            for other in others {
                let checkers = self.checkers(*other).await;
                moved &= checkers.len() == INSTANCES && checkers.values().all(|by| by != listen && !by.is_empty());
            }
            moved.then_some(())
        })
        .await;
        assert!(since.elapsed() <= MOVED_WITHIN, "moved after {:?}", since.elapsed());
    }
}

impl Member {
    fn start(etcd: &EtcdCluster, port: u16, file: &ServicesFile) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        command.env_clear().env("REGISTRY_LISTEN", &listen).env("REGISTRY_DNS_LISTEN", "off");
        command.env("REGISTRY_SERVICES_FILE", file.path()).env("LOG_FORMAT", "json");
        command.env("ETCD_ENDPOINTS", etcd.endpoints().join(","));
        let process = Process::start(&mut command, &etcd.dir().join(format!("registry-{port}.log"))).unwrap();
        Self { process, listen }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_registry_that_checks_is_killed_another_does_within_5_s_and_nothing_is_removed() {
    let mut fleet = Fleet::start().await;
    let killed = fleet.busiest().await;
    let others: Vec<usize> = (0..3).filter(|member| *member != killed).collect();
    let before = fleet.lives(others[0]).await;
    fleet.members[killed].process.kill();
    let since = Instant::now();
    fleet.wait_until_moved(killed, &others, since).await;
    fleet.wait_until_kept(&before, since).await;
    for other in others {
        assert_eq!(fleet.lives(other).await, before, "the same lives, by the same leases");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_frozen_takes_part_again_and_neither_removes_nor_brings_back_an_instance() {
    let mut fleet = Fleet::start().await;
    let checkers = fleet.checkers(0).await;
    // The one that checks the instance which is to die.
    let frozen = (0..3).find(|member| fleet.members[*member].listen == checkers["0"]).unwrap();
    let others: Vec<usize> = (0..3).filter(|member| *member != frozen).collect();
    let mut before = fleet.lives(others[0]).await;
    assert!(fleet.members[frozen].process.signal(Signal::SIGSTOP));
    let since = Instant::now();
    fleet.wait_until_moved(frozen, &others, since).await;
    fleet.wait_until_kept(&before, since).await;
    assert_eq!(fleet.lives(others[0]).await, before);
    drop(fleet.doomed.take());
    before.remove("0");
    wait_until("the dead one is deregistered", SOON, async || fleet.lives(others[1]).await == before).await;

    assert!(fleet.members[frozen].process.signal(Signal::SIGCONT));
    wait_until("the three agree again", SOON, async || fleet.agree(&[0, 1, 2]).await).await;
    let woken = Instant::now();
    wait_until("it says that the dead one fails", SOON, async || {
        let table = fleet.get(others[0], "/v1/table").await.unwrap_or_default();
        let instances = table["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().any(|one| one["id"] == "0" && one["state"] == "failing" && one["checked_by"] == checkers["0"])
    })
    .await;
    fleet.wait_until_kept(&before, woken).await;
    for member in 0..3 {
        assert_eq!(fleet.lives(member).await, before, "{member}");
    }
    let log = fleet.members[frozen].process.output();
    let registered = log.lines().filter(|line| line.contains("instance registered") && line.contains("service/web/0"));
    assert!(registered.count() <= 1, "{log}");
    assert!(log.contains("was dead to the others"), "{log}");
}
