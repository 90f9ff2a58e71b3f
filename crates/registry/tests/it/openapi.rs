//! The API's description is true: it names every route and no other, and nothing that it allows breaks the registry.

use std::time::Duration;

use testkit::{
    etcd::EtcdCluster,
    python::{python, succeed},
};

use crate::support::Registry;

/// Where routes are put together.
const SOURCES: [&str; 2] = [include_str!("../../src/http.rs"), include_str!("../../src/http/consul.rs")];

#[tokio::test]
async fn every_route_is_described_and_everything_described_is_a_route() {
    for source in SOURCES {
        assert!(
            !source.contains(".route("),
            "a handler says in #[utoipa::path] where it is; routes!(…) makes the route"
        );
    }
    let registry = Registry::without_etcd().await;
    let described = registry.get("/openapi.json").await;
    assert_eq!(described.headers["content-type"], "application/json");
    assert_eq!(described.body["openapi"], "3.1.0");
    let paths = described.body["paths"].as_object().unwrap();
    let operations: usize = paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
    assert!(operations >= 29, "{operations} operations: some are lost");
    assert!(paths.contains_key("/v1/muster.proto"), "what is published for gRPC as well");
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{service}", "Not-A-Name").replace(['{', '}'], "!");
            let answer = registry.ask(method.to_uppercase().parse().unwrap(), &path, "").await;
            assert!(!["no_such_path", "method_not_allowed"].contains(&answer.code()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere() {
    let registry = Registry::without_etcd().await;
    let described = registry.get("/openapi.json").await.body;
    let text = described.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
    let mut count = 0;
    for reference in references {
        assert!(described.pointer(reference).is_some(), "{reference}");
        count += 1;
    }
    assert!(count > 100, "{count} references");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_no_500() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut tests = python("schemathesis");
    tests.arg("--config-file").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/schemathesis.toml"));
    tests.args(["run", &format!("{}/openapi.json", registry.url), "--checks=not_a_server_error"]);
    // An event stream does not end.
    tests.args(["--exclude-path=/v1/watch", "--max-examples=4", "--generation-deterministic", "--no-color"]);
    tests.args(["--request-timeout=10", "--phases=coverage,fuzzing"]);
    let output = succeed(tests, Duration::from_secs(110)).await;
    assert!(output.contains("Test cases:"), "{output}");
    let metrics = registry.get("/metrics").await.body.as_str().map(str::to_owned).unwrap_or_default();
    let of_server = |line: &&str| line.starts_with("http_requests_total") && line.contains("status=\"500\"");
    assert_eq!(metrics.lines().find(of_server), None);
}
