//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 15] = [
    ("clock", &[]),
    ("templates", &[]),
    ("userlist", &[]),
    ("message", &["clock"]),
    ("transport", &["message"]),
    ("metrics", &["transport"]),
    ("outbox", &["clock", "message", "metrics", "templates", "transport", "userlist"]),
    ("webhook", &["clock", "outbox"]),
    ("siblings", &["outbox"]),
    ("config", &["message", "outbox", "transport", "webhook"]),
    ("submission", &["clock", "config", "message", "outbox", "templates"]),
    ("plain", &["clock", "message", "metrics", "outbox", "submission", "transport"]),
    ("broadcaster", &["clock", "message", "outbox", "submission", "templates", "userlist"]),
    ("error", &["message", "outbox", "templates", "transport"]),
    (
        "http",
        &[
            "broadcaster",
            "clock",
            "error",
            "message",
            "metrics",
            "outbox",
            "plain",
            "submission",
            "templates",
            "userlist",
        ],
    ),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
