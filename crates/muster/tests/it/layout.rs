//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("environment", &[]),
    ("terminal", &["environment"]),
    ("state", &[]),
    ("client", &["state", "terminal"]),
    ("listing", &["terminal"]),
    ("ls", &["client", "listing", "terminal"]),
    ("drain", &["client", "terminal"]),
    ("key", &["client", "terminal"]),
    ("explain", &["client", "listing", "ls", "terminal"]),
    ("watch", &["client", "listing", "terminal"]),
    ("status", &["client", "explain", "listing", "ls", "terminal"]),
    ("up", &["environment", "state", "terminal"]),
    ("cli", &["client", "drain", "explain", "key", "ls", "status", "up", "watch"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
