//! What answers in the place of a registry, told by how it answers.
//!
//! A registry takes `PUT /v1/services/…` or says what is wrong with the heartbeat; it knows the path in any case. The
//! gateway takes `v1` for the name of a service. etcd, whose HTTP side is Go's, knows no such path, in Go's words.

use crate::HeartbeatError;

/// The error with its causes, and, where something else than a registry answers, what that is and what to change.
pub(crate) fn explained(error: &HeartbeatError) -> String {
    let chain = service_kit::chain(error).to_string();
    match other(error) {
        Some(what) => format!(
            "{chain}; {what}, not a registry: give the address of a registry, whose port is 8500 by default, with \
             --registry (REGISTRY_URLS)"
        ),
        None => chain,
    }
}

/// Whether `now` shows that something else than a registry answers, which `before` did not: before it listened, its
/// port refused connections as a registry's would.
pub(crate) fn is_news(before: &HeartbeatError, now: &HeartbeatError) -> bool {
    let what = other(now);
    what.is_some() && what != other(before)
}

/// What it is, beginning with "this is".
fn other(error: &HeartbeatError) -> Option<&'static str> {
    match error {
        HeartbeatError::Busy { status: 503, detail, .. } if is_of_gateway(detail) => {
            Some("this is the gateway (balance)")
        }
        HeartbeatError::Refused { status: 404, detail, .. } if detail.starts_with("404 page not found") => {
            Some("this is etcd, by its answer")
        }
        HeartbeatError::Refused { status: 404 | 405, .. } => Some("this is some other HTTP service"),
        _ => None,
    }
}

/// Whether it says that the service `v1` is down, as it does in one of these ways.
fn is_of_gateway(detail: &str) -> bool {
    ["no instance of \"v1\" was", "no instance of v1 was", "whether there is an instance of v1 is", "v1 is down"]
        .iter()
        .any(|start| detail.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_registry_says_itself_needs_no_hint() {
        let registry: crate::RegistryUrl = "http://a:8500".parse().unwrap();
        let refused = |status, detail: &str| {
            explained(&HeartbeatError::Refused {
                registry: registry.clone(),
                status,
                fields: Vec::new(),
                detail: detail.to_owned(),
            })
        };
        for (status, detail) in [(422, "port: 0 is not a port"), (403, "no scope"), (409, "another incarnation")] {
            assert!(refused(status, detail).ends_with(detail));
        }
        assert!(refused(404, "404 page not found").contains("this is etcd"));
        assert!(refused(404, "nothing is served at /v1/services/a/instances/b").contains("some other HTTP service"));
        let busy = |detail: &str| {
            let registry = registry.clone();
            let retry_after = Duration::ZERO;
            explained(&HeartbeatError::Busy {
                registry,
                status: 503,
                detail: detail.to_owned(),
                retry_after,
                holds: None,
            })
        };
        assert!(busy("no instance of \"v1\" was ever registered").contains("this is the gateway"));
        assert!(busy("etcd cannot commit").ends_with("etcd cannot commit"));
    }

    #[test]
    fn what_answers_is_told_also_when_nothing_did_before() {
        let registry: crate::RegistryUrl = "http://a:8500".parse().unwrap();
        let failed = |status, detail: &str| {
            let registry = registry.clone();
            let detail = detail.to_owned();
            HeartbeatError::Busy { registry, status, detail, retry_after: Duration::ZERO, holds: None }
        };
        let silent = HeartbeatError::TimedOut { registry: registry.clone(), after: Duration::ZERO };
        let gateway = failed(503, "v1 is down");
        assert!(is_news(&silent, &gateway) && !is_news(&gateway, &gateway) && !is_news(&gateway, &silent));
    }
}
