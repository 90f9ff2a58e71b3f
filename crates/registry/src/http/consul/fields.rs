//! Which fields of a registration are meant here, which are let pass because clients send them always, and which are refused.
//!
//! Something that is accepted and not done would be noticed in the next outage. So a field that asks for more than there is here
//! (a mesh, a probe by script, another namespace) is refused by its name, when it is set; so is one that Consul does not know either,
//! which is a slip of the pen. What clients send without meaning much by it is let pass:
//!
//! | field | here |
//! |---|---|
//! | `EnableTagOverride` | no other program changes a tag: there is no catalog beside the registration |
//! | `TaggedAddresses` | an instance has one address |
//! | `Weights.Warning` | a warning is no weight of its own |
//! | `Check.Name`, `Check.Notes` | not kept |
//! | `Check.DeregisterCriticalServiceAfter` | an instance that is silent for its TTL is gone at once |
//! | checks without a TTL | beside one with a TTL: not carried out. An HTTP check at the instance's own port says where gateways ask |

use discovery::FieldError;
use serde_json::{Map, Value};

/// Of a registration.
const SERVICE: Fields = Fields {
    known: &[
        "Name",
        "ID",
        "Address",
        "Port",
        "Tags",
        "Meta",
        "Weights",
        "Check",
        "Checks",
        "Locality",
        "EnableTagOverride",
        "TaggedAddresses",
    ],
    refused: &[
        ("Kind", "gateways and proxies of a mesh are nothing here; register a plain service"),
        ("SocketPath", "an instance is reached by its address and port"),
        ("Ports", "an instance has one port; register one for each"),
        ("Proxy", "there is no mesh here"),
        ("Connect", "there is no mesh here"),
        ("Namespace", "there are no namespaces here"),
        ("Partition", "there are no partitions here"),
    ],
};

/// Of a check.
const CHECK: Fields = Fields {
    known: &[
        "CheckID",
        "ID",
        "Name",
        "Notes",
        "TTL",
        "Status",
        "HTTP",
        "Header",
        "Method",
        "Body",
        "DisableRedirects",
        "TCP",
        "TCPUseTLS",
        "UDP",
        "GRPC",
        "GRPCUseTLS",
        "H2PING",
        "H2PingUseTLS",
        "Interval",
        "Timeout",
        "TLSServerName",
        "TLSSkipVerify",
        "OutputMaxSize",
        "SuccessBeforePassing",
        "FailuresBeforeWarning",
        "FailuresBeforeCritical",
        "DeregisterCriticalServiceAfter",
    ],
    refused: &[
        ("Script", "no script runs here; report by check/pass, warn and fail"),
        ("Args", "no script runs here; report by check/pass, warn and fail"),
        ("ScriptArgs", "no script runs here; report by check/pass, warn and fail"),
        ("Shell", "no script runs here; report by check/pass, warn and fail"),
        ("DockerContainerID", "containers are not looked into here; report by check/pass, warn and fail"),
        ("OSService", "services of an operating system are not looked at here; report by check/pass, warn and fail"),
        ("AliasNode", "a check cannot stand for another one here"),
        ("AliasService", "a check cannot stand for another one here"),
    ],
};

/// What may stand in an object.
struct Fields {
    known: &'static [&'static str],
    /// With the reason.
    refused: &'static [(&'static str, &'static str)],
}

/// Refuses a registration with a field that would not be meant.
///
/// # Errors
///
/// The first such field.
pub(super) fn check_service(body: &Map<String, Value>) -> Result<(), FieldError> {
    SERVICE.check(body)
}

/// The same for a check.
///
/// # Errors
///
/// The first such field.
pub(super) fn check_check(check: &Map<String, Value>) -> Result<(), FieldError> {
    CHECK.check(check)
}

/// Whether `key` is the field `name`: Consul looks neither at the case nor at `_`, and clients make use of both.
pub(super) fn is_named(key: &str, name: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).collect()
    };
    key.eq_ignore_ascii_case(name) || letters(key) == letters(name)
}

// === impl Fields ===

impl Fields {
    fn check(&self, object: &Map<String, Value>) -> Result<(), FieldError> {
        for (key, value) in object {
            if self.known.iter().any(|known| is_named(key, known)) {
                continue;
            }
            match self.refused.iter().find(|(refused, _)| is_named(key, refused)) {
                Some((name, reason)) if !is_unset(name, value) => {
                    return Err(FieldError::new(*name, format!("means nothing here: {reason}")));
                }
                Some(_) => {}
                None => {
                    let shown: String = key.chars().take(32).flat_map(char::escape_default).collect();
                    return Err(FieldError::new(shown, "is no field of Consul that is known here"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a field says no more than if it were left out, as many clients write it.
fn is_unset(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => {
            text.is_empty()
                || matches!((name, text.as_str()), ("Namespace" | "Partition", "default") | ("Kind", "typical"))
        }
        Value::Array(list) => list.is_empty(),
        // Go writes every field of a struct that is there at all.
        Value::Object(fields) => fields.values().all(|value| is_unset("", value)),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
