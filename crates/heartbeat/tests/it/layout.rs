//! The rooms of the crate only look down.

/// The rooms from the ground up, and what each may import.
const MAY_IMPORT: [(&str, &[&str]); 23] = [
    ("condition", &[]),
    ("credentials", &[]),
    ("poll", &[]),
    ("proof", &[]),
    ("registries", &[]),
    ("registry_url", &[]),
    ("schedule", &["registries"]),
    ("options", &["credentials", "registry_url"]),
    ("advertise", &["options", "registry_url"]),
    ("neighbours", &["options", "registry_url"]),
    ("error", &["advertise", "credentials", "registry_url"]),
    ("metrics", &["error"]),
    ("mistaken", &["error"]),
    ("state", &["error", "registry_url"]),
    ("refusal", &["error", "registry_url"]),
    ("rpc", &["credentials", "error", "refusal", "registry_url"]),
    ("client", &["credentials", "error", "poll", "refusal", "registry_url", "rpc"]),
    ("details", &["condition", "metrics", "options", "proof"]),
    ("registration_state", &["error", "mistaken", "registry_url", "schedule", "state"]),
    ("log_events", &["mistaken", "registration_state", "state"]),
    ("setting", &["client", "error", "options", "poll", "registries", "registry_url", "schedule"]),
    (
        "task",
        &[
            "advertise",
            "client",
            "condition",
            "details",
            "error",
            "log_events",
            "options",
            "registration_state",
            "registries",
            "registry_url",
            "schedule",
            "state",
        ],
    ),
    ("handle", &["condition", "details", "options", "state", "task"]),
];

#[test]
fn rooms_only_look_down() {
    testkit::imports::assert_layout(env!("CARGO_MANIFEST_DIR"), &MAY_IMPORT);
}
