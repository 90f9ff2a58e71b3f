//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 36] = [
    ("backoff", &[]),
    ("connections", &[]),
    ("duration", &[]),
    ("error_chain", &[]),
    ("log_queue", &[]),
    ("metrics", &[]),
    ("networks", &[]),
    ("open_files", &[]),
    ("port_holder", &[]),
    ("private_files", &[]),
    ("regular_file", &[]),
    ("request", &[]),
    ("secret", &[]),
    ("shutdown", &[]),
    ("text", &[]),
    ("time", &[]),
    ("token_bucket", &[]),
    ("unknown_name", &[]),
    ("email", &["text"]),
    ("log_line", &["request"]),
    ("names", &["duration"]),
    ("problem", &["request"]),
    ("browser", &["problem"]),
    ("json", &["problem"]),
    ("openapi", &["problem"]),
    ("reload", &["error_chain"]),
    ("signature", &["secret"]),
    ("tls", &["reload"]),
    ("client", &["names", "tls"]),
    ("health", &["client", "tls"]),
    ("telemetry", &["log_line", "log_queue"]),
    ("config", &["browser", "telemetry"]),
    ("tokens", &["json", "problem", "reload", "signature"]),
    ("app", &["browser", "health", "metrics", "problem", "request", "telemetry"]),
    ("serve", &["browser", "connections", "error_chain", "open_files", "port_holder", "problem", "tls"]),
    ("service", &["config", "error_chain", "health", "private_files", "serve", "shutdown", "telemetry"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
