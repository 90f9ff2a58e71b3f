//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 20] = [
    ("bytes", &[]),
    ("limits", &[]),
    ("method", &[]),
    ("piece", &[]),
    ("refusal", &[]),
    ("host", &["bytes"]),
    ("name", &["bytes"]),
    ("names", &["name"]),
    ("write", &["bytes"]),
    ("connection", &["bytes", "name", "refusal"]),
    ("version", &["connection", "refusal"]),
    ("line", &["bytes", "name", "refusal"]),
    ("scan", &["bytes", "connection", "limits", "line", "name", "names", "refusal"]),
    ("fields", &["connection", "line", "name", "names", "refusal", "scan", "write"]),
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
            "line",
            "method",
            "name",
            "refusal",
            "scan",
            "target",
            "version",
        ],
    ),
    (
        "response",
        &["bytes", "fields", "framing", "limits", "line", "method", "refusal", "request", "scan", "version", "write"],
    ),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
