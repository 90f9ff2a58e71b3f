//! May this request be tried again? One decision, in one place.
//!
//! | what the failed attempt did | again? |
//! |---|---|
//! | sent nothing (no connection, or one that was closed before we wrote) | any method, if the body is still whole |
//! | sent something, got no response head | only what may be carried out twice: GET, HEAD, OPTIONS, PUT, DELETE (RFC 9110, section 9.2.2), or anything with an `Idempotency-Key`, if its body is still whole |
//! | used up the time of the whole request | never |
//!
//! A POST that was sent is never replayed: it may have been carried out. Retries are bounded three times: per request
//! ([`Situation::attempts_left`]), by the instances that are left, and over all requests of a service by the [`budget`].

pub(crate) mod budget;

use http1::{Fields, Method, Name, One};

/// How far a failed attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not a byte left for the upstream.
    NothingSent,
    /// The upstream may have got the request, or a part of it.
    Sent,
    /// The time for the whole request is over.
    TimedOut,
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

/// Whether the request may be carried out twice without harm: by its method (RFC 9110, section 9.2.2), or because the
/// service recognises it when it comes twice (draft-ietf-httpapi-idempotency-key-header).
pub(crate) fn is_repeatable(method: &Method<'_>, fields: &Fields<'_>) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Options | Method::Put | Method::Delete) || has_one_key(fields)
}

/// Exactly one, and not empty: with several, nobody knows which one the service goes by.
fn has_one_key(fields: &Fields<'_>) -> bool {
    matches!(fields.get(Name::IdempotencyKey), One::One(key) if !key.is_empty())
}

/// The decision, but for the budget, which is asked last because asking spends it.
pub(crate) fn is_allowed(situation: Situation) -> bool {
    let Situation { progress, is_repeatable, body_is_whole, attempts_left } = situation;
    attempts_left > 0
        && body_is_whole
        && match progress {
            Progress::NothingSent => true,
            Progress::Sent => is_repeatable,
            Progress::TimedOut => false,
        }
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scratch, parse_request};

    use super::*;

    fn repeatable(method: &str, lines: &str) -> bool {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scratch = Scratch::default();
        let request = parse_request(head.as_bytes(), &mut scratch, &Limits::default()).unwrap();
        is_repeatable(&request.method, &request.fields)
    }

    fn decide(progress: Progress, method: &str) -> bool {
        let is_repeatable = repeatable(method, "");
        is_allowed(Situation { progress, is_repeatable, body_is_whole: true, attempts_left: 1 })
    }

    #[test]
    fn nothing_sent_is_tried_again_whatever_the_method() {
        for method in ["GET", "POST", "PATCH", "BREW"] {
            assert!(decide(Progress::NothingSent, method));
        }
    }

    #[test]
    fn sent_is_tried_again_only_when_twice_does_no_harm() {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            assert!(decide(Progress::Sent, method));
        }
        for method in ["POST", "PATCH", "BREW"] {
            assert!(!decide(Progress::Sent, method));
        }
    }

    #[test]
    fn an_idempotency_key_makes_a_post_repeatable() {
        assert!(repeatable("POST", "Idempotency-Key: k\r\n"));
        for lines in ["Idempotency-Key: \r\n", "Idempotency-Key: k\r\nIdempotency-Key: l\r\n"] {
            assert!(!repeatable("POST", lines), "{lines}");
        }
    }

    #[test]
    fn a_deadline_ends_everything() {
        assert!(!decide(Progress::TimedOut, "GET"));
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
