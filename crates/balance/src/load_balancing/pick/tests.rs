mod evenness;
mod subsets;

use std::{collections::BTreeMap, time::Duration};

use discovery::policy::{HashOn, Policy, Sticky, Strategy};
use proptest::prelude::*;

use super::*;
use crate::{
    hash::hash,
    instance::{
        candidate::{InFlight, InstanceState},
        outlier::{HealthEpoch, Outcome},
    },
    load_balancing::{candidate_set::CandidateSet, effective_policy::EffectivePolicy},
};

/// `a:1` of weight 3 in zone `east`: `("a:1", 3, "east")`.
type Given<'a> = (&'a str, u64, &'a str);

fn candidate((address, weight, zone): Given<'_>, joined: Option<Millis>, health_epoch: &HealthEpoch) -> Arc<Candidate> {
    let mut candidate = Candidate::sample(address, weight);
    candidate.instance.zone = Some(zone.to_owned()).filter(|zone| !zone.is_empty());
    candidate.state = Arc::new(InstanceState::new(&candidate.key, 4, health_epoch.clone(), joined));
    Arc::new(candidate)
}

/// A service seen from zone `east`.
fn service_with(policy: Policy, given: &[Given<'_>]) -> Balancer {
    let health_epoch = HealthEpoch::default();
    let candidates = given.iter().map(|one| candidate(*one, None, &health_epoch)).collect();
    let candidates = CandidateSet::new(candidates, &policy, Some("east"), None);
    let effective_policy = EffectivePolicy { policy: Arc::new(policy), ..EffectivePolicy::default() };
    Balancer { candidates, effective_policy, health_epoch, ..Balancer::empty(1) }
}

fn service(given: &[(&str, u64)]) -> Balancer {
    let given: Vec<_> = given.iter().map(|(address, weight)| (*address, *weight, "")).collect();
    service_with(Policy::default(), &given)
}

fn by(strategy: Strategy) -> Policy {
    let mut policy = Policy::default();
    policy.load_balancing.policy = strategy;
    policy.load_balancing.hash_on = (strategy == Strategy::Hash).then_some(HashOn::ClientAddress);
    policy
}

const KEEP_ALIVE: Duration = Duration::from_secs(4);

const ASK: PickContext<'_> =
    PickContext { core: 0, hash: None, sticky: None, wants_upgrade: false, keep_alive: KEEP_ALIVE, now: Millis(0) };

fn address(picked: &Picked) -> String {
    picked.candidate.address().to_string()
}

fn picks(service: &Balancer, ask: PickContext<'_>, requests: usize) -> BTreeMap<String, usize> {
    let mut picks = BTreeMap::new();
    for _ in 0..requests {
        *picks.entry(address(&pick(service, &ask, &TriedInstances::default()).unwrap())).or_default() += 1;
    }
    picks
}

fn names(picks: &BTreeMap<String, usize>) -> Vec<&str> {
    picks.keys().map(String::as_str).collect()
}

/// The instance at this index times out until it is ejected.
fn silence(service: &Balancer, index: usize) {
    for _ in 0..2 {
        service.record(&service.candidates.all()[index], Outcome::TimedOut, Duration::ZERO, Millis(0));
    }
}

fn refuse(service: &Balancer, index: usize) {
    service.record(&service.candidates.all()[index], Outcome::ConnectFailed, Duration::ZERO, Millis(0));
}

// === in turn ===

#[test]
fn equal_instances_take_turns() {
    let service = service(&[("a:1", 1), ("b:1", 1), ("c:1", 1)]);
    let order: Vec<_> = (0..6).map(|_| address(&pick(&service, &ASK, &TriedInstances::default()).unwrap())).collect();
    assert_eq!(order, ["a:1", "b:1", "c:1", "a:1", "b:1", "c:1"]);
}

#[test]
fn an_instance_of_weight_3_gets_three_times_the_requests_whatever_the_policy() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma] {
        let picks = picks(&service_with(by(strategy), &[("a:1", 3, ""), ("b:1", 1, "")]), ASK, 4000);
        assert!((2800..=3200).contains(&picks["a:1"]), "{strategy:?} {picks:?}");
    }
}

