//! Processor time and memory of a process and its children, from `/proc`.

use std::{fs, io, time::Duration};

/// What a process and all its descendants have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// User and system time since the start; of children only those that still run.
    pub cpu: Duration,
    /// Resident memory now, in bytes. Pages that several processes share count for each.
    pub resident_bytes: u64,
}

// === impl Cost ===

impl Cost {
    /// Of the process `id` and its descendants.
    ///
    /// # Errors
    ///
    /// There is no such process (any more), or no `/proc`.
    pub fn of(id: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let own = Self {
            cpu: ticks(&stat).map(duration_of).ok_or(io::ErrorKind::InvalidData)?,
            resident_bytes: resident(&status).ok_or(io::ErrorKind::InvalidData)?,
        };
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok());
        // A child that ends meanwhile has no cost any more.
        Ok(children.filter_map(|child| Self::of(child).ok()).fold(own, |sum, child| Self {
            cpu: sum.cpu + child.cpu,
            resident_bytes: sum.resident_bytes + child.resident_bytes,
        }))
    }
}

/// User and system ticks of `/proc/PID/stat`. The second field, the name, may hold anything but ends with the last `)`.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // utime and stime are fields 14 and 15; the first one here is field 3.
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Linux shows 100 ticks a second to programs on every architecture that matters (`USER_HZ`).
fn duration_of(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

fn resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 99 0 0 0 120 30 5 5 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(150));
        assert_eq!(duration_of(150), Duration::from_millis(1500));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn this_process_has_a_cost_and_a_missing_one_is_an_error() {
        assert!(Cost::of(std::process::id()).unwrap().resident_bytes > 0);
        assert!(Cost::of(u32::MAX).is_err());
    }
}
