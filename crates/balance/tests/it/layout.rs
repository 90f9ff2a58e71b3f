//! The layout of the crate: which room may import which, and which may ask for the time.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms from the ground up, and what each may import. What is not here is refused, and so is a circle between files of
/// one room.
///
/// The four in the first lines stand on nothing; `message` is pure; `instance` is what is known of one instance, and
/// `load_balancing` chooses among them; both sides of a request, `downstream` and `upstream`, know neither each other nor the
/// table; `proxy` is the request's way through all of that.
const MAY_IMPORT: [(&str, &[&str]); 20] = [
    ("addresses", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("counters", &[]),
    ("hash", &[]),
    ("io", &[]),
    ("message", &["config"]),
    ("access", &["clock", "message"]),
    ("downstream", &["clock", "config", "io", "message"]),
    ("instance", &["addresses", "clock", "hash"]),
    ("upstream", &["addresses", "clock", "counters", "hash", "instance", "io", "message"]),
    ("load_balancing", &["clock", "counters", "hash", "instance", "message"]),
    ("table", &["access", "addresses", "clock", "instance", "load_balancing"]),
    ("routing", &["table"]),
    ("telemetry", &["clock", "config", "counters", "instance", "message", "table"]),
    ("health", &["addresses", "clock", "hash", "instance", "table", "telemetry", "upstream"]),
    ("discovery", &["access", "addresses", "clock", "health", "instance", "load_balancing", "table"]),
    (
        "proxy",
        &[
            "access",
            "addresses",
            "clock",
            "config",
            "counters",
            "downstream",
            "instance",
            "io",
            "load_balancing",
            "message",
            "routing",
            "table",
            "telemetry",
            "upstream",
        ],
    ),
    ("listener", &["addresses", "clock", "config", "downstream", "io", "message", "proxy", "table", "telemetry"]),
    ("admin", &["clock", "instance", "load_balancing", "proxy", "table"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}

/// Where an event comes in, its moment is read from the core's clock, and passed on.
const CLOCKLESS: [&str; 5] =
    ["src/proxy", "src/message", "src/downstream", "src/upstream/attempt.rs", "src/upstream/http1.rs"];

#[test]
fn below_the_edge_no_code_of_a_requests_way_asks_for_the_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut asking = Vec::new();
    for place in CLOCKLESS {
        for file in files_below(&root.join(place)) {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if code.contains("Instant::now") || code.contains("Millis::now") || code.contains(".elapsed()") {
                asking.push(file);
            }
        }
    }
    assert!(asking.is_empty(), "they ask for the time: {asking:?}");
}

fn files_below(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries.flat_map(|path| files_below(&path)).collect();
    assert!(!files.is_empty(), "{} has no files", place.display());
    files
}
