//! Which TTL a lease should have in etcd.
//!
//! etcd counts in whole seconds, and has a floor of its own, one and a half election timeouts: an etcd that is tuned for
//! slow links (`--election-timeout 5000`) makes 8 s of the 5 s that it is asked for. A registry that took this for a
//! changed TTL would grant a new lease with every heartbeat, so the floor is learned from the first such lease.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use discovery::Ttl;

/// The floor, as far as it is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct LeaseTtl {
    floor_secs: Arc<AtomicU64>,
}

// === impl LeaseTtl ===

impl LeaseTtl {
    /// What etcd says about a lease that was asked for with `ttl`.
    pub(super) fn wanted_secs(&self, ttl: Ttl) -> u64 {
        u64::from(ttl.as_secs_ceil()).max(self.floor_secs.load(Ordering::Relaxed))
    }

    /// A lease that was just asked for with `asked` was granted for `granted_secs`.
    pub(super) fn granted(&self, asked: Ttl, granted_secs: u64) {
        let asked_secs = u64::from(asked.as_secs_ceil());
        let known = self.floor_secs.load(Ordering::Relaxed);
        let floor_secs = match granted_secs {
            longer if longer > asked_secs => longer,
            // etcd was started anew, with shorter election timeouts.
            _ if known > granted_secs => 0,
            _ => known,
        };
        if floor_secs != known {
            tracing::info!(asked_secs, granted_secs, "etcd's shortest lease has changed");
            self.floor_secs.store(floor_secs, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_etcd_made_longer_is_as_wanted_from_then_on() {
        let lease_ttl = LeaseTtl::default();
        let five = Ttl::default();
        assert_eq!(lease_ttl.wanted_secs(five), 5);
        lease_ttl.granted(five, 5);
        assert_eq!(lease_ttl.wanted_secs(five), 5);
        lease_ttl.granted(five, 8);
        assert_eq!(lease_ttl.wanted_secs(five), 8);
    }

    #[test]
    fn a_longer_ttl_says_nothing_about_the_floor() {
        let lease_ttl = LeaseTtl::default();
        let twenty = Ttl::from_millis(20_000).unwrap();
        lease_ttl.granted(Ttl::default(), 8);
        lease_ttl.granted(twenty, 20);
        assert_eq!((lease_ttl.wanted_secs(twenty), lease_ttl.wanted_secs(Ttl::default())), (20, 8));
    }

    #[test]
    fn a_floor_that_no_longer_holds_is_forgotten() {
        let lease_ttl = LeaseTtl::default();
        let five = Ttl::default();
        lease_ttl.granted(five, 8);
        lease_ttl.granted(five, 5);
        assert_eq!(lease_ttl.wanted_secs(five), 5);
    }
}
