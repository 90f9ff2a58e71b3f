//! May this request be tried again? One decision, in one place.
//!
//! | what the failed attempt did | again? |
//! |---|---|
//! | sent nothing (no connection, or one that was closed before we wrote) | any method, if the body is still whole |
//! | sent something, got no response head | only what may be carried out twice: GET, HEAD, OPTIONS, PUT, DELETE (RFC 9110, section 9.2.2), or anything with an `Idempotency-Key`, if its body is still whole |
//! | timed out | never: its deadline is the request's |
//! | failed because of the client | never |
//!
//! A POST that was sent is never replayed: it may have been carried out. Retries are bounded three times: per request
//! ([`Situation::attempts_left`]), by the instances that are left, and over all requests of a service by the [`budget`].

pub(crate) mod budget;

use http::{HeaderMap, HeaderName, Method};

/// Marks a request that the service recognises when it comes twice (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How far a failed attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not a byte left for the upstream.
    NothingSent,
    /// The upstream may have got the request, or a part of it.
    Sent,
    /// The time for the whole request is over.
    TimedOut,
    /// The client broke its own request: left, or sent a body that is too large, malformed or too slow.
    ClientFault,
}

/// What is known when an attempt has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) progress: Progress,
    /// [`is_repeatable`] of the request.
    pub(crate) is_repeatable: bool,
    /// Whether the whole body can be sent (again): it is empty, was kept, or has not been touched.
    pub(crate) body_is_whole: bool,
    /// How many more attempts this request may have.
    pub(crate) attempts_left: u32,
}

/// Whether the request may be carried out twice without harm.
pub(crate) fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
        || has_one_key(headers)
}

/// Exactly one, and not empty: with several, nobody knows which one the service goes by.
fn has_one_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    matches!((keys.next(), keys.next()), (Some(key), None) if !key.as_bytes().trim_ascii().is_empty())
}

/// The decision, but for the budget, which is asked last because asking spends it.
pub(crate) fn is_allowed(situation: Situation) -> bool {
    let Situation { progress, is_repeatable, body_is_whole, attempts_left } = situation;
    attempts_left > 0
        && body_is_whole
        && match progress {
            Progress::NothingSent => true,
            Progress::Sent => is_repeatable,
            Progress::TimedOut | Progress::ClientFault => false,
        }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn decide(progress: Progress, method: &Method) -> bool {
        let is_repeatable = is_repeatable(method, &HeaderMap::new());
        is_allowed(Situation { progress, is_repeatable, body_is_whole: true, attempts_left: 1 })
    }

    #[test]
    fn nothing_sent_is_tried_again_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::PATCH, Method::from_bytes(b"BREW").unwrap()] {
            assert!(decide(Progress::NothingSent, &method));
        }
    }

    #[test]
    fn sent_is_tried_again_only_when_twice_does_no_harm() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert!(decide(Progress::Sent, &method));
        }
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"BREW").unwrap()] {
            assert!(!decide(Progress::Sent, &method));
        }
    }

    #[test]
    fn an_idempotency_key_makes_a_post_repeatable() {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("k"))]);
        assert!(is_repeatable(&Method::POST, &headers));
        let empty = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static(" "))]);
        assert!(!is_repeatable(&Method::POST, &empty));
        let mut two = headers;
        two.append(IDEMPOTENCY_KEY, HeaderValue::from_static("l"));
        assert!(!is_repeatable(&Method::POST, &two));
    }

    #[test]
    fn a_deadline_and_a_client_that_left_end_everything() {
        assert!(!decide(Progress::TimedOut, &Method::GET));
        assert!(!decide(Progress::ClientFault, &Method::GET));
    }

    #[test]
    fn a_body_that_is_gone_or_a_last_attempt_ends_everything() {
        let situation =
            Situation { progress: Progress::NothingSent, is_repeatable: true, body_is_whole: true, attempts_left: 1 };
        assert!(is_allowed(situation));
        assert!(!is_allowed(Situation { body_is_whole: false, ..situation }));
        assert!(!is_allowed(Situation { attempts_left: 0, ..situation }));
    }
}
