//! How often a connection is used again when a core picks from a subset, and how evenly instances are used over a time.

use std::collections::HashMap;

use super::{
    subsets::{many, over_all},
    *,
};
use crate::{clock::TICK, hash::mix};

/// Gateways with a number of cores each that serve requests of one service, each core at its own moments.
struct Fleet {
    gateways: Vec<Balancer>,
    rate: f64,
    /// Gateway and core → when it serves its next request, in milliseconds.
    next: Vec<(usize, usize, f64)>,
    /// Gateway, core and instance → when its connection was used.
    used: HashMap<(usize, usize, String), f64>,
    chance: u64,
    /// How long a request takes, in milliseconds, and those under way: the earliest ends first.
    takes_ms: f64,
    under_way: std::collections::VecDeque<(f64, InFlight)>,
}

/// What came of requests.
#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    /// Requests that opened a connection.
    opened: usize,
    /// Instance → requests.
    counts: BTreeMap<String, usize>,
    /// Instance → when it had its last request, in milliseconds.
    last: HashMap<String, f64>,
    /// The longest time that an instance had none, in milliseconds.
    longest_ms: f64,
}

impl Fleet {
    /// `rate` requests a second for each core, at random moments.
    fn new(policy: &Policy, weights: &[u64], (gateways, cores): (usize, usize), rate: f64) -> Self {
        let gateway = |n: usize| many(policy.clone(), weights, cores, mix(n as u64));
        let next = (0..gateways).flat_map(|gateway| (0..cores).map(move |core| (gateway, core, 0.0))).collect();
        let gateways = (0..gateways).map(gateway).collect();
        let (takes_ms, under_way) = (0.0, Default::default());
        Self { gateways, rate, next, used: HashMap::new(), chance: 7, takes_ms, under_way }
    }

    fn run(&mut self, from: f64, until: f64) -> Seen {
        let mut seen = Seen::default();
        let names = self.gateways[0].candidates.all().iter().map(|one| one.address().to_string());
        let names: Vec<String> = names.collect();
        seen.last.extend(names.iter().map(|name| (name.clone(), from)));
        loop {
            let soonest = (0..self.next.len()).min_by(|a, b| self.next[*a].2.total_cmp(&self.next[*b].2)).unwrap();
            let (gateway, core, at) = self.next[soonest];
            if at > until {
                seen.last.values().for_each(|last| seen.longest_ms = seen.longest_ms.max(until - last));
                return seen;
            }
            self.chance = mix(self.chance);
            let uniform = (self.chance >> 11) as f64 / (1_u64 << 53) as f64;
            self.next[soonest].2 = at - (1.0 - uniform).ln() * 1000.0 / self.rate;
            let tick = TICK.as_millis() as u64;
            let ask = PickContext { core, now: Millis::START + Duration::from_millis(at as u64 / tick * tick), ..ASK };
            while self.under_way.front().is_some_and(|(end, _)| *end <= at) {
                self.under_way.pop_front();
            }
            let picked = pick(&self.gateways[gateway], &ask, &TriedInstances::default()).unwrap();
            if self.takes_ms > 0.0 {
                let request = self.gateways[gateway].begin(&picked.candidate, core).unwrap();
                self.under_way.push_back((at + self.takes_ms, request));
            }
            let name = address(&picked);
            let before = self.used.insert((gateway, core, name.clone()), at);
            if at >= from {
                seen.requests += 1;
                seen.opened += usize::from(before.is_none_or(|before| at - before >= KEEP_ALIVE.as_millis() as f64));
                *seen.counts.entry(name.clone()).or_default() += 1;
                let last = seen.last.insert(name, at).unwrap();
                seen.longest_ms = seen.longest_ms.max(at - last);
            }
        }
    }
}

impl Seen {
    fn opened_percent(&self) -> usize {
        self.opened * 100 / self.requests
    }

    /// The smallest and the largest part that an instance had of an even share, or of its share by weight.
    fn spread(&self, weights: &[u64]) -> (f64, f64) {
        let total: u64 = weights.iter().sum();
        let part = |(n, weight): (usize, &u64)| {
            let count = self.counts.get(&format!("i{n}:1")).copied().unwrap_or_default() as f64;
            count * total as f64 / (*weight as f64 * self.requests as f64)
        };
        let parts: Vec<f64> = weights.iter().enumerate().map(part).collect();
        (parts.iter().copied().fold(f64::MAX, f64::min), parts.iter().copied().fold(0.0, f64::max))
    }
}

const MINUTE: f64 = 60_000.0;

// === what it is for ===

