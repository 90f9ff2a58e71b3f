//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("templates", &[]),
    ("userlist", &[]),
    ("message", &[]),
    ("transport", &["message"]),
    ("metrics", &["transport"]),
    ("outbox", &["message", "metrics", "templates", "transport", "userlist"]),
    ("webhook", &["outbox"]),
    ("siblings", &["outbox"]),
    ("config", &["message", "outbox", "transport", "webhook"]),
    ("submission", &["config", "message", "outbox", "templates"]),
    ("plain", &["message", "metrics", "outbox", "submission", "transport"]),
    ("broadcaster", &["message", "outbox", "submission", "templates", "userlist"]),
    ("error", &["message", "outbox", "templates", "transport"]),
    ("http", &["broadcaster", "error", "message", "metrics", "outbox", "plain", "submission", "templates", "userlist"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
