//! Tables of services: checks over TLS.

use serde_json::{Value, json};
use testkit::etcd::EtcdCluster;

use crate::{
    support::Registry,
    tables::{ServicesFile, quick},
    tls,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_authorities_that_a_check_names_are_trusted_and_otherwise_those_of_the_system() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    tls::issue(&tls::authority(), folder.path());
    // Another registry: it answers HTTP and the health protocol of gRPC.
    let (url, shutdown) = tls::start(&etcd, folder.path()).await;
    let address = url.strip_prefix("https://").unwrap();
    let entry = |id: &str, kind: &str, more: Value| {
        let check = quick(kind, &more);
        json!({ "service": "other", "id": id, "address": address, "scheme": "https", "checks": [check] })
    };
    let ca = folder.path().join("ca.pem");
    let missing = folder.path().join("none.pem");
    let file = ServicesFile::new(&json!([
        entry("http", "http", json!({ "path": "/healthz", "ca": ca })),
        entry("grpc", "grpc", json!({ "ca": ca })),
        entry("http-stranger", "http", json!({ "path": "/healthz" })),
        entry("grpc-stranger", "grpc", json!({})),
        entry("missing", "grpc", json!({ "ca": missing })),
    ]));
    let registry = Registry::with_table(&etcd, &file).await;
    for id in ["http", "grpc"] {
        registry.wait_for_instance("other", id, true).await;
    }
    for (id, words) in [("http-stranger", "UnknownIssuer"), ("grpc-stranger", "UnknownIssuer"), ("missing", "none.pem")]
    {
        let reason = registry.wait_for_state(id, "failing").await["reason"].clone();
        assert!(reason.as_str().unwrap().contains(words), "{id}: {reason}");
    }
    shutdown.cancel();
}
