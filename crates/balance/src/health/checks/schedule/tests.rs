use std::collections::BTreeSet;

use discovery::{Revision, policy::PolicyDocument};
use proptest::prelude::*;

use super::*;
use crate::{
    instance::outlier::Outcome,
    load_balancing::{balancer::Balancer, candidate_set::CandidateSet, effective_policy::EffectivePolicy},
    table::routing_table::{Service, Source},
};

const ROOM: Room = Room { quiet: 50, others: 50, all: 50 };

fn policy(json: &str) -> Policy {
    PolicyDocument::parse(json.as_bytes()).unwrap().over(&Policy::default()).unwrap()
}

/// A table with so many instances of `mail`, all with a health path.
fn table(instances: usize, policy: Policy) -> (Vec<Arc<Candidate>>, RoutingTable) {
    let candidate = |n: usize| {
        let mut candidate = Candidate::sample(&format!("10.0.0.1:{}", n + 1), 1);
        candidate.instance.health = Some("/healthz".parse().unwrap());
        Arc::new(candidate)
    };
    let all: Vec<_> = (0..instances).map(candidate).collect();
    let candidates = CandidateSet::new(all.clone(), &policy, None, None);
    let effective_policy = EffectivePolicy { policy: Arc::new(policy), ..EffectivePolicy::default() };
    let balancer = Balancer { candidates, effective_policy, ..Balancer::empty(1) };
    let service = Service { balancer, ..Service::empty("mail".parse().unwrap(), 1) };
    let services = [("mail".parse().unwrap(), Arc::new(service))].into_iter().collect();
    (all, RoutingTable::new(Source::Etcd, Revision(1), services))
}

const STALL: Duration = Duration::from_millis(500);

fn schedule(instances: usize, policy: Policy) -> (Vec<Arc<Candidate>>, Schedule) {
    let (all, table) = table(instances, policy);
    let mut schedule = Schedule::new(STALL);
    schedule.follow(&table, Millis(0));
    (all, schedule)
}

/// What happened when.
type At<T> = Vec<(u64, T)>;

