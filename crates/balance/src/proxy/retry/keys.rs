//! Whether a service honours `Idempotency-Key`, so that a request that carries one may be sent to it again.
//!
//! The header is the client's; the promise is the service's. It is the operator's word in the policy
//! (`retries.idempotency_key`), or that of the instances: of the one that had the request first, and of all that it could be
//! sent to next. During a rolling update some do not make it yet, and then nothing is repeated.

use discovery::{HonouredKeys, policy::IdempotencyKeys};

use crate::{instance::candidate::Candidate, table::routing_table::Service};

/// Whether a request that `first` was sent may be sent to another instance of `service`, as `head` begins with its request
/// line.
pub(crate) fn are_honoured(service: &Service, first: &Candidate, head: &[u8]) -> bool {
    match service.policy().retries.idempotency_key {
        IdempotencyKeys::Honoured => true,
        IdempotencyKeys::Ignored => false,
        IdempotencyKeys::Announced => {
            let path = path(head);
            let promises = |candidate: &Candidate| {
                path.is_some_and(|path| HonouredKeys::of(&candidate.instance).is_some_and(|keys| keys.covers(path)))
            };
            let others = service.balancer.candidates.all().iter().chain(service.balancer.last_resort.all());
            promises(first) && others.into_iter().all(|other| promises(other))
        }
    }
}

/// The path in the request line, as the instance sees it.
fn path(head: &[u8]) -> Option<&str> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let target = line.split(|byte| *byte == b' ').nth(1)?;
    std::str::from_utf8(target.split(|byte| *byte == b'?').next()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use discovery::policy::{Policy, PolicyDocument};

    use super::*;
    use crate::load_balancing::{balancer::Balancer, candidate_set::CandidateSet, effective_policy::EffectivePolicy};

    fn candidate(port: u16, promise: Option<&str>) -> Arc<Candidate> {
        let mut candidate = Candidate::sample(&format!("10.0.0.1:{port}"), 1);
        let meta = promise.map(|promise| (HonouredKeys::META.to_owned(), promise.to_owned()));
        candidate.instance.meta.extend(meta);
        Arc::new(candidate)
    }

    /// Whether a POST to `/pay?now` is repeated that the first of these instances had.
    fn honoured(promises: &[Option<&str>], policy: &str) -> bool {
        let policy = PolicyDocument::parse(policy.as_bytes()).unwrap().over(&Policy::default()).unwrap();
        let all: Vec<_> = (1..).zip(promises).map(|(port, promise)| candidate(port, *promise)).collect();
        let first = Arc::clone(&all[0]);
        let candidates = CandidateSet::new(all, &policy, None, None);
        let effective_policy = EffectivePolicy { policy: Arc::new(policy), ..EffectivePolicy::default() };
        let balancer = Balancer { candidates, effective_policy, ..Balancer::empty(1) };
        let service = Service { balancer, ..Service::empty("mail".parse().unwrap(), 1) };
        are_honoured(&service, &first, b"POST /pay?now HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    #[test]
    fn every_instance_has_to_promise_it() {
        assert!(honoured(&[Some("honoured"), Some("/pay")], "{}"));
        assert!(!honoured(&[Some("honoured"), None], "{}"));
        assert!(!honoured(&[None, Some("honoured")], "{}"));
        assert!(!honoured(&[Some("/pay"), Some("/pa")], "{}"));
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let says = |word| format!(r#"{{"retries":{{"idempotency_key":"{word}"}}}}"#);
        assert!(honoured(&[None, None], &says("honoured")));
        assert!(!honoured(&[Some("honoured"), Some("honoured")], &says("ignored")));
        assert!(!honoured(&[None, None], &says("announced")));
    }
}
