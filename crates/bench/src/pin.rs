//! Which core runs what: the gateway alone on one, everything else on another.

use nix::{
    Result,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Two cores of those that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// For the gateway under test.
    pub gateway: usize,
    /// For the clients and the upstreams.
    pub load: usize,
}

// === impl Cores ===

impl Cores {
    /// The last two that this process may use: the first one takes most interrupts. `None` when there is only one.
    #[must_use]
    pub fn choose() -> Option<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut cores = (0..CpuSet::count()).rev().filter(|core| allowed.is_set(*core).unwrap_or(false));
        Some(Self { gateway: cores.next()?, load: cores.next()? })
    }

    /// Runs `start` so that the processes that it starts stay on the gateway's core, then comes back to the load's.
    ///
    /// # Errors
    ///
    /// The kernel refuses the core.
    pub fn start_gateway<T>(self, start: impl FnOnce() -> T) -> Result<T> {
        stay_on(self.gateway)?;
        let started = start();
        stay_on(self.load)?;
        Ok(started)
    }
}

/// Keeps this thread, and what it starts from now on, on one core.
fn stay_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_inherits_a_core_of_its_own() {
        let Some(cores) = Cores::choose() else { return };
        assert_ne!(cores.gateway, cores.load);
        std::thread::spawn(move || {
            let show = || std::process::Command::new("nproc").output().map(|output| output.stdout);
            assert_eq!(cores.start_gateway(show).unwrap().unwrap(), b"1\n");
            assert!(sched_getaffinity(Pid::from_raw(0)).unwrap().is_set(cores.load).unwrap());
        })
        .join()
        .unwrap();
    }
}
