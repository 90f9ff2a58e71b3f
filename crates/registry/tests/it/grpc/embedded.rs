//! The loop that services embed, over gRPC.

use std::time::Duration;

use axum::{body::Bytes, http::Request};
use discovery::Status;
use heartbeat::{Details, Heartbeat, HeartbeatOptions, State};
use nix::sys::signal::Signal;
use reqwest::Method;
use service_kit::{
    client::{ClientTls, HttpClient},
    tokens::NewToken,
};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use super::{Program, rpc_url};
use crate::{
    support::{Registry, keys, leases, value, wait_for_leases},
    tls,
};

const KEY: &str = "service/mail/127.0.0.1:7070";
const PATH: &str = "/v1/services/mail/instances/127.0.0.1:7070";

fn options(urls: impl IntoIterator<Item = String>) -> HeartbeatOptions {
    let mut options = HeartbeatOptions::for_registries(urls.into_iter().map(|url| url.parse().unwrap()).collect());
    options.let_go = Duration::ZERO;
    options
}

fn announce(options: &HeartbeatOptions) -> Heartbeat {
    Heartbeat::start("mail".parse().unwrap(), ([127, 0, 0, 1], 7070).into(), options, Details::default())
}

async fn reaches(heartbeat: &Heartbeat, what: &str, reached: impl Fn(&State) -> bool) {
    let mut state = heartbeat.state();
    let reached = tokio::time::timeout(SOON, state.wait_for(reached)).await;
    drop(reached.unwrap_or_else(|_| panic!("{what} did not happen")).expect("the loop runs"));
}

