//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 22] = [
    ("mirror", &[]),
    ("heard", &[]),
    ("dialects", &[]),
    ("token_command", &[]),
    ("holders", &["mirror"]),
    ("overrides", &["mirror"]),
    ("write_watch", &["mirror"]),
    ("admission", &["mirror"]),
    ("import", &["admission", "mirror"]),
    ("error", &["admission"]),
    ("catalog", &["error", "mirror"]),
    ("concurrency_limit", &["admission", "error"]),
    ("metrics", &["concurrency_limit", "error", "mirror"]),
    ("restore", &["heard", "metrics", "mirror"]),
    ("settings", &["admission", "concurrency_limit", "error", "mirror"]),
    ("registrar", &["admission", "concurrency_limit", "dialects", "error", "heard", "holders", "metrics", "mirror"]),
    ("table", &["error", "mirror", "registrar"]),
    ("dns", &["admission", "catalog", "metrics", "mirror"]),
    ("alerts", &["catalog", "mirror"]),
    ("config", &["admission", "alerts", "dns", "table"]),
    ("http", &["admission", "catalog", "error", "mirror", "registrar", "settings", "table"]),
    ("grpc", &["admission", "catalog", "error", "http", "mirror", "registrar"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
