use proptest::prelude::*;

use super::*;

const FINE: Outcome = Outcome::Answered { status: 200 };
const BAD: Outcome = Outcome::Answered { status: 500 };

fn policy() -> Passive {
    Passive { base_ejection: Duration::from_secs(1), max_ejection: Duration::from_secs(3), ..Passive::default() }
}

fn record(outlier: &Outlier, outcome: Outcome, now: u64) -> Option<Change> {
    outlier.record(outcome, Millis(now), &policy(), 7)
}

/// Records until the instance is ejected; how many records that took, and for how long it is.
fn until_ejected(outlier: &Outlier, outcome: Outcome, now: u64) -> (usize, u64) {
    for n in 1..=300 {
        if let Some(Change::Ejected { lasts }) = record(outlier, outcome, now) {
            return (n, u64::try_from(lasts.as_millis()).unwrap());
        }
    }
    panic!("never ejected")
}

#[test]
fn the_first_failed_connect_ejects_and_the_ejection_ends() {
    let outlier = Outlier::default();
    let (records, lasts) = until_ejected(&outlier, Outcome::ConnectFailed, 5);
    assert!(records == 1 && (800..=1000).contains(&lasts), "{records} {lasts}");
    assert_eq!(outlier.verdict(Millis(6)), Verdict::Ejected { until: Millis(5 + lasts) });
    assert!(!outlier.take_probation(Millis(4 + lasts)));
    assert_eq!(outlier.verdict(Millis(5 + lasts)), Verdict::Probation);
    assert!(outlier.is_unhealthy() && outlier.refuses());
}

#[test]
fn two_silences_or_five_bad_answers_in_a_row_eject() {
    for (outcome, expected) in [(Outcome::TimedOut, 2), (Outcome::Broken, 2), (BAD, 5), (Outcome::Malformed, 5)] {
        assert_eq!(until_ejected(&Outlier::default(), outcome, 0).0, expected, "{outcome:?}");
    }
    let outlier = Outlier::default();
    for _ in 0..10 {
        for outcome in [BAD, BAD, BAD, BAD, FINE, Outcome::TimedOut, FINE, Outcome::Broken, BAD] {
            assert_eq!(record(&outlier, outcome, 0), None, "never so many in a row");
        }
        record(&outlier, FINE, 0);
    }
}

#[test]
fn the_head_of_a_response_is_no_verdict_while_its_body_is_to_come() {
    let outlier = Outlier::default();
    assert_eq!(record(&outlier, Outcome::Begun, 0), None);
    record(&outlier, Outcome::Broken, 0);
    record(&outlier, Outcome::Begun, 0);
    assert!(matches!(record(&outlier, Outcome::Broken, 0), Some(Change::Ejected { .. })), "two breaks in a row");
    assert!(outlier.take_probation(Millis(1000)));
    record(&outlier, Outcome::Begun, 1000);
    assert!(outlier.is_unhealthy(), "its end decides");
    assert_eq!(record(&outlier, FINE, 1001), Some(Change::Readmitted));
}

#[test]
fn what_a_client_can_provoke_never_ejects() {
    let outlier = Outlier::default();
    for status in [400, 401, 403, 404, 405, 413, 422, 429, 431, 501, 505].repeat(30) {
        assert_eq!(record(&outlier, Outcome::Answered { status }, 0), None, "{status}");
    }
}

#[test]
fn a_limit_of_zero_never_ejects() {
    let never = Passive { consecutive_5xx: 0, consecutive_failures: 0, ..policy() };
    let outlier = Outlier::default();
    for outcome in [BAD, Outcome::TimedOut].repeat(300) {
        assert_eq!(outlier.record(outcome, Millis(0), &never, 7), None);
    }
}

#[test]
fn probation_is_one_request_at_a_time() {
    let outlier = Outlier::default();
    record(&outlier, Outcome::ConnectFailed, 0);
    assert!(outlier.take_probation(Millis(1000)));
    assert!(!outlier.take_probation(Millis(1000)), "the turn is taken");
    assert!(outlier.take_probation(Millis(2000)), "a request that never came back does not keep it out for ever");
}

#[test]
fn a_failed_probation_ejects_for_twice_as_long_up_to_the_maximum() {
    for outcome in [Outcome::ConnectFailed, Outcome::TimedOut, BAD] {
        let outlier = Outlier::default();
        let mut now = until_ejected(&outlier, outcome, 0).1;
        for longest in [2000, 3000, 3000] {
            assert!(outlier.take_probation(Millis(now)));
            let (records, lasts) = until_ejected(&outlier, outcome, now);
            assert!(records == 1 && (longest * 4 / 5..=longest).contains(&lasts), "{outcome:?} {records} {lasts}");
            now += lasts;
        }
    }
}