// === health ===

#[test]
fn an_ejected_instance_is_left_out_and_the_others_share_its_part() {
    let service = service(&[("a:1", 1), ("b:1", 1), ("c:1", 1), ("d:1", 1)]);
    refuse(&service, 1);
    let picks = picks(&service, ASK, 3000);
    assert_eq!(names(&picks), ["a:1", "c:1", "d:1"]);
    assert!(picks.values().all(|count| (850..=1150).contains(count)), "{picks:?}");
}

#[test]
fn the_last_instance_is_never_ejected() {
    let service = service(&[("a:1", 1), ("b:1", 1)]);
    (0..2).for_each(|index| refuse(&service, index));
    assert_eq!(picks(&service, ASK, 10).len(), 2, "when all are ejected, all are used");
}

#[test]
fn when_more_than_half_are_judged_unhealthy_the_judgements_are_disregarded() {
    let service = service(&[("a:1", 1), ("b:1", 1), ("c:1", 1), ("d:1", 1)]);
    (0..2).for_each(|index| silence(&service, index));
    assert_eq!(names(&picks(&service, ASK, 100)), ["c:1", "d:1"], "half of them is believed");
    silence(&service, 2);
    assert_eq!(picks(&service, ASK, 100).len(), 4, "three of four are not");
}

#[test]
fn who_refuses_connections_is_tried_last_even_then() {
    let service = service(&[("a:1", 1), ("b:1", 1), ("c:1", 1), ("d:1", 1)]);
    (0..2).for_each(|index| refuse(&service, index));
    silence(&service, 2);
    assert_eq!(names(&picks(&service, ASK, 100)), ["c:1", "d:1"]);
    let mut tried = TriedInstances::default();
    let order: Vec<_> = std::iter::from_fn(|| {
        let picked = pick(&service, &ASK, &tried)?;
        tried.add(&picked.candidate);
        Some(address(&picked))
    })
    .collect();
    let dead = ["a:1".to_owned(), "b:1".to_owned()];
    assert!(order.len() == 4 && order[2..].iter().all(|last| dead.contains(last)), "{order:?}");
}

#[test]
fn a_panic_threshold_of_zero_believes_every_judgement() {
    let mut policy = Policy::default();
    policy.health.panic_threshold_percent = 0;
    let service = service_with(policy, &[("a:1", 1, ""), ("b:1", 1, ""), ("c:1", 1, ""), ("d:1", 1, "")]);
    (0..3).for_each(|index| silence(&service, index));
    assert_eq!(names(&picks(&service, ASK, 100)), ["d:1"]);
}

#[test]
fn who_fails_the_probes_is_left_out() {
    let service = service(&[("a:1", 1), ("b:1", 1)]);
    service.candidates.all()[0].state.outlier.checked(false);
    assert_eq!(names(&picks(&service, ASK, 10)), ["b:1"]);
}

#[test]
fn one_request_tries_out_an_instance_on_probation() {
    let service = service(&[("a:1", 1), ("b:1", 1)]);
    refuse(&service, 0);
    let later = PickContext { now: Millis(1000), ..ASK };
    let all: Vec<_> = (0..20).map(|_| pick(&service, &later, &TriedInstances::default()).unwrap()).collect();
    let probations: Vec<_> = all.iter().filter(|picked| picked.is_probation).map(address).collect();
    assert_eq!(probations, ["a:1"], "one");
    assert_eq!(all.iter().filter(|picked| address(picked) == "a:1").count(), 1, "and no other goes there");
}

#[test]
fn no_instance_is_tried_twice() {
    let service = service(&[("a:1", 1), ("b:1", 1)]);
    let mut tried = TriedInstances::default();
    for _ in 0..2 {
        tried.add(&pick(&service, &ASK, &tried).unwrap().candidate);
    }
    assert!(pick(&service, &ASK, &tried).is_none());
}

