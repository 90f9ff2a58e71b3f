//! May this request be tried again? One decision, in one place.
//!
//! | what the failed attempt did | again? |
//! |---|---|
//! | sent nothing (no connection, or one that was closed before we wrote) | any method, if the body is still whole |
//! | sent something, and the communication failed: a reset or an end before the head of a response | also what [may be repeated](Repeatable), if its body is still whole |
//! | was given up although the instance may still carry it out, or was answered with nonsense | only [safe](Repeatable::Safely) methods |
//! | used up the time of the whole request | never |
//!
//! A POST that was sent is never replayed: it may have been carried out. Its `Idempotency-Key` changes that only at a
//! service that promises to [honour](keys) keys. Retries are bounded three times: per request
//! ([`Situation::attempts_left`]), by the instances that are left, and over all requests of a service by the [`budget`].

pub(crate) mod budget;
pub(crate) mod keys;

use http1::{Fields, Method, Name, One};

use crate::attempt::Progress;

/// What a request's head says about carrying it out twice. Whether a second attempt may run beside a living one is the
/// same question: only when it is [safe](Self::Safely).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// It only reads (RFC 9110, section 9.2.1), so twice is as good as once.
    Safely,
    /// Twice in a row has the effect of once (RFC 9110, section 9.2.2), and no precondition makes the second fail because
    /// the first was carried out.
    AfterFailure,
    /// It carries one `Idempotency-Key` and no precondition: as [`AfterFailure`](Self::AfterFailure) where keys are honoured.
    ByKey,
    /// Twice is not once.
    Never,
}

/// What is known when an attempt has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) progress: Progress,
    /// Whether the communication failed, so that the first attempt has ended: refused, reset, or closed before the head.
    pub(crate) is_communication: bool,
    /// What the request's head says.
    pub(crate) repeatable: Repeatable,
    /// Whether the whole body can be sent (again): it is empty, was kept, or has not been touched.
    pub(crate) body_is_whole: bool,
    /// How many more attempts this request may have.
    pub(crate) attempts_left: u32,
}

// === impl Repeatable ===

impl Repeatable {
    pub(crate) fn of(method: &Method<'_>, fields: &Fields<'_>) -> Self {
        match method {
            Method::Get | Method::Head | Method::Options => Self::Safely,
            _ if !method.is_idempotent() && !has_one_key(fields) => Self::Never,
            _ if has_precondition(fields) => Self::Never,
            _ if method.is_idempotent() => Self::AfterFailure,
            _ => Self::ByKey,
        }
    }

    /// Whether the method itself says that a repetition does no harm, in one order of events or another.
    pub(crate) fn is_by_method(self) -> bool {
        matches!(self, Self::Safely | Self::AfterFailure)
    }
}

/// Exactly one, and not empty: with several, nothing says which one the service goes by.
fn has_one_key(fields: &Fields<'_>) -> bool {
    matches!(fields.get(Name::IdempotencyKey), One::One(key) if !key.is_empty())
}

/// Whether the request is to be carried out only in a certain state of its resource. All such fields begin alike: `If-Match`,
/// `If-None-Match`, `If-Unmodified-Since` (RFC 9110, section 13.1), `If` (RFC 4918), `If-Schedule-Tag-Match` (RFC 6638).
fn has_precondition(fields: &Fields<'_>) -> bool {
    let is_conditional = |name: &[u8]| {
        name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"if")) && matches!(name.get(2), None | Some(b'-'))
    };
    fields.iter().any(|field| is_conditional(field.name))
}

/// The decision, but for the promise about keys and for the budget, which is asked last because asking spends it.
pub(crate) fn is_allowed(situation: Situation) -> bool {
    let Situation { progress, is_communication, repeatable, body_is_whole, attempts_left } = situation;
    attempts_left > 0
        && body_is_whole
        && match progress {
            Progress::NothingSent => true,
            Progress::Sent => match repeatable {
                Repeatable::Safely => true,
                Repeatable::AfterFailure | Repeatable::ByKey => is_communication,
                Repeatable::Never => false,
            },
            Progress::TimedOut => false,
        }
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scratch, parse_request};

    use super::*;

    fn repeatable(method: &str, lines: &str) -> Repeatable {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scratch = Scratch::default();
        let request = parse_request(head.as_bytes(), &mut scratch, &Limits::default()).unwrap();
        Repeatable::of(&request.method, &request.fields)
    }

    fn situation(progress: Progress, repeatable: Repeatable) -> Situation {
        Situation { progress, is_communication: true, repeatable, body_is_whole: true, attempts_left: 1 }
    }

    fn decide(progress: Progress, method: &str) -> bool {
        is_allowed(situation(progress, repeatable(method, "")))
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
    fn while_the_first_attempt_may_go_on_only_what_is_safe_is_tried_again() {
        let given_up = |method| {
            is_allowed(Situation {
                is_communication: false,
                ..situation(Progress::Sent, repeatable(method, "Idempotency-Key: k\r\n"))
            })
        };
        assert!(["GET", "HEAD", "OPTIONS"].into_iter().all(given_up));
        assert!(!["PUT", "DELETE", "POST", "PATCH"].into_iter().any(given_up));
    }

    #[test]
    fn a_precondition_is_met_once() {
        let lines =
            ["If-Match: \"1\"", "if-none-match: *", "If-Unmodified-Since: x", "If: (<l>)", "IF-Schedule-Tag-Match: x"];
        for line in lines {
            for method in ["PUT", "DELETE", "POST"] {
                let lines = format!("{line}\r\nIdempotency-Key: k\r\n");
                assert_eq!(repeatable(method, &lines), Repeatable::Never, "{method} {line}");
            }
            assert_eq!(repeatable("GET", &format!("{line}\r\n")), Repeatable::Safely, "reading twice does no harm");
        }
        for line in ["Iffy: x", "I: x", "Interface: x"] {
            assert_eq!(repeatable("PUT", &format!("{line}\r\n")), Repeatable::AfterFailure, "{line}");
        }
    }

    #[test]
    fn an_idempotency_key_asks_for_the_promise_of_the_service() {
        assert_eq!(repeatable("POST", "Idempotency-Key: k\r\n"), Repeatable::ByKey);
        assert_eq!(repeatable("PUT", "Idempotency-Key: k\r\n"), Repeatable::AfterFailure);
        for lines in ["Idempotency-Key: \r\n", "Idempotency-Key: k\r\nIdempotency-Key: l\r\n"] {
            assert_eq!(repeatable("POST", lines), Repeatable::Never, "{lines}");
        }
    }

    #[test]
    fn a_deadline_ends_everything() {
        assert!(!decide(Progress::TimedOut, "GET"));
    }

    #[test]
    fn a_body_that_is_gone_or_a_last_attempt_ends_everything() {
        let situation = situation(Progress::NothingSent, Repeatable::Safely);
        assert!(is_allowed(situation));
        assert!(!is_allowed(Situation { body_is_whole: false, ..situation }));
        assert!(!is_allowed(Situation { attempts_left: 0, ..situation }));
    }
}