/// Answers everybody who is asked until `end`, in steps of 100 ms; the moments and events. Silence is an answer when the
/// patience is over.
fn run(schedule: &mut Schedule, from: u64, end: u64, answer: &ProbeResult) -> (At<Due>, At<Event>) {
    let (mut asked, mut events, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for now in (from..end).step_by(100) {
        let is_over = |(until, _): &mut (Millis, Due)| Millis(now) >= *until;
        for (_, due) in waiting.extract_if(.., is_over) {
            events.extend(schedule.answered(&due, answer, Millis(now)).map(|event| (now, event)));
        }
        for due in schedule.due(Millis(now), ROOM) {
            asked.push((now, due.clone()));
            if *answer == ProbeResult::Silent {
                waiting.push((Millis(now) + due.patience, due));
            } else {
                events.extend(schedule.answered(&due, answer, Millis(now)).map(|event| (now, event)));
            }
        }
    }
    (asked, events)
}

#[test]
fn everybody_is_asked_once_in_an_interval_at_a_moment_of_his_own() {
    let (_, mut schedule) = schedule(100, Policy::default());
    let (asked, events) = run(&mut schedule, 0, 2100, &ProbeResult::Good);
    let who: BTreeSet<_> = asked.iter().map(|(_, due)| due.candidate.serial).collect();
    let busiest = (0..21).map(|step| asked.iter().filter(|(at, _)| *at == step * 100).count()).max().unwrap();
    assert!(asked.len().abs_diff(100) <= 10, "{}", asked.len());
    assert!(who.len() == 100 && busiest < 20 && events.is_empty(), "{} {busiest}", who.len());
    assert!(asked.iter().all(|(_, due)| due.question == Question::Get("/healthz".parse().unwrap())));
}

#[test]
fn three_bad_answers_take_an_instance_out_and_two_good_ones_take_it_back_soon() {
    let (all, mut schedule) = schedule(1, Policy::default());
    let (asked, events) = run(&mut schedule, 0, 6100, &ProbeResult::Nonsense);
    let [(out, Event::Failing)] = events[..] else { panic!("{events:?}") };
    assert_eq!((asked.iter().filter(|(at, _)| *at <= out).count(), all[0].state.outlier.is_unhealthy()), (3, true));
    let (_, events) = run(&mut schedule, 6100, 20_000, &ProbeResult::Good);
    let [(back, Event::Passing)] = events[..] else { panic!("{events:?}") };
    assert!(back <= 6100 + 1100, "asked every half second: {back}");
    assert!(!all[0].state.outlier.is_unhealthy());
}

#[test]
fn an_ejected_instance_is_asked_every_half_second_and_a_good_answer_lets_a_request_decide() {
    let (all, mut schedule) = schedule(1, Policy::default());
    let outlier = &all[0].state.outlier;
    run(&mut schedule, 0, 2000, &ProbeResult::Good);
    for round in 0..5 {
        outlier.record(Outcome::ConnectFailed, Millis(2000 + round), &Policy::default().health.passive, 7);
        outlier.take_probation(Millis(60_000));
    }
    outlier.record(Outcome::ConnectFailed, Millis(4000), &Policy::default().health.passive, 7);
    let (asked, _) = run(&mut schedule, 4100, 7100, &ProbeResult::Refused);
    assert!((5..=7).contains(&asked.len()), "{}", asked.len());
    assert!(matches!(outlier.verdict(Millis(7100)), Verdict::Ejected { .. }));
    run(&mut schedule, 7100, 7700, &ProbeResult::Good);
    assert_eq!(outlier.verdict(Millis(7700)), Verdict::Probation);
}

/// Those who were asked whether they are awake, and when.
fn asked_awake(asked: &At<Due>) -> Vec<u64> {
    asked.iter().filter(|(_, due)| due.occasion == Occasion::Quiet).map(|(at, _)| *at).collect()
}

/// One instance with a request under way from 2000 on, which has shown before that it works on several at a time.
fn busy() -> (Arc<Candidate>, Schedule, crate::instance::candidate::InFlight) {
    busy_under(Policy::default())
}

fn busy_under(policy: Policy) -> (Arc<Candidate>, Schedule, crate::instance::candidate::InFlight) {
    let (mut all, mut schedule) = schedule(1, policy);
    run(&mut schedule, 0, 2000, &ProbeResult::Good);
    let one = all.remove(0);
    (0..3).for_each(|_| one.state.vitals.answered(Duration::ZERO, Millis(0), || true));
    let under_way = one.begin(0).unwrap();
    (one, schedule, under_way)
}

#[test]
fn one_that_works_on_several_at_a_time_and_is_silent_is_ejected_in_less_than_a_second() {
    let (one, mut schedule, _under_way) = busy();
    let (asked, events) = run(&mut schedule, 2000, 3000, &ProbeResult::Silent);
    let quiet = asked.iter().find(|(_, due)| due.occasion == Occasion::Quiet).unwrap();
    assert_eq!((quiet.0, &quiet.1.question, quiet.1.patience), (2300, &Question::Ping, AWAKE_PATIENCE));
    assert!(matches!(events[..], [(2600, Event::Stalled(Change::Ejected { .. }))]), "{events:?}");
    assert!(one.state.vitals.is_silent());
}

#[test]
fn it_is_found_dead_while_what_waits_there_has_time_to_be_sent_elsewhere() {
    let mut policy = Policy::default();
    policy.timeouts.response = Duration::from_millis(500);
    let (_one, mut schedule, _under_way) = busy_under(policy);
    let (_, events) = run(&mut schedule, 2000, 3000, &ProbeResult::Silent);
    assert!(matches!(events[..], [(2300, Event::Stalled(Change::Ejected { .. }))]), "{events:?}");
}

#[test]
fn one_that_has_not_shown_that_gets_two_seconds() {
    let (all, mut schedule) = schedule(1, Policy::default());
    run(&mut schedule, 0, 2000, &ProbeResult::Good);
    let _under_way = all[0].begin(0).unwrap();
    let (asked, events) = run(&mut schedule, 2000, 5000, &ProbeResult::Silent);
    assert_eq!(asked_awake(&asked)[0], 2300);
    let [(at, Event::Stalled(_))] = events[..] else { panic!("{events:?}") };
    assert!((4000..=4200).contains(&at), "{at}");
}

#[test]
fn one_that_answered_late_before_may_be_as_late_again() {
    let (one, mut schedule, _under_way) = busy();
    one.state.vitals.answered(Duration::from_millis(1500), Millis(2000), || false);
    let (_, events) = run(&mut schedule, 2000, 7000, &ProbeResult::Silent);
    let [(at, Event::Stalled(_))] = events[..] else { panic!("{events:?}") };
    assert!((5000..=5200).contains(&at), "{at}");
}

#[test]
fn one_that_is_awake_but_slow_stays_and_is_asked_once_a_second() {
    let (one, mut schedule, _under_way) = busy();
    let (asked, events) = run(&mut schedule, 2000, 12_000, &ProbeResult::Good);
    let asked = asked_awake(&asked);
    assert!(events.is_empty() && (9..=10).contains(&asked.len()), "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{asked:?}");
    assert!(!one.state.vitals.is_silent());
}

#[test]
fn one_that_sends_any_byte_is_not_asked() {
    let (one, mut schedule, _under_way) = busy();
    for now in (2000..5000).step_by(100) {
        one.state.vitals.hear(Millis(now));
        assert!(schedule.due(Millis(now), ROOM).iter().all(|due| due.occasion != Occasion::Quiet));
    }
}

#[test]
fn a_health_check_without_an_answer_says_nothing_while_bytes_come() {
    let (all, mut schedule) = schedule(1, Policy::default());
    for now in (0..20_000).step_by(100) {
        if now % 1500 == 0 {
            all[0].state.vitals.hear(Millis(now));
        }
        for due in schedule.due(Millis(now), ROOM) {
            assert_eq!(schedule.answered(&due, &ProbeResult::Silent, Millis(now)), None);
        }
    }
    let (_, events) = run(&mut schedule, 20_000, 40_000, &ProbeResult::Silent);
    assert!(matches!(events[..], [(_, Event::Failing)]), "silent altogether: {events:?}");
}

#[test]
fn one_that_has_left_the_table_is_watched_while_requests_wait_there() {
    let (one, mut schedule, under_way) = busy();
    schedule.follow(&RoutingTable::default(), Millis(2000));
    let (asked, _) = run(&mut schedule, 2000, 4000, &ProbeResult::Silent);
    assert!(one.state.vitals.is_silent());
    assert!(asked.iter().all(|(_, due)| due.occasion == Occasion::Quiet));
    drop(under_way);
    schedule.follow(&RoutingTable::default(), Millis(4000));
    assert!(schedule.entries.iter().next().is_none());
}

#[test]
fn a_byte_that_comes_while_it_is_asked_saves_it() {
    let (one, mut schedule, _under_way) = busy();
    let quiet = schedule.due(Millis(2300), ROOM).into_iter().find(|due| due.occasion == Occasion::Quiet);
    let quiet =
        quiet.or_else(|| schedule.due(Millis(2600), ROOM).into_iter().find(|due| due.occasion == Occasion::Quiet));
    one.state.vitals.hear(Millis(2700));
    assert_eq!(schedule.answered(&quiet.unwrap(), &ProbeResult::Silent, Millis(3000)), None);
    assert!(!one.state.vitals.is_silent());
}

#[test]
fn one_that_listens_no_longer_is_ejected_and_may_finish_what_it_has() {
    let (one, mut schedule, _under_way) = busy();
    let (_, events) = run(&mut schedule, 2000, 2500, &ProbeResult::Refused);
    assert!(matches!(events[..], [(2300, Event::Stalled(Change::Ejected { .. }))]), "{events:?}");
    assert!(!one.state.vitals.is_silent());
}

#[test]
fn without_a_limit_nobody_is_asked_whether_it_is_awake() {
    let (all, table) = table(1, Policy::default());
    let mut schedule = Schedule::new(Duration::ZERO);
    schedule.follow(&table, Millis(0));
    let _under_way = all[0].begin(0).unwrap();
    let (asked, _) = run(&mut schedule, 0, 5000, &ProbeResult::Good);
    assert!(asked_awake(&asked).is_empty());
}

#[test]
fn what_is_asked_follows_the_policy() {
    let question = |json: &str, has_path: bool| {
        let (mut all, _) = table(1, Policy::default());
        let mut candidate = Arc::into_inner(all.remove(0)).unwrap_or_else(|| Candidate::sample("10.0.0.1:1", 1));
        candidate.instance.health = has_path.then(|| "/healthz".parse().unwrap());
        Entry::new(Arc::new(candidate), Arc::new(policy(json)), Millis(0)).question(Occasion::Regular)
    };
    let get = |path: &str| Question::Get(path.parse().unwrap());
    assert_eq!(question("{}", true), get("/healthz"));
    assert_eq!(question("{}", false), Question::Connect);
    assert_eq!(question(r#"{"health":{"active":{"kind":"tcp"}}}"#, true), Question::Connect);
    assert_eq!(question(r#"{"health":{"active":{"path":"/up"}}}"#, true), get("/up"));
    let (_, mut off) = schedule(10, policy(r#"{"health":{"active":{"kind":"off"}}}"#));
    assert!(off.due(Millis(100_000), ROOM).is_empty());
}

#[test]
fn when_the_checks_are_switched_off_their_verdict_is_gone() {
    let (all, mut schedule) = schedule(1, Policy::default());
    run(&mut schedule, 0, 10_000, &ProbeResult::Silent);
    assert!(all[0].state.outlier.is_unhealthy());
    schedule.follow(&RoutingTable::default(), Millis(10_000));
    assert!(!all[0].state.outlier.is_unhealthy());
}

#[test]
fn with_too_many_to_ask_everybody_is_asked_in_the_end() {
    let (_, mut schedule) = schedule(3000, Policy::default());
    let (asked, _) = run(&mut schedule, 0, 8000, &ProbeResult::Good);
    let who: BTreeSet<_> = asked.iter().map(|(_, due)| due.candidate.serial).collect();
    assert_eq!(who.len(), 3000, "at 500 a second");
}

#[test]
fn who_is_asked_for_long_whether_it_is_awake_keeps_no_place_from_the_others() {
    let mut room = Room { quiet: 1, others: 2, all: 50 };
    let asked = [Occasion::Quiet, Occasion::Quiet, Occasion::Regular, Occasion::Ejected, Occasion::Regular];
    assert_eq!(asked.map(|occasion| room.take(occasion)), [true, false, true, true, false]);
    let mut round = Room { quiet: 9, others: 9, all: 1 };
    assert_eq!([Occasion::Quiet, Occasion::Regular].map(|occasion| round.take(occasion)), [true, false]);
}

proptest! {
    #[test]
    fn what_is_followed_by_its_changes_is_what_is_in_the_table(
        all in prop::collection::vec((prop::collection::vec(0..4_u8, 12), any::<bool>()), 1..20),
    ) {
        let pool: Vec<_> = (1..=12).map(|port| Arc::new(Candidate::sample(&format!("10.0.0.1:{port}"), 1))).collect();
        let policies = ["{}", r#"{"health":{"active":{"kind":"off"}}}"#].map(|text| Arc::new(policy(text)));
        let mut schedule = Schedule::new(STALL);
        for (places, is_off) in all {
            let policy = &policies[usize::from(is_off && places[0] == 0)];
            let of = |place: u8| -> Vec<Arc<Candidate>> {
                let here = pool.iter().zip(&places).filter(|(_, here)| **here == place);
                here.map(|(one, _)| Arc::clone(one)).collect()
            };
            let candidates = CandidateSet::new(of(0), policy, None, None);
            let last_resort = CandidateSet::new(of(1), policy, None, None);
            let effective_policy = EffectivePolicy { policy: Arc::clone(policy), ..EffectivePolicy::default() };
            let balancer = Balancer { candidates, last_resort, effective_policy, ..Balancer::empty(1) };
            let service = Service { balancer, ..Service::empty("mail".parse().unwrap(), 1) };
            let services = [("mail".parse().unwrap(), Arc::new(service))].into_iter().collect();
            let table = RoutingTable::new(Source::Etcd, Revision(1), services);
            schedule.follow(&table, Millis(0));
            let mut fresh = Schedule::new(STALL);
            fresh.follow(&table, Millis(0));
            let seen = |schedule: &Schedule| -> BTreeSet<_> {
                let entries = schedule.entries.iter();
                entries.map(|(serial, entry)| (*serial, entry.is_listed, Arc::as_ptr(&entry.policy) as usize)).collect()
            };
            prop_assert_eq!(seen(&schedule), seen(&fresh));
        }
    }
}