#[test]
fn the_last_resort_is_used_only_when_nobody_is_registered() {
    let suspect = || CandidateSet::new(vec![Arc::new(Candidate::sample("old:1", 1))], &Policy::default(), None, None);
    let registered = Balancer { last_resort: suspect(), ..service(&[("a:1", 1)]) };
    assert_eq!(names(&picks(&registered, ASK, 10)), ["a:1"]);
    let nobody = Balancer { last_resort: suspect(), ..service(&[]) };
    assert_eq!(names(&picks(&nobody, ASK, 10)), ["old:1"]);
    assert!(pick(&service(&[]), &ASK, &TriedInstances::default()).is_none());
}

// === of two ===

fn busy(service: &Balancer, index: usize, requests: usize) -> Vec<InFlight> {
    (0..requests).map(|_| service.candidates.all()[index].begin(0).unwrap()).collect()
}

#[test]
fn of_two_the_one_with_less_under_way_for_its_weight_is_picked() {
    let service = service_with(by(Strategy::LeastRequest), &[("a:1", 1, ""), ("b:1", 4, "")]);
    let _under_way = (busy(&service, 0, 2), busy(&service, 1, 4));
    for _ in 0..100 {
        let picked = pick(&service, &ASK, &TriedInstances::default()).unwrap();
        let drawn_twice = address(&picked) == "a:1";
        assert!(!drawn_twice || picks(&service, ASK, 200)["b:1"] > 150, "b has one each, a has two");
    }
}

#[test]
fn of_two_the_faster_one_is_picked() {
    let service = service_with(by(Strategy::PeakEwma), &[("slow:1", 1, ""), ("fast:1", 1, "")]);
    for (index, ms) in [(0, 200), (1, 2)] {
        let outcome = Outcome::Answered { status: 200 };
        service.record(&service.candidates.all()[index], outcome, Duration::from_millis(ms), Millis(0));
    }
    let picks = picks(&service, ASK, 1000);
    assert!(picks["fast:1"] > 700, "both draws hit the slow one in a quarter of the cases: {picks:?}");
}

#[test]
fn latencies_are_recorded_for_the_policies_that_ask_for_them() {
    for (strategy, is_recorded) in [(Strategy::PeakEwma, true), (Strategy::LeastRequest, false)] {
        let service = service_with(by(strategy), &[("a:1", 1, "")]);
        let candidate = &service.candidates.all()[0];
        service.record(candidate, Outcome::ConnectFailed, Duration::from_millis(7), Millis(0));
        assert_eq!(candidate.state.load.latency_us(), None, "a refused connection says nothing about it");
        service.record(candidate, Outcome::Answered { status: 200 }, Duration::from_millis(7), Millis(0));
        assert_eq!(candidate.state.load.latency_us().is_some(), is_recorded, "{strategy:?}");
    }
}

#[test]
fn an_instance_with_as_many_requests_as_allowed_takes_no_more() {
    let service = service(&[("a:1", 1)]);
    service.candidates.all()[0].state.load.limit(2, 0);
    let under_way = busy(&service, 0, 2);
    assert!(service.candidates.all()[0].begin(0).is_none());
    drop(under_way);
    assert!(service.candidates.all()[0].begin(0).is_some());
}

// === by hash and by cookie ===

#[test]
fn the_same_hash_leads_to_the_same_instance_and_to_another_one_while_that_is_ejected() {
    let service = service_with(by(Strategy::Hash), &[("a:1", 1, "east"), ("b:1", 1, ""), ("c:1", 1, "west")]);
    let owner = |key: u64| picks(&service, PickContext { hash: Some(hash(&key.to_be_bytes())), ..ASK }, 20);
    let before: Vec<_> = (0..300).map(owner).collect();
    assert!(before.iter().all(|picks| picks.len() == 1));
    refuse(&service, 0);
    for (key, before) in (0..).zip(before) {
        let after = owner(key);
        assert!(after.len() == 1 && !after.contains_key("a:1"));
        assert!(before.contains_key("a:1") || before == after, "who was elsewhere stays there");
    }
    assert_eq!(picks(&service, ASK, 100).len(), 2, "without a hash, in turn");
}

