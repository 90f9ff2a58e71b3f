//! Processor time, from /proc.

use std::fs;

/// The CPU seconds that a process has used, its threads together.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // Hundredths of a second on every Linux.
    (ticks(11) + ticks(12)) / 100.0
}
