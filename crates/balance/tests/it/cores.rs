//! Every core works for itself, on one port.

use std::collections::BTreeSet;

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

#[tokio::test]
async fn two_cores_accept_on_one_port_each_with_connections_of_its_own() {
    let upstream = Upstream::start(|request| Reply::ok(request.connection.to_string())).await;
    let gateway = Gateway::before(&[upstream.address()], &["--workers=2"]);
    let mut used = BTreeSet::new();
    // One client after the other: a single pool would use one connection for all. The kernel spreads clients by their
    // port, so that sixty on one core are a coin that falls on the same side sixty times.
    for _ in 0..60 {
        used.insert(gateway.get("/mail").await.text());
    }
    assert_eq!(used, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
}

#[tokio::test]
async fn a_hundred_clients_are_served_at_once() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target)).await;
    let gateway = Gateway::before(&[upstream.address()], &["--workers=2"]);
    let clients = (0..100).map(|n| {
        let connecting = gateway.connect();
        async move {
            let mut client = connecting.await;
            for m in 0..10 {
                let answer = client.ask(&format!("GET /mail/{n}/{m} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                assert_eq!(answer.text(), format!("/{n}/{m}"), "every client gets its own answers");
            }
        }
    });
    futures::future::join_all(clients).await;
    assert!(upstream.violations().is_empty());
}
