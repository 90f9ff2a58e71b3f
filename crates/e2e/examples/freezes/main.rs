//! Freezes etcd's leader (SIGSTOP) for 3 to 10 s, thaws it, and measures what becomes of the instances, again and
//! again.
//!
//! A thawed leader believes for a moment that it still leads, and that all leases have run out which were kept alive at
//! its successor meanwhile; it revokes them (<https://github.com/etcd-io/etcd/issues/15247>). So keys of instances
//! whose heartbeats never stopped are deleted, in some of the rounds, on every version of etcd 3.4 and 3.5 that was
//! tried.
//!
//! ```sh
//! make freezes                              # the etcd on the path, thirty rounds
//! make freezes ETCD_BIN=… FREEZES=10        # another one
//! ```
//!
//! Real processes: three members, two registries, the gateway, and eight instances of one service under 200 requests a
//! second.
#![expect(clippy::unwrap_used, reason = "a panic ends the measurement with a line number")]
#![expect(clippy::print_stdout, reason = "what was measured is shown")]

mod crowd;
mod keys;
mod report;
mod table;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Parser;
use e2e::fault_suite::FaultSuite;
use testkit::etcd;

use self::{crowd::Crowd, keys::KeyWatch, report::Report, report::Round, table::TableLook};

/// How long the thawed leader is watched: an instance that lost its key is back after one heartbeat, that is two
/// seconds.
const AFTERMATH: Duration = Duration::from_secs(4);

/// How much is tried.
#[derive(Debug, Parser)]
struct Options {
    /// How often the leader is frozen.
    #[arg(long, env = "FREEZES", default_value_t = 30)]
    rounds: u32,
    /// How many instances there are beside the three of the fault suite.
    #[arg(long, default_value_t = 5)]
    more: usize,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let mut fault_suite = FaultSuite::start().await;
    let crowd = Crowd::start(&fault_suite, options.more).await;
    let users = fault_suite.users().await;
    let mut report = Report::new(version(), crowd.names.len());
    for number in 0..options.rounds {
        let leader = fault_suite.etcd.leader().await;
        let others: Vec<String> =
            (0..3).filter(|member| *member != leader).map(|one| fault_suite.etcd.endpoint(one)).collect();
        let keys = KeyWatch::start(&others).await;
        let table = TableLook::start(&fault_suite, &crowd.names);
        let started = Instant::now();
        let frozen_for = frozen_for(number);
        fault_suite.etcd.freeze(leader);
        fault_suite.pass(frozen_for).await;
        fault_suite.etcd.thaw(leader);
        let thawed = Instant::now();
        fault_suite.pass(AFTERMATH).await;
        let gaps = keys.stop().await;
        let unused = table.stop().await;
        let round = Round { number, frozen_for, gaps, unused, answers: users.between(started, Instant::now()), thawed };
        println!("{round}");
        report.add(round);
        fault_suite.etcd.healthy().await;
        crowd.all_in_rotation(&fault_suite).await;
    }
    println!("{}\n{report}", report::HEADER);
    drop(users.stop());
}

/// Evenly spread over 3 to 10 s, in an order without a pattern.
fn frozen_for(round: u32) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_75;
    Duration::from_secs_f64(3.0 + 7.0 * (f64::from(round) * GOLDEN).fract())
}

/// `3.4.23`, as the etcd says itself.
fn version() -> String {
    let said = Command::new(etcd::binary()).arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or("of unknown version").to_owned()
}