#[test]
fn few_requests_open_a_connection_and_all_instances_take_part() {
    println!(
        "| instances | gateways, cores | requests/s of a core | opened, over all | opened | least, most | longest without |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (instances, fleet, rate) in [(50, (1, 2), 8.0), (50, (1, 1), 12.0), (50, (2, 2), 20.0), (100, (2, 2), 8.0)] {
        let weights = vec![1; instances];
        let before = Fleet::new(&over_all(), &weights, fleet, rate).run(MINUTE, 10.0 * MINUTE);
        let after = Fleet::new(&Policy::default(), &weights, fleet, rate).run(MINUTE, 21.0 * MINUTE);
        let (least, most) = after.spread(&weights);
        let (before, after, longest) = (before.opened_percent(), after.opened_percent(), after.longest_ms / 1000.0);
        println!(
            "| {instances} | {fleet:?} | {rate} | {before} % | {after} % | {least:.2}, {most:.2} | {longest:.0} s |"
        );
        assert!(after <= 12, "{instances} instances at {rate}: {after} % opened a connection");
        assert!(least > 0.8 && most < 1.2, "{instances} instances at {rate}: {least} to {most} of an even share");
        assert!(longest < 1.5 * instances as f64, "{instances} instances at {rate}: none for {longest} s");
    }
}

#[test]
fn by_chance_connections_are_used_again_as_well() {
    for strategy in [Strategy::LeastRequest, Strategy::PeakEwma] {
        let weights = [1; 60];
        let seen = Fleet::new(&by(strategy), &weights, (1, 2), 12.0).run(MINUTE, 21.0 * MINUTE);
        let ((least, most), opened) = (seen.spread(&weights), seen.opened_percent());
        assert!(opened <= 12 && least > 0.7 && most < 1.3, "{strategy:?}: {opened} %, {least} to {most}");
    }
}

#[test]
fn a_core_with_more_requests_than_instances_goes_over_all() {
    for (instances, rate) in [(100, 200.0), (250, 400.0)] {
        let weights = vec![1; instances];
        let seen = Fleet::new(&Policy::default(), &weights, (1, 1), rate).run(MINUTE, 2.0 * MINUTE);
        let (least, most) = seen.spread(&weights);
        assert!(least > 0.95 && most < 1.05 && seen.opened == 0, "{least} to {most}, {} opened", seen.opened);
        assert!(seen.longest_ms < 2000.0, "none for {} ms", seen.longest_ms);
    }
}

#[test]
fn weights_hold_while_requests_take_time() {
    let mixed: Vec<u64> = (0..50).map(|n| if n % 10 == 0 { 8 } else { 1 }).collect();
    let mut heavy = vec![1; 50];
    heavy[7] = 30;
    for weights in [mixed, heavy] {
        let mut fleet = Fleet::new(&Policy::default(), &weights, (1, 2), 12.0);
        fleet.takes_ms = 800.0;
        let (least, most) = fleet.run(MINUTE, 31.0 * MINUTE).spread(&weights);
        assert!(least > 0.75 && most < 1.3, "{least} to {most} of a share by weight");
    }
}

#[test]
fn a_core_whose_connections_would_end_anyway_goes_over_all() {
    let weights = [1; 100];
    let seen = Fleet::new(&Policy::default(), &weights, (1, 1), 2.0).run(MINUTE, 11.0 * MINUTE);
    let (least, most) = seen.spread(&weights);
    assert!(least > 0.7 && most < 1.3, "{least} to {most}");
}

#[test]
fn a_regular_request_comes_by_at_every_instance() {
    for every_ms in [10_000, 1000, 250, 125, 100] {
        let service = many(Policy::default(), &[1; 50], 1, 3);
        let mut counts = BTreeMap::new();
        for n in 0..10_000 {
            let ask = PickContext { now: Millis(n * every_ms), ..ASK };
            *counts.entry(address(&pick(&service, &ask, &TriedInstances::default()).unwrap())).or_insert(0) += 1;
        }
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(counts.len() == 50 && *least > 160 && *most < 240, "every {every_ms} ms: {counts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn over_a_time_everybody_gets_a_share_by_weight(
        weights in prop::collection::vec(1_u64..8, 17..70), which in 0_usize..3, gateways in 1_usize..3, cores in 1_usize..4,
    ) {
        let policy = by([Strategy::RoundRobin, Strategy::LeastRequest, Strategy::PeakEwma][which]);
        let mut fleet = Fleet::new(&policy, &weights, (gateways, cores), 10.0);
        let seen = fleet.run(MINUTE, 61.0 * MINUTE);
        let (least, most) = seen.spread(&weights);
        prop_assert!(least > 0.7 && most < 1.35, "{} to {}", least, most);
        prop_assert!(seen.opened_percent() <= 20, "{} % opened", seen.opened_percent());
    }
}
