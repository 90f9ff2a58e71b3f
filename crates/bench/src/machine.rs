//! What the numbers were measured on.

use std::{fs, process::Command};

/// Facts of this machine, as `name: value`, a line each.
#[must_use]
pub fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    // Not what this process may use: it is on one core by now.
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    vec![
        ("processor", model.map_or("unknown", |(_, name)| name.trim()).to_owned()),
        ("cores", cores.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("nginx", said("nginx", "-v")),
        ("haproxy", said("haproxy", "-v")),
    ]
}

/// The first line that `program` prints when it is asked for its version; empty when it is not there.
fn said(program: &str, option: &str) -> String {
    let Some(program) = find(program) else { return "not installed".to_owned() };
    let output = Command::new(program).arg(option).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// Where `program` is: on the path, or where Debian puts servers, which is on root's path only.
#[must_use]
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}
