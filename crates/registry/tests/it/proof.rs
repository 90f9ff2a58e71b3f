//! Proof of address: who is new, or has moved, must listen where it says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use futures::future::join_all;
use heartbeat::{AddressProof, Details, Heartbeat, HeartbeatOptions};
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_until},
};
use tokio::net::TcpListener;

use crate::support::{Answer, Registry, keys};

async fn asking(etcd: &EtcdCluster) -> Registry {
    Registry::start_with(etcd, |config| config.admission.prove_address = true).await
}

/// Serves on a loopback port of its own for as long as the test runs.
async fn serve(routes: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async { axum::serve(listener, routes).await });
    port
}

/// Something that answers every question for a proof like this.
async fn answering(answer: impl Fn(String) -> Response + Clone + Send + Sync + 'static) -> u16 {
    let handler = move |RawQuery(query): RawQuery| {
        let nonce = query.unwrap_or_default().trim_start_matches("nonce=").to_owned();
        std::future::ready(answer(nonce))
    };
    serve(Router::new().route("/.well-known/muster", get(handler))).await
}

async fn announce(registry: &Registry, key: &str, port: u16) -> Answer {
    registry.heartbeat(key, &json!({ "address": format!("127.0.0.1:{port}") }).to_string()).await
}

#[track_caller]
fn assert_unproven(answer: &Answer, hint: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "address_not_proven"), "{:?}", answer.body);
    assert!(answer.body.to_string().contains(hint), "{hint}: {:?}", answer.body);
}

#[tokio::test]
async fn a_service_with_the_heartbeat_crate_proves_its_address_and_is_asked_once() {
    let etcd = EtcdCluster::start(1).await;
    let registry = asking(&etcd).await;
    let proof = AddressProof::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let routes = proof.routes().layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
        count.fetch_add(1, Ordering::Relaxed);
        next.run(request)
    }));
    let port = serve(routes).await;
    let options = HeartbeatOptions::for_registries(vec![registry.url.parse().unwrap()]);
    let details = Details { proof, ..Details::default() };
    let heartbeat = Heartbeat::start("mail".parse().unwrap(), ([127, 0, 0, 1], port).into(), &options, details);
    let state = heartbeat.state();
    wait_until("it is registered", SOON, async || state.borrow().registered).await;
    assert_eq!(keys(&etcd), [format!("service/mail/127.0.0.1:{port}")]);
    for _ in 0..5 {
        announce(&registry, &format!("mail/127.0.0.1:{port}"), port).await.accepted();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "for as long as it lives, its registration is the proof");
}

#[tokio::test]
async fn whoever_is_not_that_instance_is_refused_with_what_to_change() {
    let etcd = EtcdCluster::start(1).await;
    let registry = asking(&etcd).await;
    let real = answering(|nonce| format!("{nonce} service/mail/a\n").into_response()).await;
    let echo = answering(|nonce| nonce.into_response()).await;
    let missing = serve(Router::new()).await;
    let broken = answering(|_| StatusCode::SERVICE_UNAVAILABLE.into_response()).await;
    let elsewhere = answering(move |nonce| {
        Redirect::temporary(&format!("http://127.0.0.1:{real}/.well-known/muster?nonce={nonce}")).into_response()
    })
    .await;
    let endless = answering(|_| "x".repeat(1 << 20).into_response()).await;
    let nobody = free_ports(1)[0];
    for (port, hint) in [
        (echo, "another instance"),
        (missing, "404"),
        (broken, "503"),
        (elsewhere, "307"),
        (endless, "another instance"),
        (nobody, "could not be asked"),
    ] {
        assert_unproven(&announce(&registry, "mail/a", port).await, hint);
    }
    let hint = "must answer 200 and";
    assert_unproven(&announce(&registry, "mail/b", real).await, hint);
    let consul = json!({ "Name": "mail", "ID": "b", "Address": "127.0.0.1", "Port": real, "Check": { "TTL": "10s" } });
    let answer = registry.ask(reqwest::Method::PUT, "/v1/agent/service/register", consul.to_string()).await;
    assert_unproven(&answer, hint);
    let secure = json!({ "address": format!("127.0.0.1:{real}"), "scheme": "https" }).to_string();
    assert_unproven(&registry.heartbeat("mail/a", &secure).await, "only http can be asked");
    assert_eq!(keys(&etcd), [""; 0]);

    announce(&registry, "mail/a", real).await.accepted();
    assert_unproven(&announce(&registry, "mail/a", echo).await, "another instance");
    let named = json!({ "address": format!("localhost:{real}") }).to_string();
    let by_name = registry.heartbeat("mail/a", &named).await;
    // Where localhost is ::1, too, nobody listens there, and both must be proven.
    assert!(by_name.status == 200 || by_name.code() == "address_not_proven", "{:?}", by_name.body);
}

#[tokio::test]
async fn what_accepts_and_never_answers_costs_bounded_time_and_a_bounded_number_of_calls() {
    const AT_ONCE: usize = 150;
    let etcd = EtcdCluster::start(1).await;
    let registry = asking(&etcd).await;
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&under_way);
    let highest = Arc::clone(&most);
    let silent = serve(Router::new().fallback(move || {
        highest.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        std::future::pending::<()>()
    }))
    .await;
    let started = Instant::now();
    let answers = join_all((0..AT_ONCE).map(|n| {
        let registry = &registry;
        async move { announce(registry, &format!("mail/{n}"), silent).await }
    }))
    .await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let of = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
    let unproven = of("address_not_proven");
    let busy = of("too_many_proofs");
    assert_eq!(unproven + busy, AT_ONCE);
    assert!(busy > 0 && unproven > 0, "{unproven} were asked, {busy} not");
    assert!(most.load(Ordering::Relaxed) <= 2 * registry::admission::proof::AT_ONCE_MAX, "{most:?} calls");
    let busy = answers.iter().find(|answer| answer.code() == "too_many_proofs").unwrap();
    assert_eq!((busy.status.as_u16(), busy.headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(registry.get("/healthz").await.status, 200);
    assert_eq!(keys(&etcd), [""; 0]);
}

#[tokio::test]
async fn an_address_that_nobody_may_announce_is_not_even_called() {
    let etcd = EtcdCluster::start(1).await;
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let port = answering(move |nonce| {
        count.fetch_add(1, Ordering::Relaxed);
        format!("{nonce} service/mail/a").into_response()
    })
    .await;
    let ten = vec!["10.0.0.0/8".parse().unwrap()];
    let registry = Registry::start_with(&etcd, |config| {
        config.admission.prove_address = true;
        config.admission.allow_networks = ten;
    })
    .await;
    assert_eq!(announce(&registry, "mail/a", port).await.code(), "address_not_allowed");
    assert_eq!(called.load(Ordering::Relaxed), 0);
    let metadata = r#"{"address":"169.254.169.254:80"}"#;
    assert_eq!(registry.heartbeat("mail/a", metadata).await.code(), "address_not_allowed");
}