#[test]
fn a_cookie_leads_back_to_its_instance_for_as_long_as_that_is_well() {
    let mut policy = Policy::default();
    policy.load_balancing.sticky = Some(Sticky { cookie: "at".into(), max_age: None });
    let service = service_with(policy, &[("a:1", 1, ""), ("b:1", 1, ""), ("c:1", 1, "")]);
    let first = pick(&service, &ASK, &TriedInstances::default()).unwrap();
    assert!(!first.is_sticky);
    let cookie = first.candidate.cookie();
    let again = PickContext { sticky: Some(cookie), ..ASK };
    assert_eq!(names(&picks(&service, again, 10)), [address(&first)]);
    assert!(pick(&service, &again, &TriedInstances::default()).unwrap().is_sticky);
    for nonsense in [&b"x"[..], b"", &[b'f'; 16], &[0xff; 5000]] {
        assert_eq!(picks(&service, PickContext { sticky: Some(nonsense), ..ASK }, 6).len(), 3);
    }
    refuse(&service, 0);
    let elsewhere = pick(&service, &again, &TriedInstances::default()).unwrap();
    assert!(!elsewhere.is_sticky && elsewhere.candidate.serial != first.candidate.serial);
}

#[test]
fn a_cookie_survives_a_restart_and_tells_no_address() {
    let (before, after) = (Candidate::sample("10.0.0.5:7070", 1), Candidate::sample("10.0.0.5:7070", 2));
    assert_eq!(before.cookie(), after.cookie());
    assert!(before.cookie().iter().all(u8::is_ascii_hexdigit));
    assert_ne!(before.cookie(), Candidate::sample("10.0.0.6:7070", 1).cookie());
}

// === slow start and zones ===

#[test]
fn an_instance_that_joins_others_gets_its_share_gradually() {
    let mut policy = Policy::default();
    policy.load_balancing.slow_start = Duration::from_secs(10);
    let mut service = service_with(policy, &[("a:1", 1, "")]);
    let joining = candidate(("new:1", 1, ""), Some(Millis(1000)), &service.health_epoch);
    let all = vec![Arc::clone(&service.candidates.all()[0]), joining];
    service.candidates = CandidateSet::new(all, service.policy(), None, None);
    let share =
        |ms: u64| picks(&service, PickContext { now: Millis(ms), ..ASK }, 10_000).get("new:1").copied().unwrap_or(0);
    // Of two draws the second may hit it, too: p/2 + …
    let (at_once, half_way, later) = (share(1000), share(6000), share(11_000));
    assert!((300..1100).contains(&at_once), "{at_once}");
    assert!((2500..4200).contains(&half_way), "{half_way}");
    assert!((4900..5100).contains(&later), "{later}");
}

#[test]
fn the_own_zone_gets_everything_while_it_can_take_it() {
    let given = [("a:1", 1, "east"), ("b:1", 1, "east"), ("c:1", 1, "west"), ("d:1", 1, "")];
    let service = service_with(Policy::default(), &given);
    assert_eq!(names(&picks(&service, ASK, 100)), ["a:1", "b:1"]);
    silence(&service, 0);
    let picks_now = picks(&service, ASK, 10_000);
    assert!((6800..7200).contains(&picks_now["b:1"]), "half of the zone takes 70 %: {picks_now:?}");
    silence(&service, 1);
    assert_eq!(names(&picks(&service, ASK, 100)), ["c:1", "d:1"], "nobody is left there, and half is no panic");
    let mut indifferent = Policy::default();
    indifferent.load_balancing.zone_preference = false;
    assert_eq!(picks(&service_with(indifferent, &given), ASK, 100).len(), 4);
}

