//! The command line: what is measured, in which order.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;

use crate::{
    calibrate,
    changes::{self, CROWDS, Crowd},
    gateway::{Gateway, Kind},
    harness::Harness,
    install, instructions, machine,
    pin::Cores,
    report,
    rows::{self, Extent},
    snapshot::Known,
};

/// So many of the [`CROWDS`], the first ones, are in the whole run.
const CROWDS_IN_SHORT: usize = 2;

/// What a request costs: balance beside nginx, HAProxy, Envoy and Caddy, on two cores of this machine.
///
/// Prints Markdown tables; doc/performance.md tells how to read them. Takes about eleven minutes, with --quick two and a half. nginx
/// is needed, the others are left out where they are not installed.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// Two minutes: three rounds of one second instead of five of three. For a look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Rounds for each row.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// Installs nginx, HAProxy and Caddy with apt, which needs root, and Envoy with pip into a folder beside that of
    /// this program; then ends.
    #[arg(long)]
    install: bool,
    /// The balance program. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    balance: Option<PathBuf>,
    /// Another build of balance. Measures only what a request costs, of both builds in the same rounds, without the
    /// others.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// Counts the instructions of a request, and nothing else; needs valgrind. Other work on the machine does no harm.
    #[arg(long)]
    instructions: bool,
    /// Measures only what it costs to ask something of clients: keys, tokens, limits.
    #[arg(long, conflicts_with = "beside")]
    access: bool,
    /// Measures only what a change of one instance costs, with 10 to 50,000 instances; needs etcd. With --beside, of
    /// both builds in the same rounds. Four minutes, with --beside eight.
    #[arg(long, conflicts_with_all = ["access", "instructions"])]
    changes: bool,
}

// === impl Options ===

impl Options {
    /// Measures and prints everything.
    ///
    /// # Errors
    ///
    /// Something is not installed, a program did not start, a request failed.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.install {
            return install::install();
        }
        if self.instructions {
            return self.count();
        }
        let is_alone = self.beside.is_some() || self.access || self.changes;
        let has_reference = is_alone || machine::find(Kind::Nginx.name()).is_some();
        ensure!(
            has_reference,
            "nginx is missing, which all are compared with; run: bench --install (needs apt and root)"
        );
        let cores = Cores::choose().context("two cores are needed, one for the gateway and one for the load")?;
        let extent = self.extent();
        let mut harness = Harness::new(cores, self.balance()?)?;
        report::facts(extent);
        if self.changes {
            return changes(&harness, &self.programs()?, &CROWDS, extent);
        }
        if let Some(other) = &self.beside {
            return compare(&mut harness, other, extent);
        }
        if self.access {
            access(&mut harness, extent)?;
            report::passwords(&rows::passwords(&mut harness, extent)?);
            return Ok(());
        }
        report::calibration(calibrate::calibrate(&mut harness, extent.duration)?);

        let kinds = Kind::present();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let start = |kind: &Kind| harness.gateway(*kind, Known::default());
        let gateways = kinds.iter().map(start).collect::<anyhow::Result<Vec<Gateway>>>()?;
        requests(&mut harness, &gateways, extent, &names)?;
        drop(gateways);
        report::idle(&rows::idle(&mut harness, &kinds, extent)?, extent, &names);
        report::populations(&rows::populations(&mut harness, extent)?);
        // Ten rows of one program: a third of the time for each keeps it at a minute.
        let short = Extent { duration: extent.duration / 3, ..extent };
        access(&mut harness, short)?;
        match changes::etcd() {
            Some(_) => changes(&harness, &self.programs()?, &CROWDS[..CROWDS_IN_SHORT], short),
            None => {
                println!("\nWhat a change costs is left out: etcd is not installed.");
                Ok(())
            }
        }
    }

    fn count(&self) -> anyhow::Result<()> {
        let cores = Cores::choose().context("two cores are needed, one for the gateway and one for the load")?;
        instructions::print(&mut Harness::new(cores, self.balance()?)?, &self.programs()?)
    }

    fn extent(&self) -> Extent {
        let usual = match self.quick {
            true => Extent { rounds: 3, duration: Duration::from_secs(1), idle_connections: 2_000 },
            false => Extent { rounds: 5, duration: Duration::from_secs(3), idle_connections: 5_000 },
        };
        Extent { rounds: self.rounds.map_or(usual.rounds, usize::from), ..usual }
    }

    /// The builds of `balance` that are compared: this one, and the other if there is one.
    fn programs(&self) -> anyhow::Result<Vec<PathBuf>> {
        Ok([Some(self.balance()?), self.beside.clone()].into_iter().flatten().collect())
    }

    fn balance(&self) -> anyhow::Result<PathBuf> {
        match &self.balance {
            Some(file) => Ok(file.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("balance")),
        }
    }
}

/// What a request costs, of this build and of the `other` one.
fn compare(harness: &mut Harness, other: &Path, extent: Extent) -> anyhow::Result<()> {
    let gateways = [harness.gateway(Kind::Balance, Known::default())?, harness.gateway_of(other)?];
    requests(harness, &gateways, extent, &["balance", "the other build"])
}

/// What it costs to ask something of clients.
fn access(harness: &mut Harness, extent: Extent) -> anyhow::Result<()> {
    let (features, rounds) = rows::access(harness, extent)?;
    report::access(&features, &rounds);
    Ok(())
}

/// What a change of one instance costs, of each of these `programs`.
fn changes(harness: &Harness, programs: &[PathBuf], crowds: &[Crowd], extent: Extent) -> anyhow::Result<()> {
    report::changes(programs.len());
    for crowd in crowds {
        report::changes_of(&changes::measure(harness, programs, *crowd, extent)?, programs.len());
    }
    Ok(())
}

fn requests(harness: &mut Harness, gateways: &[Gateway], extent: Extent, columns: &[&str]) -> anyhow::Result<()> {
    let shapes = rows::shapes(harness, gateways, extent)?;
    report::shapes(&shapes, columns);
    let per_second = rows::half_of(&shapes[0].2, report::REFERENCE);
    report::fixed_rate(&rows::fixed_rate(harness, gateways, extent, per_second)?, per_second, columns);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_shorter_and_rounds_can_be_chosen() {
        let extent = |args: &[&str]| Options::try_parse_from([&["bench"], args].concat()).unwrap().extent();
        assert!(extent(&["--quick"]).duration < extent(&[]).duration);
        assert_eq!(extent(&["--quick", "--rounds", "7"]).rounds, 7);
        assert!(Options::try_parse_from(["bench", "--rounds", "0"]).is_err());
    }

    #[test]
    fn changes_are_measured_of_one_build_or_of_two_and_beside_nothing_else() {
        let options = |args: &[&str]| Options::try_parse_from([&["bench", "--changes"], args].concat());
        assert_eq!(options(&["--balance", "new"]).unwrap().programs().unwrap(), [Path::new("new")]);
        let two = options(&["--balance", "new", "--beside", "old"]).unwrap().programs().unwrap();
        assert_eq!(two, [Path::new("new"), Path::new("old")]);
        assert!(options(&["--access"]).is_err() && options(&["--instructions"]).is_err());
    }
}
