//! Picking from a subset: what it must not change.

use super::*;
use crate::load_balancing::subset::{CoreSubsets, SIZE_MIN, Side};

/// Instances of these weights; `i7:1` is the seventh.
pub(super) fn many(policy: Policy, weights: &[u64], cores: usize, seed: u64) -> Balancer {
    let addresses: Vec<_> = (0..weights.len()).map(|n| format!("i{n}:1")).collect();
    let given: Vec<_> = addresses.iter().zip(weights).map(|(address, weight)| (&**address, *weight, "")).collect();
    let subsets = CoreSubsets::all(cores, seed).collect();
    Balancer { subsets, cores: Balancer::empty(cores).cores, ..service_with(policy, &given) }
}

/// That policy, under which all cores go over all instances.
pub(super) fn over_all() -> Policy {
    let mut policy = Policy::default();
    policy.load_balancing.sticky = Some(Sticky { cookie: "at".into(), max_age: None });
    policy
}

/// A service at 10 requests a second on its only core, and where it is in time.
struct Quiet {
    service: Balancer,
    at: u64,
}

impl Quiet {
    fn new(policy: Policy, instances: usize) -> Self {
        let mut quiet = Self { service: many(policy, &vec![1; instances], 1, 5), at: 0 };
        quiet.picks(100);
        assert!(quiet.subset().is_some(), "the core picks from a subset");
        quiet
    }

    fn ask(&mut self) -> PickContext<'static> {
        self.at += 100;
        PickContext { now: Millis(self.at), ..ASK }
    }

    fn pick(&mut self) -> Picked {
        let ask = self.ask();
        pick(&self.service, &ask, &TriedInstances::default()).unwrap()
    }

    fn picks(&mut self, requests: usize) -> BTreeMap<String, usize> {
        let mut picks = BTreeMap::new();
        (0..requests).for_each(|_| *picks.entry(address(&self.pick())).or_default() += 1);
        picks
    }

    /// The addresses of the subset now; `None`: all.
    fn subset(&self) -> Option<Vec<String>> {
        let set = self.service.candidates.weighted_set();
        let window = self.service.subsets[0].on(Side::Near).window(set.all().len(), 2)?;
        Some(set.members(window).map(|candidate| candidate.address().to_string()).collect())
    }

    fn index(&self, address: &str) -> usize {
        self.service.candidates.all().iter().position(|one| one.address().to_string() == address).unwrap()
    }

    /// Those of the subset time out until they are ejected; for how long, is the policy's.
    fn silence_subset(&mut self) -> Vec<String> {
        let subset = self.subset().unwrap();
        for address in &subset {
            silence_at(&self.service, self.index(address), Millis(self.at));
        }
        subset
    }
}

/// With ejections of a minute.
fn long_ejections() -> Policy {
    let mut policy = Policy::default();
    policy.health.passive.base_ejection = Duration::from_secs(60);
    policy.health.passive.max_ejection = Duration::from_secs(60);
    policy
}

#[test]
fn no_more_than_sixteen_instances_have_no_subset() {
    let mut service = Quiet { service: many(Policy::default(), &[1; SIZE_MIN], 1, 5), at: 0 };
    let order: Vec<_> = (0..SIZE_MIN).map(|_| address(&service.pick())).collect();
    assert_eq!(order, (0..SIZE_MIN).map(|n| format!("i{n}:1")).collect::<Vec<_>>());
    assert_eq!(service.picks(160).values().copied().collect::<Vec<_>>(), [10; SIZE_MIN]);
    assert_eq!(service.subset(), None);
}

#[test]
fn a_subset_whose_instances_are_all_ejected_is_stood_in_for_by_others() {
    let mut quiet = Quiet::new(long_ejections(), 100);
    let ejected = quiet.silence_subset();
    let picks = quiet.picks(160);
    assert!(ejected.iter().all(|address| !picks.contains_key(address)), "{picks:?}");
    let most = picks.values().max().unwrap();
    assert!(picks.len() >= SIZE_MIN && *most <= 30, "each stands in for one: {picks:?}");
}

#[test]
fn every_second_instance_of_all_may_be_ejected() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma] {
        let policy = Policy { load_balancing: by(strategy).load_balancing, ..long_ejections() };
        let mut quiet = Quiet::new(policy, 64);
        (0..64).step_by(2).for_each(|index| silence_at(&quiet.service, index, Millis(quiet.at)));
        for _ in 0..300 {
            assert!(!quiet.pick().candidate.state.outlier.is_unhealthy(), "{strategy:?}");
        }
    }
}

fn silence_at(service: &Balancer, index: usize, now: Millis) {
    let candidate = &service.candidates.all()[index];
    for _ in 0..2 {
        service.record(candidate, Outcome::TimedOut, Duration::ZERO, now);
    }
}

