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

use crate::{
    message::repeatable::Repeatable,
    upstream::failure::{FirstAttempt, Progress},
};

/// What is known when an attempt has failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    pub(crate) progress: Progress,
    /// What is known of the request at the instance of the failed attempt.
    pub(crate) first_attempt: FirstAttempt,
    /// What the request's head says.
    pub(crate) repeatable: Repeatable,
    /// Whether the whole body can be sent (again): it is empty, was kept, or has not been touched.
    pub(crate) body_is_whole: bool,
    /// How many more attempts this request may have.
    pub(crate) attempts_left: u32,
}

/// The decision, but for the promise about keys and for the budget, which is asked last because asking spends it.
pub(crate) fn is_allowed(situation: Situation) -> bool {
    let Situation { progress, first_attempt, repeatable, body_is_whole, attempts_left } = situation;
    attempts_left > 0
        && body_is_whole
        && match progress {
            Progress::NothingSent => true,
            Progress::Sent => match repeatable {
                Repeatable::Safely => true,
                Repeatable::AfterFailure | Repeatable::ByKey => first_attempt == FirstAttempt::Ended,
                Repeatable::Never => false,
            },
            Progress::TimedOut => false,
        }
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scan, parse_request};

    use super::*;

    fn repeatable(method: &str, lines: &str) -> Repeatable {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scan = Scan::default();
        let request = parse_request(head.as_bytes(), &mut scan, &Limits::default()).unwrap();
        Repeatable::of(&request.method, &request.fields)
    }

    fn situation(progress: Progress, repeatable: Repeatable) -> Situation {
        Situation { progress, first_attempt: FirstAttempt::Ended, repeatable, body_is_whole: true, attempts_left: 1 }
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
                first_attempt: FirstAttempt::MayGoOn,
                ..situation(Progress::Sent, repeatable(method, "Idempotency-Key: k\r\n"))
            })
        };
        assert!(["GET", "HEAD", "OPTIONS"].into_iter().all(given_up));
        assert!(!["PUT", "DELETE", "POST", "PATCH"].into_iter().any(given_up));
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
