//! The API's description is true: it names every route and no other, and nothing that it allows breaks the registry.

use std::{collections::BTreeSet, time::Duration};

use testkit::{
    etcd::EtcdCluster,
    python::{python, succeed},
};

use crate::support::Registry;

/// Where routes are written down.
const SOURCES: [&str; 2] = [include_str!("../../src/http.rs"), include_str!("../../src/http/consul.rs")];

/// `PUT /v1/…`, from `.route("/v1/…", put(…))`.
fn written() -> BTreeSet<String> {
    let routes = SOURCES.iter().flat_map(|source| source.split(".route(\"").skip(1));
    let operations = routes.flat_map(|route| {
        let (path, rest) = route.split_once('"').expect("a path ends");
        let handlers = rest.split("\n        .").next().unwrap_or_default();
        let path = path.replace("{*", "{");
        let methods =
            ["get", "put", "post", "delete"].into_iter().filter(|method| handlers.contains(&format!("{method}(")));
        methods.map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    });
    operations.collect()
}

#[tokio::test]
async fn every_route_is_described_and_everything_described_is_a_route() {
    let registry = Registry::without_etcd().await;
    let described = registry.get("/openapi.json").await;
    assert_eq!(described.headers["content-type"], "application/json");
    assert_eq!(described.body["openapi"], "3.1.0");
    let paths = described.body["paths"].as_object().unwrap();
    let operations = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}")));
    assert_eq!(operations.collect::<BTreeSet<_>>(), written());
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{service}", "Not-A-Name").replace(['{', '}'], "!");
            let answer = registry.ask(method.to_uppercase().parse().unwrap(), &path, "").await;
            assert!(!["no_such_path", "method_not_allowed"].contains(&answer.code()), "{method} {path}");
        }
    }
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
