//! Processor time and memory of a process and its children, from `/proc`.

use std::{collections::HashMap, fs, io, time::Duration};

/// What a process and all its descendants have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// User and system time since the start; of children only those that still run.
    pub cpu: Duration,
    /// Resident memory now, in bytes. Pages that several processes share count for each.
    pub resident_bytes: u64,
}

/// Processor time of each thread of one process, in nanoseconds.
///
/// [`Cost`] counts in hundredths of a second, which is too coarse for a gateway that has little to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadTimes(HashMap<u32, u64>);

// === impl ThreadTimes ===

impl ThreadTimes {
    /// Of the threads that the process `id` has now.
    ///
    /// # Errors
    ///
    /// There is no such process (any more), or a kernel without `schedstat` (`CONFIG_SCHED_INFO`).
    pub fn of(id: u32) -> io::Result<Self> {
        // The first thread is there as long as the process is; any other may end while it is looked at.
        fs::read_to_string(format!("/proc/{id}/schedstat"))?;
        let threads = fs::read_dir(format!("/proc/{id}/task"))?.flatten();
        let times = threads.filter_map(|thread| {
            let spent = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((thread.file_name().to_str()?.parse().ok()?, on_cpu_ns(&spent)?))
        });
        Ok(Self(times.collect()))
    }

    /// What was used since `earlier`. What a thread used that has ended since is not in it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        let used = |(id, now): (&u32, &u64)| now.saturating_sub(earlier.0.get(id).copied().unwrap_or(0));
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

/// The first field of `schedstat`: nanoseconds on a processor (Documentation/scheduler/sched-stats.rst).
fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
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
    fn a_thread_that_began_counts_from_its_start_and_one_that_ended_does_not_count_backwards() {
        let earlier = ThreadTimes([(1, 1_000), (2, 9_000)].into());
        let later = ThreadTimes([(1, 1_500), (3, 200)].into());
        assert_eq!(later.since(&earlier), Duration::from_nanos(700));
        assert_eq!(on_cpu_ns("3521 12 7\n"), Some(3521));
    }

    #[test]
    fn the_time_of_this_process_grows_as_it_works() {
        let before = ThreadTimes::of(std::process::id()).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while ThreadTimes::of(std::process::id()).unwrap().since(&before) < Duration::from_millis(5) {
            assert!(std::time::Instant::now() < until, "no time was counted");
        }
        assert!(ThreadTimes::of(u32::MAX).is_err());
    }

    #[test]
    fn this_process_has_a_cost_and_a_missing_one_is_an_error() {
        assert!(Cost::of(std::process::id()).unwrap().resident_bytes > 0);
        assert!(Cost::of(u32::MAX).is_err());
    }
}
