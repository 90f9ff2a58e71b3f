//! The command line: what is measured, in which order.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;

use crate::{
    calibrate,
    gateway::{Gateway, Kind, Population},
    harness::Harness,
    instructions, machine,
    pin::Cores,
    report,
    rows::{self, Extent},
};

/// What a request costs: balance beside nginx and HAProxy, on two cores of this machine.
///
/// Prints Markdown tables; doc/performance.md tells how to read them. Takes about eight minutes, with --quick one.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// One minute: three rounds of one second instead of five of three. For a look, not for a comparison.
    #[arg(long)]
    quick: bool,
    /// Rounds for each row.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// Installs nginx and HAProxy with apt, which needs root, and ends.
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
            return install();
        }
        if self.instructions {
            return self.count();
        }
        let peers: &[&str] = if self.beside.is_some() { &[] } else { &["nginx", "haproxy"] };
        let missing: Vec<&str> = peers.iter().copied().filter(|name| machine::find(name).is_none()).collect();
        ensure!(missing.is_empty(), "missing: {}; run: bench --install (needs apt and root)", missing.join(", "));
        let cores = Cores::choose().context("two cores are needed, one for the gateway and one for the load")?;
        let extent = self.extent();
        let mut harness = Harness::new(cores, self.balance()?)?;
        report::facts(extent);
        if let Some(other) = &self.beside {
            return compare(&mut harness, other, extent);
        }
        report::calibration(calibrate::calibrate(&mut harness, extent.duration)?);

        let start = |kind| harness.gateway(kind, Population::default());
        let gateways = Kind::ALL.into_iter().map(start).collect::<anyhow::Result<Vec<Gateway>>>()?;
        requests(&mut harness, &gateways, extent, &Kind::ALL.map(Kind::name))?;
        drop(gateways);
        report::idle(&rows::idle(&mut harness, extent)?, extent);
        report::populations(&rows::populations(&mut harness, extent)?);
        Ok(())
    }

    fn count(&self) -> anyhow::Result<()> {
        let cores = Cores::choose().context("two cores are needed, one for the gateway and one for the load")?;
        let balance = self.balance()?;
        let programs: Vec<&Path> =
            [Some(&balance), self.beside.as_ref()].into_iter().flatten().map(|one| &**one).collect();
        instructions::print(&mut Harness::new(cores, balance.clone())?, &programs)
    }

    fn extent(&self) -> Extent {
        let usual = match self.quick {
            true => Extent { rounds: 3, duration: Duration::from_secs(1), idle_connections: 2_000 },
            false => Extent { rounds: 5, duration: Duration::from_secs(3), idle_connections: 5_000 },
        };
        Extent { rounds: self.rounds.map_or(usual.rounds, usize::from), ..usual }
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
    let gateways = [harness.gateway(Kind::Balance, Population::default())?, harness.gateway_of(other)?];
    requests(harness, &gateways, extent, &["balance", "the other build"])
}

fn requests(harness: &mut Harness, gateways: &[Gateway], extent: Extent, columns: &[&str]) -> anyhow::Result<()> {
    let shapes = rows::shapes(harness, gateways, extent)?;
    report::shapes(&shapes, columns);
    let per_second = rows::half_of(&shapes[0].2, report::REFERENCE);
    report::fixed_rate(&rows::fixed_rate(harness, gateways, extent, per_second)?, per_second, columns);
    Ok(())
}

/// Debian's packages, and neither of them started as a service.
fn install() -> anyhow::Result<()> {
    let apt = ["apt-get", "install", "--yes", "--no-install-recommends", "nginx", "haproxy", "wrk"];
    let status = Command::new(apt[0]).args(&apt[1..]).env("DEBIAN_FRONTEND", "noninteractive").status();
    let status = status.context("cannot run apt-get; install nginx and haproxy in another way")?;
    ensure!(status.success(), "apt-get failed: {status}");
    for service in ["nginx", "haproxy"] {
        // Where there is no systemd, nothing was started either.
        let _ = Command::new("systemctl").args(["disable", "--now", service]).output();
    }
    match machine::find("nginx").and(machine::find("haproxy")) {
        Some(_) => Ok(()),
        None => bail!("apt-get succeeded, but nginx or haproxy is not there"),
    }
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
}
