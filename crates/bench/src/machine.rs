//! What the numbers were measured on.

use std::{fs, path::PathBuf, process::Command};

use crate::gateway::Kind;

/// Facts of this machine, as `name: value`, a line each.
#[must_use]
pub fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    // Not what this process may use: it is on one core by now.
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let mut facts = vec![
        ("processor", model.map_or("unknown", |(_, name)| name.trim()).to_owned()),
        ("cores", cores.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ];
    let peers = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Balance);
    facts.extend(peers.map(|kind| (kind.name(), said(kind.name(), kind.version_option()))));
    facts
}

/// The first line that `program` prints when it is asked for its version.
fn said(program: &str, option: &str) -> String {
    let Some(program) = find(program) else { return "not installed, left out".to_owned() };
    let output = Command::new(program).arg(option).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// Where `bench --install` puts what is no package of the system's: `peers`, beside the folder of this program.
#[must_use]
pub fn peers_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.with_file_name("peers"))
}

/// Where `program` is: on the path, in the [`peers_folder`], or where Debian puts servers, which is on root's path
/// only.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(peers_folder().map(|folder| folder.join("bin")));
    let folders = folders.chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
