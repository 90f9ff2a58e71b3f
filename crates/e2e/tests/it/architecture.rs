//! The imports of doc/architecture.md, held to the manifests: they point down, and services never import each other.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// What each crate may import of ours, outside its tests.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("discovery", &[]),
    ("http1", &[]),
    ("service-kit", &[]),
    ("muster-proto", &["discovery"]),
    ("discovery-etcd", &["discovery", "service-kit"]),
    ("heartbeat", &["discovery", "muster-proto", "service-kit"]),
    ("registry", &["discovery", "discovery-etcd", "muster-proto", "service-kit"]),
    ("balance", &["discovery", "discovery-etcd", "http1", "service-kit"]),
    ("mail", &["discovery", "heartbeat", "service-kit"]),
    ("userlist", &["discovery", "heartbeat", "service-kit"]),
    ("muster", &["discovery", "discovery-etcd", "service-kit"]),
    ("testkit", &["discovery", "discovery-etcd", "service-kit"]),
    ("bench", &["testkit"]),
    ("e2e", &["bench", "discovery", "discovery-etcd", "service-kit", "testkit"]),
];

/// Which foreign crates `discovery` must not know: it has no I/O.
const NO_IO: [&str; 5] = ["tokio", "axum", "hyper", "reqwest", "etcd-client"];

/// The dependencies of each crate of the workspace that are not for its tests only.
fn imports() -> BTreeMap<String, Vec<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let imports = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(name).collect()
    };
    packages.iter().map(|package| (name(package), imports(package))).collect()
}

#[test]
fn imports_point_down_and_services_never_import_each_other() {
    let imports = imports();
    let known: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    for name in imports.keys() {
        assert!(known.contains(&name.as_str()), "{name} is not in the table: say what it may import");
    }
    for (name, allowed) in MAY_IMPORT {
        for import in imports[name].iter().filter(|import| known.contains(&import.as_str())) {
            assert!(allowed.contains(&import.as_str()), "{name} must not import {import}");
        }
    }
}

/// The crates that are for tests as a whole.
const FOR_TESTS: [&str; 3] = ["bench", "e2e", "testkit"];

#[test]
fn reqwest_is_for_tests_only() {
    for (name, imports) in imports().iter().filter(|(name, _)| !FOR_TESTS.contains(&name.as_str())) {
        assert!(!imports.iter().any(|import| import == "reqwest"), "{name}: use service_kit::client");
    }
}

#[test]
fn discovery_does_no_input_or_output() {
    let imports = &imports()["discovery"];
    for foreign in NO_IO {
        assert!(!imports.iter().any(|import| import == foreign), "discovery must not import {foreign}");
    }
}
