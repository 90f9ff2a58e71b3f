//! What the processes of a measurement have used, from /proc.

mod cpu;

use std::fs;

pub(crate) use cpu::cpu;

/// The etcd whose command line has one of these URLs.
pub(crate) fn etcd_pids(urls: &[String]) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("Linux");
    let pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_one = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.split('\0').next().is_some_and(|program| program.ends_with("etcd"))
            && urls.iter().any(|url| line.contains(url))
    };
    pids.filter(is_one).collect()
}