#[tokio::test]
async fn a_service_registers_reports_obeys_a_drain_survives_a_registry_and_leaves_over_grpc() {
    let etcd = EtcdCluster::start(1).await;
    let first = Registry::start(&etcd).await;
    let second = Registry::start(&etcd).await;
    let mut options = options([rpc_url(&first.url), rpc_url(&second.url)]);
    options.ttl = Duration::from_secs(8).try_into().unwrap();
    let heartbeat = announce(&options);
    reaches(&heartbeat, "registered", |state| state.registered).await;
    assert_eq!(value(&etcd, KEY).as_deref(), Some("127.0.0.1:7070"));
    let granted = leases(&etcd);
    heartbeat.set_condition(Status::Critical);
    wait_until("its word is written", SOON, async || {
        value(&etcd, KEY).as_deref() == Some("http://127.0.0.1:7070?status=critical")
    })
    .await;
    heartbeat.set_condition(Status::Passing);
    first.ask(Method::PUT, &format!("{PATH}/override"), r#"{"status":"draining"}"#).await.accepted();
    reaches(&heartbeat, "draining", State::is_draining).await;
    second.delete(&format!("{PATH}/override")).await.accepted();
    reaches(&heartbeat, "in rotation again", |state| state.registered && !state.is_draining()).await;

    first.stop().await;
    let other = rpc_url(&second.url);
    reaches(&heartbeat, "at the other registry", |state| {
        state.registered
            && state.last_error.is_none()
            && state.registry.as_ref().is_some_and(|at| at.to_string() == other)
    })
    .await;
    assert_eq!(leases(&etcd), granted, "one lease for its life");
    heartbeat.deregister().await;
    wait_until("what is left", SOON, async || keys(&etcd).is_empty()).await;
    wait_for_leases(&etcd, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_killed_or_frozen_costs_no_registration_over_grpc() {
    let etcd = EtcdCluster::start(1).await;
    let mut programs = [Program::start(&etcd).await, Program::start(&etcd).await];
    let heartbeat = announce(&options(programs.iter().map(|program| rpc_url(&program.url()))));
    reaches(&heartbeat, "registered", |state| state.registered).await;
    let granted = leases(&etcd);
    let current = |heartbeat: &Heartbeat| heartbeat.state().borrow().registry.as_ref().unwrap().to_string();
    let mut lost = heartbeat.state();
    let story = async {
        let at = current(&heartbeat);
        let is_current = programs.iter().position(|program| rpc_url(&program.url()) == at).unwrap();
        let [first, second] = &mut programs;
        let (frozen, other) = if is_current == 0 { (first, second) } else { (second, first) };
        frozen.process.signal(Signal::SIGSTOP);
        wait_until("the other one takes its heartbeats", SOON, async || current(&heartbeat) == rpc_url(&other.url()))
            .await;
        frozen.process.signal(Signal::SIGCONT);
        other.process.kill();
        wait_until("the first one takes them again", SOON, async || current(&heartbeat) == rpc_url(&frozen.url()))
            .await;
    };
    tokio::select! {
        () = story => {}
        state = lost.wait_for(|state| !state.registered) => panic!("{:?}", state.unwrap().last_error),
    }
    assert_eq!(leases(&etcd), granted);
}

#[tokio::test]
async fn of_two_with_a_copied_id_the_first_one_is_displaced_over_grpc() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut options = options([rpc_url(&registry.url)]);
    options.instance_id = Some("mail-1".parse().unwrap());
    let first = announce(&options);
    reaches(&first, "registered", |state| state.registered).await;
    let second = announce(&options);
    reaches(&second, "registered", |state| state.registered).await;
    reaches(&first, "displaced", State::is_displaced).await;
    second.deregister().await;
    reaches(&first, "registered again", |state| state.registered).await;
}

#[tokio::test]
async fn a_renewed_token_counts_for_the_next_heartbeat_over_grpc() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let scopes = ["mail:register".parse().unwrap()];
    let [old, new] = ["old", "new"].map(|name| NewToken::random(name, &scopes, false).unwrap());
    std::fs::write(file("tokens"), format!("{}\n{}\n", old.line, new.line)).unwrap();
    std::fs::write(file("token"), &old.secret).unwrap();
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file("tokens"))).await;
    let mut options = options([rpc_url(&registry.url)]);
    options.ttl = Duration::from_secs(2).try_into().unwrap();
    options.credentials.registry_token_file = Some(file("token"));
    let heartbeat = announce(&options);
    reaches(&heartbeat, "registered", |state| state.registered).await;
    std::fs::write(file("token"), &new.secret).unwrap();
    std::fs::write(file("tokens"), &new.line).unwrap();
    let mut state = heartbeat.state();
    let lost = state.wait_for(|state| !state.registered || state.last_error.is_some());
    // Longer than the registry needs to read its tokens again.
    let lost = tokio::time::timeout(service_kit::reload::INTERVAL + Duration::from_secs(2), lost).await;
    assert!(lost.is_err(), "{:?}", lost.unwrap().unwrap().last_error);

    let mut signing = options.clone();
    signing.credentials.registry_token_file = None;
    signing.credentials.registry_key_file = Some(file("token"));
    signing.instance_id = Some("signing".parse().unwrap());
    let signing = announce(&signing);
    let says = |state: &State| {
        let error = state.last_error.as_ref().map(|error| service_kit::chain(error).to_string());
        error.is_some_and(|error| error.contains("give a token to grpc:// registries"))
    };
    reaches(&signing, "told that a key signs no stream", says).await;
}

#[tokio::test]
async fn over_tls_heartbeats_over_grpc_and_requests_of_http1_share_the_port() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = tls::authority();
    tls::issue(&authority, folder.path());
    let ca = folder.path().join("ca.pem");
    let (url, _end) = tls::start(&etcd, folder.path()).await;
    let mut options = options([rpc_url(&url)]);
    options.credentials.registry_ca_file = Some(ca.clone());
    let heartbeat = announce(&options);
    reaches(&heartbeat, "registered", |state| state.registered).await;
    assert_eq!(keys(&etcd), [KEY]);
    let http = HttpClient::new(&ClientTls { ca_file: Some(ca), identity: None }).unwrap();
    let request = Request::get(format!("{url}/v1/services/mail/instances")).body(Bytes::new()).unwrap();
    assert_eq!(http.send(request, SOON, 64 * 1024).await.unwrap().status, 200);

    let strange = tempfile::tempdir().unwrap();
    tls::issue(&tls::authority(), strange.path());
    options.credentials.registry_ca_file = Some(strange.path().join("ca.pem"));
    options.instance_id = Some("strange".parse().unwrap());
    let distrustful = announce(&options);
    reaches(&distrustful, "the certificate is a stranger's", |state| state.last_error.is_some()).await;
    assert!(!distrustful.state().borrow().registered);
    heartbeat.deregister().await;
    assert!(keys(&etcd).is_empty());
}
