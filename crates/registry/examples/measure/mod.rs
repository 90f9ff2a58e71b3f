//! What the processes of a measurement have used, from /proc.

use std::fs;

/// The CPU seconds that a process has used, its threads together.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // Hundredths of a second on every Linux.
    (ticks(11) + ticks(12)) / 100.0
}

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