#[test]
fn a_retry_goes_to_another_instance_until_none_is_left() {
    let mut quiet = Quiet::new(Policy::default(), 60);
    let (ask, mut tried) = (quiet.ask(), TriedInstances::default());
    let mut order = Vec::new();
    while let Some(picked) = pick(&quiet.service, &ask, &tried) {
        tried.add(&picked.candidate);
        order.push(address(&picked));
    }
    order.sort();
    order.dedup();
    assert_eq!(order.len(), 60);
}

#[test]
fn an_ejected_instance_comes_back_wherever_the_window_is() {
    for instances in [50, 3000] {
        let mut quiet = Quiet::new(Policy::default(), instances);
        let subset = quiet.subset().unwrap();
        let outside = |one: &Arc<Candidate>| !subset.contains(&one.address().to_string());
        let far = quiet.service.candidates.all().iter().rposition(outside).unwrap();
        refuse_at(&quiet.service, far, Millis(quiet.at));
        let ends = quiet.at + 1000;
        let picked = std::iter::from_fn(|| Some(quiet.pick())).take(60).find(|picked| picked.is_probation);
        let picked = picked.expect("within six seconds");
        assert!(quiet.at >= ends - 200, "not before its ejection was over");
        assert_eq!(picked.candidate.serial, quiet.service.candidates.all()[far].serial);
    }
}

fn refuse_at(service: &Balancer, index: usize, now: Millis) {
    service.record(&service.candidates.all()[index], Outcome::ConnectFailed, Duration::ZERO, now);
}

#[test]
fn the_dead_cost_no_more_requests_than_over_all() {
    let failed = |policy: Policy| {
        let mut quiet = Quiet { service: many(policy, &[1; 300], 1, 5), at: 0 };
        (0..140).for_each(|index| refuse_at(&quiet.service, index, Millis(quiet.at)));
        let dead: Vec<u64> = quiet.service.candidates.all()[..140].iter().map(|one| one.serial).collect();
        let mut failed = 0;
        for _ in 0..6000 {
            let picked = quiet.pick().candidate;
            if dead.contains(&picked.serial) {
                failed += 1;
                quiet.service.record(&picked, Outcome::ConnectFailed, Duration::ZERO, Millis(quiet.at));
            }
        }
        failed
    };
    let (in_a_subset, over_all) = (failed(Policy::default()), failed(over_all()));
    println!("of 6,000 requests failed first: {in_a_subset} from a subset, {over_all} over all");
    assert!(in_a_subset < over_all, "{in_a_subset} instead of {over_all}");
}

#[test]
fn panic_is_over_all() {
    let mut quiet = Quiet::new(Policy::default(), 40);
    (0..30).for_each(|index| silence_at(&quiet.service, index, Millis(quiet.at)));
    assert_eq!(quiet.picks(80).len(), 40);
}

#[test]
fn a_burst_spreads_over_as_many_instances_as_it_has_requests() {
    for strategy in [Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma] {
        let mut quiet = Quiet::new(by(strategy), 200);
        let now = quiet.ask();
        let begin = || pick(&quiet.service, &now, &TriedInstances::default()).unwrap().candidate.begin(0).unwrap();
        let _under_way: Vec<_> = (0..150).map(|_| begin()).collect();
        let in_flight = quiet.service.candidates.all().iter().map(|one| one.state.load.in_flight());
        let in_flight: Vec<u32> = in_flight.collect();
        let used = in_flight.iter().filter(|count| **count > 0).count();
        let most = in_flight.iter().max().unwrap();
        assert!(used >= 120 && *most <= 3, "{strategy:?}: {used} instances, up to {most}");
    }
}

#[test]
fn a_window_that_has_grown_shrinks_again() {
    let mut quiet = Quiet::new(Policy::default(), 200);
    let now = quiet.ask();
    let begin = || pick(&quiet.service, &now, &TriedInstances::default()).unwrap().candidate.begin(0).unwrap();
    let under_way: Vec<_> = (0..100).map(|_| begin()).collect();
    drop(under_way);
    assert!(quiet.subset().is_some_and(|subset| subset.len() >= 90));
    quiet.picks(50);
    assert!(quiet.subset().is_some_and(|subset| subset.len() > 40), "slowly");
    quiet.picks(250);
    assert!(quiet.subset().is_some_and(|subset| subset.len() <= 24));
}

#[test]
fn full_instances_are_passed_over() {
    let mut quiet = Quiet::new(Policy::default(), 60);
    let subset = quiet.subset().unwrap();
    let fill = |address: &String| {
        let candidate = &quiet.service.candidates.all()[quiet.index(address)];
        candidate.state.load.limit(1, 0);
        candidate.begin(0).unwrap()
    };
    let _under_way: Vec<_> = subset.iter().map(fill).collect();
    for _ in 0..40 {
        assert!(!quiet.pick().candidate.state.load.is_full());
    }
}

