//! What a child sees of the environment in which `muster` was started.
//!
//! A person's settings reach the services (`MAIL_SMTP_URL`, `USERLIST_DATABASE_URL`, `RUST_LOG`, …), with exceptions:
//! what would give two instances the same address or name, or would send them to another etcd or registry than the ones
//! that are started here, is taken out, and that is said.

use std::ffi::OsStr;

use crate::environment::{Environment, set_unless_given};

/// Decided here and nowhere else.
const OURS: [&str; 16] = [
    "ADVERTISE",
    "BALANCE_ADMIN_LISTEN",
    "BALANCE_LISTEN",
    "ETCD_CA_FILE",
    "ETCD_CERT_FILE",
    "ETCD_ENDPOINTS",
    "ETCD_KEY_FILE",
    "ETCD_PASSWORD",
    "ETCD_PASSWORD_FILE",
    "ETCD_USER",
    "INSTANCE_ID",
    "MAIL_LISTEN",
    "REGISTRY_DNS_LISTEN",
    "REGISTRY_LISTEN",
    "REGISTRY_URLS",
    "USERLIST_LISTEN",
];

/// What a service inherits from `of`, the environment of `muster`.
pub(crate) fn of_service(of: &Environment) -> Environment {
    let mut environment: Environment = of
        .iter()
        .filter(|(name, _)| !is_ours(name) && !is_proxy(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    set_unless_given(&mut environment, "LOG_FORMAT", "text");
    environment
}

/// What etcd inherits: nothing that is an option of etcd, because it refuses to start with an option that is given
/// twice, and no proxy, because Go would send even the talk over local sockets through it.
pub(crate) fn of_etcd(of: &Environment) -> Environment {
    let is_foreign = |name: &OsStr| name.to_string_lossy().starts_with("ETCD_") || is_proxy(name);
    let mut environment: Environment =
        of.iter().filter(|(name, _)| !is_foreign(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    if cfg!(target_arch = "aarch64") {
        // Before 3.5, etcd runs on 64-bit ARM only when told that this is meant.
        environment.insert("ETCD_UNSUPPORTED_ARCH".into(), "arm64".into());
    }
    environment
}

/// The names of the settings that are taken out, for a word about it.
pub(crate) fn not_used(of: &Environment) -> Vec<String> {
    let names = of.iter().filter(|(name, value)| is_ours(name) && !value.is_empty()).map(|(name, _)| name);
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Proxies are for the world outside; everything here is on loopback, where no proxy would find it.
fn is_proxy(name: &OsStr) -> bool {
    name.to_string_lossy().to_ascii_uppercase().ends_with("_PROXY")
}

fn is_ours(name: &OsStr) -> bool {
    OURS.iter().any(|ours| name == *ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::sample;

    #[test]
    fn settings_of_a_person_reach_the_services() {
        let given = sample(&[("MAIL_SMTP_URL", "smtp://a"), ("RUST_LOG", "debug"), ("LOG_FORMAT", "json")]);
        assert_eq!(of_service(&given), given);
        assert_eq!(of_service(&sample(&[("LOG_FORMAT", "")])), sample(&[("LOG_FORMAT", "text")]));
    }

    #[test]
    fn what_would_make_two_instances_one_is_taken_out_and_said() {
        let given = sample(&[("ADVERTISE", "a:1"), ("MAIL_LISTEN", "b:2"), ("HTTPS_PROXY", "c"), ("ETCD_USER", "")]);
        assert_eq!(of_service(&given), sample(&[("LOG_FORMAT", "text")]));
        assert_eq!(not_used(&given), ["ADVERTISE", "MAIL_LISTEN"]);
    }

    #[test]
    fn etcd_sees_no_option_of_etcd_and_no_proxy() {
        let given = sample(&[("ETCD_NAME", "a"), ("ETCD_ENDPOINTS", "b"), ("http_proxy", "c"), ("HOME", "/h")]);
        let seen = of_etcd(&given);
        assert_eq!(seen.get(OsStr::new("HOME")), Some(&"/h".into()));
        assert!(!seen.contains_key(OsStr::new("ETCD_NAME")) && !seen.contains_key(OsStr::new("http_proxy")));
    }
}