#[test]
fn a_retry_leaves_the_zone_when_nobody_else_is_in_it() {
    let service = service_with(Policy::default(), &[("a:1", 1, "east"), ("b:1", 1, "west")]);
    let mut tried = TriedInstances::default();
    tried.add(&pick(&service, &ASK, &tried).unwrap().candidate);
    assert_eq!(address(&pick(&service, &ASK, &tried).unwrap()), "b:1");
}

// === properties ===

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_gets_a_share_by_weight(weights in prop::collection::vec(1_u64..20, 1..12), which in 0_usize..3) {
        let strategy = [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma][which];
        let addresses: Vec<_> = (0..weights.len()).map(|n| format!("i{n}:1")).collect();
        let given: Vec<_> = addresses.iter().zip(&weights).map(|(address, weight)| (address.as_str(), *weight, "")).collect();
        let picks = picks(&service_with(by(strategy), &given), ASK, 20_000);
        let total: u64 = weights.iter().sum();
        for (address, weight, _) in given {
            let expected = 20_000.0 * weight as f64 / total as f64;
            let count = picks.get(address).copied().unwrap_or_default() as f64;
            prop_assert!((count - expected).abs() < expected * 0.2 + 60.0, "{address}: {count} for {expected}");
        }
    }

    #[test]
    fn an_unhealthy_instance_is_picked_only_when_nobody_else_is_left(
        unhealthy in prop::collection::vec(any::<bool>(), 1..40), which in 0_usize..4,
    ) {
        let strategy = [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma, Strategy::Hash][which];
        let addresses: Vec<_> = (0..unhealthy.len()).map(|n| format!("i{n}:1")).collect();
        let given: Vec<_> = addresses.iter().map(|address| (address.as_str(), 1, "")).collect();
        let mut policy = by(strategy);
        policy.health.panic_threshold_percent = 0;
        let service = service_with(policy, &given);
        for (index, _) in unhealthy.iter().enumerate().filter(|(_, unhealthy)| **unhealthy) {
            silence(&service, index);
        }
        for n in 0..100_u64 {
            let picked = pick(&service, &PickContext { hash: Some(hash(&n.to_be_bytes())), ..ASK }, &TriedInstances::default()).unwrap();
            let is_unhealthy = picked.candidate.state.outlier.is_unhealthy();
            prop_assert!(!is_unhealthy || unhealthy.iter().all(|unhealthy| *unhealthy));
        }
    }
}

#[test]
fn whether_an_instance_is_left_costs_it_neither_its_probation_nor_a_turn() {
    let service = service(&[("a:1", 1)]);
    refuse(&service, 0);
    let candidate = &service.candidates.all()[0];
    let turns = service.cores[0].turns();
    assert!(has_untried(&service, &TriedInstances::default()));
    let later = Millis::now() + Duration::from_secs(3600);
    assert_eq!(candidate.state.outlier.verdict(later), Verdict::Probation);
    assert!(candidate.state.outlier.take_probation(Millis::now()), "the next request decides whether it is well");
    assert_eq!(service.cores[0].turns(), turns);
    let mut tried = TriedInstances::default();
    tried.add(candidate);
    assert!(!has_untried(&service, &tried));
}

#[test]
fn a_full_instance_keeps_its_probation_for_a_request_that_it_can_take() {
    let service = service(&[("a:1", 1)]);
    let candidate = &service.candidates.all()[0];
    candidate.state.load.limit(1, 0);
    let under_way = candidate.begin(0).unwrap();
    refuse(&service, 0);
    let later = PickContext { now: Millis(3_600_000), ..ASK };
    assert!(!pick(&service, &later, &TriedInstances::default()).unwrap().is_probation);
    drop(under_way);
    assert!(pick(&service, &later, &TriedInstances::default()).unwrap().is_probation);
}
