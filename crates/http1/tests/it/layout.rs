//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 18] = [
    ("bytes", &[]),
    ("head_end", &[]),
    ("limits", &[]),
    ("method", &[]),
    ("name", &[]),
    ("piece", &[]),
    ("refusal", &[]),
    ("host", &["bytes"]),
    ("write", &["bytes"]),
    ("connection", &["bytes", "name", "refusal"]),
    ("version", &["connection", "refusal"]),
    ("fields", &["bytes", "connection", "limits", "name", "refusal", "write"]),
    ("framing", &["fields", "name", "refusal", "version"]),
    ("target", &["framing", "host", "method", "refusal"]),
    ("chunked", &["bytes", "framing", "piece", "refusal"]),
    ("body", &["chunked", "framing", "piece", "refusal"]),
    (
        "request",
        &[
            "bytes",
            "connection",
            "fields",
            "framing",
            "host",
            "limits",
            "method",
            "name",
            "refusal",
            "target",
            "version",
        ],
    ),
    ("response", &["bytes", "fields", "framing", "limits", "method", "refusal", "request", "version"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
