//! What a change of one instance costs in the gateway's notebook: processor time of one update and the table after it.
//!
//! `cargo run --release -p balance --example table_changes`. Without etcd, without what follows a table (checks, snapshot): for
//! comparing two states of the code. What a whole gateway needs is in doc/performance.md.
#![expect(clippy::print_stdout, reason = "a person started this by hand")]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use balance::{addresses::AddressPolicy, clock::Millis, discovery::instances::Instances, table::routing_table::Source};
use discovery::{Instance, LeaseId, Registered, Revision, Update};

const CHANGES: usize = 2000;
/// Tables that cores hold still.
const HELD: usize = 2;

fn main() {
    println!("| instances | services | µs a change |\n|---|---|---|");
    for (instances, services) in [(10, 10), (10_000, 2000), (50_000, 2000), (10_000, 1)] {
        println!("| {instances} | {services} | {:.1} |", microseconds(instances, services));
    }
}

/// Changes go round: an instance says something else, goes, comes back.
fn microseconds(count: usize, services: usize) -> f64 {
    let mut instances = Instances::new(2, AddressPolicy::default(), Duration::from_secs(600));
    let all: Vec<_> = (0..count).map(|n| registered(n, services, 1)).collect();
    instances.apply(Update::Reset(all), Millis(0));
    let mut held: VecDeque<_> = instances.table().into_iter().collect();
    let started = Instant::now();
    for change in 0..CHANGES {
        let n = change / 3 * 37 % count;
        let at = Millis(u64::try_from(change).unwrap_or_default() * 10_000);
        let update = match change % 3 {
            0 => Update::Add(registered(n, services, 2)),
            1 => Update::Remove(registered(n, services, 2).key),
            _ => Update::Add(registered(n, services, 1)),
        };
        instances.apply(update, at);
        instances.at(Source::Etcd, Revision(i64::try_from(change).unwrap_or_default()));
        held.extend(instances.table());
        if held.len() > HELD {
            held.pop_front();
        }
    }
    started.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(CHANGES).unwrap_or(u32::MAX))
}

fn registered(n: usize, services: usize, version: i64) -> Registered {
    let key = format!("service/s{}/i{}", n % services, n / services);
    let value = format!("http://10.{}.{}.{}:80?version={version}", n >> 16, n >> 8 & 255, n & 255);
    Registered {
        key: key.parse().expect("a key"),
        instance: Instance::parse(value.as_bytes()).expect("a value"),
        lease: Some(LeaseId(7)),
        created: Revision(1),
        modified: Revision(version),
    }
}