#[test]
fn long_requests_do_not_pile_up() {
    let mut quiet = Quiet { service: many(Policy::default(), &[1; 400], 1, 5), at: 0 };
    let mut under_way = std::collections::VecDeque::new();
    for _ in 0..2400 {
        quiet.at += 50;
        let ask = PickContext { now: Millis(quiet.at), ..ASK };
        let candidate = pick(&quiet.service, &ask, &TriedInstances::default()).unwrap().candidate;
        under_way.push_back(quiet.service.begin(&candidate, 0).unwrap());
        if under_way.len() > 200 {
            under_way.pop_front();
        }
        let most = candidate.state.load.in_flight();
        assert!(most <= 2, "{most} at one, {} ms after the first", quiet.at);
    }
    drop(under_way);
    assert_eq!(quiet.service.subsets[0].under_way().requests(), 0);
}

#[test]
fn streams_go_where_there_is_room() {
    for wants_upgrade in [true, false] {
        let mut quiet = Quiet::new(Policy::default(), 50);
        quiet.service.candidates.all().iter().for_each(|one| one.state.load.limit(u32::MAX, 10));
        let mut streams = Vec::new();
        for n in 0..440 {
            quiet.at += 125;
            let ask = PickContext { now: Millis(quiet.at), wants_upgrade, ..ASK };
            let candidate = pick(&quiet.service, &ask, &TriedInstances::default()).unwrap().candidate;
            let mut stream = quiet.service.begin(&candidate, 0).unwrap();
            assert!(stream.become_stream(), "stream {n} is refused while others have room");
            streams.push(stream);
        }
        drop(streams);
        quiet.picks(100);
        assert!(quiet.subset().is_some() && !quiet.service.subsets[0].under_way().has_streams());
    }
}

#[test]
fn zones_have_a_window_each() {
    let addresses: Vec<_> = (0..80).map(|n| format!("i{n}:1")).collect();
    let zone = |n: usize| if n < 40 { "east" } else { "west" };
    let given: Vec<_> = addresses.iter().enumerate().map(|(n, address)| (&**address, 1, zone(n))).collect();
    let mut quiet = Quiet { service: service_with(long_ejections(), &given), at: 0 };
    quiet.picks(100);
    let near = quiet.picks(40);
    assert!(near.keys().all(|address| is_near(&quiet, address)) && near.len() <= 20, "{near:?}");
    (0..20).for_each(|index| silence_at(&quiet.service, index, Millis(quiet.at)));
    quiet.picks(100);
    let picks = quiet.picks(100);
    let far = picks.iter().filter(|(address, _)| !is_near(&quiet, address)).map(|(_, count)| count).sum::<usize>();
    assert!((15..=45).contains(&far), "half of the zone takes 70 %: {picks:?}");
}

fn is_near(quiet: &Quiet, address: &str) -> bool {
    quiet.service.candidates.all()[quiet.index(address)].instance.zone.as_deref() == Some("east")
}

#[test]
fn hashes_and_cookies_are_over_all() {
    for policy in [by(Strategy::Hash), over_all()] {
        let mut quiet = Quiet { service: many(policy, &[1; 60], 1, 5), at: 0 };
        assert_eq!(quiet.picks(60).len(), 60, "without a hash and a cookie, too");
        assert!(quiet.subset().is_none());
    }
}

#[test]
fn the_last_resort_is_over_all() {
    let mut quiet = Quiet { service: many(Policy::default(), &[1; 60], 1, 5), at: 0 };
    quiet.service.last_resort = std::mem::take(&mut quiet.service.candidates);
    quiet.picks(40);
    assert_eq!(quiet.picks(60).len(), 60);
}

#[test]
fn a_window_hardly_moves_when_an_instance_comes_or_goes() {
    let mut quiet = Quiet::new(Policy::default(), 60);
    let before = quiet.subset().unwrap();
    let all = quiet.service.candidates.all().to_vec();
    for gone in 0..60 {
        let others = all.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, one)| Arc::clone(one));
        quiet.service.candidates = CandidateSet::new(others.collect(), quiet.service.policy(), None, None);
        let after = quiet.subset().unwrap();
        let kept = after.iter().filter(|address| before.contains(address)).count();
        assert!(kept >= SIZE_MIN - 2, "{kept} of {SIZE_MIN}");
    }
}

#[test]
fn the_preview_is_the_next_pick_unless_the_window_moves_with_it() {
    let mut quiet = Quiet::new(Policy::default(), 60);
    let is_right = (0..160).filter(|_| {
        let expected = address(&preview(&quiet.service, Millis(quiet.at + 100)).unwrap());
        address(&quiet.pick()) == expected
    });
    assert!(is_right.count() >= 140);
}

#[test]
fn who_is_in_a_subset_is_who_is_picked() {
    for policy in [Policy::default(), by(Strategy::LeastRequest)] {
        let weights: Vec<u64> = (0..70).map(|n| 1 + n % 5 * 4).collect();
        let mut quiet = Quiet { service: many(policy, &weights, 1, 9), at: 0 };
        quiet.picks(100);
        for _ in 0..300 {
            let picked = quiet.pick().candidate;
            let members = subset_of(&quiet.service, 0, Millis(quiet.at)).unwrap();
            assert!(members.contains(&picked.serial) && members.len() < 50);
        }
    }
}
