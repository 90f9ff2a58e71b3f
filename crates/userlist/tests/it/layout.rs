//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 6] = [
    ("user", &[]),
    ("store", &["user"]),
    ("transfer", &["store", "user"]),
    ("command", &["store", "transfer", "user"]),
    ("config", &["command", "store"]),
    ("http", &["store", "transfer", "user"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