#[test]
fn ejections_are_not_all_equally_long() {
    let lasts: std::collections::BTreeSet<_> = (0..100)
        .map(|seed| {
            Outlier::default()
                .record(Outcome::ConnectFailed, Millis(0), &policy(), seed)
                .map(|change| format!("{change:?}"))
        })
        .collect();
    assert!(lasts.len() > 50, "{lasts:?}");
}

#[test]
fn requests_that_die_together_are_one_death() {
    let outlier = Outlier::default();
    let (_, lasts) = until_ejected(&outlier, Outcome::ConnectFailed, 0);
    for outcome in [Outcome::Broken, Outcome::TimedOut, Outcome::ConnectFailed, BAD].repeat(8) {
        assert_eq!(record(&outlier, outcome, 1), None);
    }
    assert_eq!(outlier.verdict(Millis(2)), Verdict::Ejected { until: Millis(lasts) });
}

#[test]
fn any_good_answer_heals() {
    let outlier = Outlier::default();
    assert_eq!(record(&outlier, FINE, 0), None, "a healthy instance has nothing to heal");
    until_ejected(&outlier, BAD, 0);
    assert_eq!(record(&outlier, FINE, 1), Some(Change::Readmitted));
    assert_eq!(outlier.verdict(Millis(1)), Verdict::Healthy);
    let (records, lasts) = until_ejected(&outlier, BAD, 2);
    assert!(records == 5 && lasts <= 1000, "both counts start again");
}

#[test]
fn a_bad_answer_ends_an_ejection_for_silence_and_not_one_for_bad_answers() {
    let silent = Outlier::default();
    record(&silent, Outcome::ConnectFailed, 0);
    assert!(silent.take_probation(Millis(1000)));
    assert_eq!(record(&silent, BAD, 1001), Some(Change::Readmitted), "it is there");
    let bad = Outlier::default();
    until_ejected(&bad, BAD, 0);
    assert!(bad.take_probation(Millis(1000)));
    assert!(matches!(record(&bad, BAD, 1001), Some(Change::Ejected { .. })));
}

#[test]
fn the_probes_have_a_say_of_their_own() {
    let outlier = Outlier::default();
    assert!(!outlier.checked(true), "no news");
    assert!(outlier.checked(false) && !outlier.checked(false));
    assert_eq!((outlier.verdict(Millis(0)), outlier.is_unhealthy()), (Verdict::Failing, true));
    assert_eq!(record(&outlier, FINE, 0), None, "an answer does not outweigh the probes");
    assert_eq!(outlier.verdict(Millis(0)), Verdict::Failing);
    assert!(outlier.checked(true));
    assert_eq!(outlier.verdict(Millis(0)), Verdict::Healthy);
}

#[test]
fn a_probe_that_passes_lets_a_real_request_decide_at_once() {
    let outlier = Outlier::default();
    assert!(!outlier.shorten_ejection(Millis(0)), "nothing to shorten");
    record(&outlier, Outcome::ConnectFailed, 0);
    assert!(outlier.shorten_ejection(Millis(100)));
    assert_eq!(outlier.verdict(Millis(100)), Verdict::Probation);
    assert!(outlier.take_probation(Millis(100)));
    assert!(!outlier.shorten_ejection(Millis(101)), "it is being tried");
}

#[test]
fn every_judgement_is_counted() {
    let health_epoch = HealthEpoch::default();
    let outlier = Outlier::new(health_epoch.clone());
    record(&outlier, Outcome::TimedOut, 0);
    assert_eq!(health_epoch.count(), 0);
    record(&outlier, Outcome::TimedOut, 0);
    record(&outlier, FINE, 0);
    outlier.checked(false);
    assert_eq!(health_epoch.count(), 3);
}

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(
        bad_answers in 0_u64..256, silences in 0_u64..256, ejections in 0_u64..64,
        refused: bool, failing: bool, on_probation: bool, until in 0_u64..1 << 38,
    ) {
        let state = State { bad_answers, silences, ejections, refused, failing, on_probation, until: Millis(until) };
        prop_assert_eq!(State::unpack(state.pack()), state);
    }

    #[test]
    fn whatever_happens_a_good_answer_leaves_a_clean_instance(steps in prop::collection::vec((0_u8..6, 0_u64..3000), 0..50)) {
        let (outlier, mut now) = (Outlier::default(), 0);
        for (step, later) in steps {
            now += later;
            let outcome = match step {
                0 => FINE,
                1 => BAD,
                2 => Outcome::ConnectFailed,
                3 => Outcome::Broken,
                4 => Outcome::TimedOut,
                _ => { outlier.take_probation(Millis(now)); continue }
            };
            if let Some(Change::Ejected { lasts }) = record(&outlier, outcome, now) {
                prop_assert!(lasts <= policy().max_ejection);
            }
        }
        record(&outlier, FINE, now);
        prop_assert_eq!(outlier.verdict(Millis(now)), Verdict::Healthy);
        prop_assert!(!outlier.is_unhealthy());
    }
}
