//! The loop that services embed, against the real registry: do the two understand each other?

use heartbeat::{Details, Heartbeat, HeartbeatOptions, State};
use reqwest::Method;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, keys, leases, value, wait_for_leases};

const KEY: &str = "service/mail/127.0.0.1:7070";
const PATH: &str = "/v1/services/mail/instances/127.0.0.1:7070";

#[tokio::test]
async fn a_service_registers_reports_obeys_a_drain_survives_a_registry_and_leaves() {
    let etcd = EtcdCluster::start(1).await;
    let first = Registry::start(&etcd).await;
    let second = Registry::start(&etcd).await;
    let registries = [&first, &second].map(|registry| registry.url.parse().unwrap()).to_vec();
    let mut options = HeartbeatOptions::for_registries(registries);
    // Heartbeats every 3.2 s: short enough for this test, and a pause of the machine ends no lease.
    options.ttl = std::time::Duration::from_secs(8).try_into().unwrap();
    let service = "mail".parse().unwrap();
    let heartbeat = Heartbeat::start(service, ([127, 0, 0, 1], 7070).into(), &options, Details::default());
    let mut state = heartbeat.state();
    let mut reach = async |what: &str, reached: fn(&State) -> bool| {
        let reached = tokio::time::timeout(SOON, state.wait_for(reached)).await;
        drop(reached.unwrap_or_else(|_| panic!("{what} did not happen")).expect("the loop runs"));
    };
    reach("registered", |state| state.registered).await;
    assert_eq!(value(&etcd, KEY).as_deref(), Some("127.0.0.1:7070"));
    let granted = leases(&etcd);

    heartbeat.set_condition(discovery::Status::Critical);
    wait_until("its word is written", SOON, async || {
        value(&etcd, KEY).as_deref() == Some("http://127.0.0.1:7070?status=critical")
    })
    .await;
    heartbeat.set_condition(discovery::Status::Passing);
    first.ask(Method::PUT, &format!("{PATH}/override"), r#"{"status":"draining"}"#).await.accepted();
    reach("draining", State::is_draining).await;
    second.delete(&format!("{PATH}/override")).await.accepted();
    reach("in rotation again", |state| state.registered && !state.is_draining()).await;

    first.stop().await;
    let seen = state_revision(&heartbeat);
    etcd.etcdctl(&["put", "config/mail", "{}"]);
    wait_until("the other registry takes its heartbeats", SOON, async || state_revision(&heartbeat) > seen).await;
    assert_eq!(leases(&etcd), granted, "one lease for its life");

    heartbeat.deregister().await;
    wait_until("what is left", SOON, async || keys(&etcd) == ["config/mail"]).await;
    wait_for_leases(&etcd, 0).await;
}

/// The revision of the last reply: it grows with the mirror, so a later one is that of a later heartbeat.
fn state_revision(heartbeat: &Heartbeat) -> i64 {
    heartbeat.state().borrow().reply.as_ref().map_or(0, |reply| reply.revision)
}

/// An instance of `mail` that was given the id `mail-1`.
fn instance(registry: &Registry, port: u16) -> Heartbeat {
    let mut options = HeartbeatOptions::for_registries(vec![registry.url.parse().unwrap()]);
    options.instance_id = Some("mail-1".parse().unwrap());
    options.let_go = std::time::Duration::ZERO;
    Heartbeat::start("mail".parse().unwrap(), ([127, 0, 0, 1], port).into(), &options, Details::default())
}

async fn reaches(heartbeat: &Heartbeat, what: &str, reached: impl Fn(&State) -> bool) {
    let mut state = heartbeat.state();
    let reached = tokio::time::timeout(SOON, state.wait_for(reached)).await;
    drop(reached.unwrap_or_else(|_| panic!("{what} did not happen")).expect("the loop runs"));
}

#[tokio::test]
async fn of_two_with_a_copied_id_the_later_one_has_it_and_the_other_comes_back_when_that_ends() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let first = instance(&registry, 7070);
    reaches(&first, "registered", |state| state.registered).await;
    let second = instance(&registry, 7071);
    reaches(&second, "registered", |state| state.registered).await;
    reaches(&first, "displaced", State::is_displaced).await;
    let told = |state: &State| state.reply.as_ref().is_some_and(|reply| reply.other_holder.is_some());
    reaches(&second, "told of the other", told).await;
    assert_eq!(value(&etcd, "service/mail/mail-1").as_deref(), Some("127.0.0.1:7071"));
    second.deregister().await;
    reaches(&first, "registered again", |state| state.registered).await;
    assert_eq!(value(&etcd, "service/mail/mail-1").as_deref(), Some("127.0.0.1:7070"));
}

#[tokio::test]
async fn a_restart_that_shares_its_port_keeps_the_registration() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let old = instance(&registry, 7070);
    reaches(&old, "registered", |state| state.registered).await;
    let new = instance(&registry, 7070);
    reaches(&new, "registered", |state| state.registered).await;
    let lease = leases(&etcd);
    old.deregister().await;
    assert_eq!(value(&etcd, "service/mail/mail-1").as_deref(), Some("127.0.0.1:7070"), "nobody took it away");
    let seen = state_revision(&new);
    etcd.etcdctl(&["put", "config/mail", "{}"]);
    wait_until("its heartbeats go on", SOON, async || state_revision(&new) > seen).await;
    assert!(leases(&etcd).iter().all(|one| lease.contains(one)), "in the same life");
}
