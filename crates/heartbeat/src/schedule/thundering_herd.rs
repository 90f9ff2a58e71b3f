//! Ten thousand instances, a registry that turns all of them away for a minute, and its return: on a clock that is only
//! a number, with the schedule and the bookkeeping that the real loop uses.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use super::*;
use crate::registries::Registries;

const INSTANCES: usize = 10_000;
const BUCKET: Duration = Duration::from_millis(100);
/// From a start in which all come at the same moment to the outage; by then they have drifted apart.
const OUTAGE: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(131);

/// How the real registry is bounded: what does not get its turn within this is answered with 503.
const TURN_WAIT: Duration = Duration::from_millis(250);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A registry that takes one heartbeat after the other, and turns away who would wait for too long.
struct Registry {
    each: Duration,
    free_at: Duration,
    turned_away: usize,
}

struct Instance {
    schedule: Schedule,
    registries: Registries,
    /// When the first heartbeat after the outage was taken.
    back: Option<Duration>,
}

/// What was seen.
struct Seen {
    /// Heartbeats by the tenth of a second in which they arrived.
    arrivals: Vec<usize>,
    /// After the outage.
    turned_away: usize,
    /// The last one to be back, after the outage.
    last_back: Duration,
    missing: usize,
}

impl Registry {
    /// When it answers, and whether it has taken the heartbeat.
    fn ask(&mut self, now: Duration) -> (Duration, bool) {
        let turn = self.free_at.max(now);
        let is_out = (OUTAGE..BACK).contains(&now);
        if is_out || turn - now > TURN_WAIT {
            self.turned_away += usize::from(!is_out && now >= BACK);
            return (now + TURN_WAIT, false);
        }
        self.free_at = turn + self.each;
        (self.free_at, true)
    }
}

impl Seen {
    fn between(&self, from: Duration, to: Duration) -> &[usize] {
        &self.arrivals[bucket(from)..bucket(to)]
    }

    fn most(&self, from: Duration, to: Duration) -> usize {
        self.between(from, to).iter().copied().max().unwrap_or_default()
    }

    fn mean(&self, from: Duration, to: Duration) -> f64 {
        let within = self.between(from, to);
        within.iter().sum::<usize>() as f64 / within.len() as f64
    }
}

fn bucket(at: Duration) -> usize {
    (at.as_millis() / BUCKET.as_millis()) as usize
}

/// Plays it through with a registry that takes `per_second` heartbeats.
fn play(per_second: u32) -> Seen {
    let mut rng = StdRng::seed_from_u64(20_261_121);
    let epoch = Instant::now();
    let mut registry = Registry { each: Duration::from_secs(1) / per_second, free_at: Duration::ZERO, turned_away: 0 };
    let instance =
        || Instance { schedule: Schedule::new(Ttl::default()), registries: Registries::new(1, 0), back: None };
    let mut instances: Vec<Instance> = (0..INSTANCES).map(|_| instance()).collect();
    let mut due: BinaryHeap<_> = (0..INSTANCES).map(|index| Reverse((Duration::ZERO, index))).collect();
    let mut arrivals = vec![0; bucket(END) + 1];
    while let Some(Reverse((now, index))) = due.pop().filter(|Reverse((now, _))| *now < END) {
        arrivals[bucket(now)] += 1;
        let (answered, is_taken) = registry.ask(now);
        let instance = &mut instances[index];
        let started = epoch + now;
        let ended = epoch + answered;
        let draw = rng.random_range(0.0..=1.0);
        let next = if is_taken {
            instance.registries.worked(0);
            instance.back = instance.back.or((now >= BACK).then_some(answered));
            let reply = HeartbeatReply { ttl_ms: 5000, next_heartbeat_ms: 2000, ..HeartbeatReply::default() };
            let verdict = Verdict::Accepted { next: instance.schedule.wish(&reply) };
            instance.schedule.next(verdict, started, ended, draw)
        } else {
            instance.registries.asked_to_wait(
                0,
                ended,
                ended + held(RETRY_AFTER, HELD_MAX, rng.random_range(0.0..=1.0)),
            );
            let next = instance.schedule.next(Verdict::Failed, started, ended, draw);
            next.max(instance.registries.held_until(ended).unwrap_or(next))
        };
        due.push(Reverse((next - epoch, index)));
    }
    let last_back = instances.iter().filter_map(|instance| instance.back).max().unwrap_or_default();
    let missing = instances.iter().filter(|instance| instance.back.is_none()).count();
    Seen { arrivals, turned_away: registry.turned_away, last_back: last_back.saturating_sub(BACK), missing }
}

#[test]
fn ten_thousand_come_back_from_an_outage_of_a_minute_without_a_stampede() {
    let second = Duration::from_secs(1);
    // The first has room for all of them; the second is at its limit with 10,000 heartbeats in 1.9 s.
    for per_second in [20_000, 5_600] {
        let seen = play(per_second);
        let steady = seen.mean(OUTAGE - 20 * second, OUTAGE);
        let ratio = |from, to| seen.most(from, to) as f64 / steady;
        let start = ratio(Duration::ZERO, second);
        let before = ratio(OUTAGE - 20 * second, OUTAGE);
        let during = ratio(OUTAGE + second, BACK);
        let after = ratio(BACK, BACK + 10 * second);
        println!(
            "{per_second}/s: {steady:.0} arrivals in 100 ms when all is well; at most, as a multiple of that: {start:.2} when \
             all start at once, {before:.2} when all is well, {during:.2} in the outage, {after:.2} after it; all back after \
             {:?}, {} turned away, {} missing",
            seen.last_back, seen.turned_away, seen.missing
        );
        assert_eq!(seen.missing, 0);
        assert!(seen.last_back < Ttl::default().get(), "before a lease that etcd renewed when it came back has ended");
        // The start, in which all come in the same tenth of a second, can still be seen a minute later.
        assert!(before < 2.0 && during < 2.0 && after < 2.0, "{before} {during} {after}");
    }
}

#[test]
fn pauses_are_spread_evenly_over_their_interval() {
    const DRAWS: u32 = 10_000;
    let mut rng = StdRng::seed_from_u64(7);
    let now = Instant::now();
    let mut tenths = [0_u32; 10];
    for _ in 0..DRAWS {
        let mut schedule = Schedule::new(Ttl::default());
        let mut failed = |draw| schedule.next(Verdict::Failed, now, now, draw) - now;
        (0..5).for_each(|_| _ = failed(0.5));
        let floor = failed(0.0);
        let ceiling = failed(1.0);
        let share = (failed(rng.random_range(0.0..1.0)) - floor).as_secs_f64() / (ceiling - floor).as_secs_f64();
        tenths[(share * 10.0) as usize] += 1;
    }
    for count in tenths {
        assert!((DRAWS / 10 * 85 / 100..=DRAWS / 10 * 115 / 100).contains(&count), "{tenths:?}");
    }
    let waits: Vec<u128> = (0..100)
        .map(|_| held(Duration::from_secs(1), HELD_MAX, rng.random_range(0.0..=1.0)).as_millis() / 100)
        .collect();
    let different: std::collections::BTreeSet<_> = waits.iter().collect();
    assert!(
        different.len() >= 9,
        "who is asked to wait for a second comes at any time of the second after it: {waits:?}"
    );
}
