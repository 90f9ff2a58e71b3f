//! The layout of the crate: which room may import which.

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
    ("access", &["message"]),
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
