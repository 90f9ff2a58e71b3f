//! Passive health: an instance that fails requests is left alone for a while.
//!
//! Leases are slow to tell of a death: 5 s normally, 12 s when etcd's leader dies with the instance, never while etcd has
//! no quorum. Traffic tells at once, so the first failed connect ejects. Per instance:
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | healthy | in rotation | a failed connect, a connection that broke before its response, no response in time → ejected |
//! | ejected | not picked while another instance is left | its time is over → probation; any response → healthy |
//! | probation | one real request may try it; the others go elsewhere | a response → healthy; a failure → ejected, twice as long |
//!
//! The ejection starts at [`Policy::base`] and doubles up to [`Policy::max`]. Failures during an ejection do not count:
//! thirty requests that were under way when an instance died are one death. An instance that registers anew starts
//! healthy. That the last instance is never ejected is [`crate::pick`]'s doing: when all are ejected, all are used.
//!
//! The state is one atomic word, so that all cores share it without a lock; every transition is a pure function of it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Millis;

/// How long an ejection lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// The first ejection: long enough to spare requests, short enough for an instance that only restarted.
    pub(crate) base: Duration,
    /// The longest one. Discovery knows by then when an instance is really gone.
    pub(crate) max: Duration,
}

/// How long the request of a probation may take before another one may try.
const PROBATION: Duration = Duration::from_secs(1);

/// What traffic has taught about one instance.
#[derive(Debug, Default)]
pub(crate) struct Passive(AtomicU64);

/// One moment's reading of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Healthy,
    Ejected { until: Millis },
    Probation,
}

/// `failures` (15 bits), `on_probation` (1 bit), `until_ms` (48 bits); all zero: healthy.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    failures: u64,
    on_probation: bool,
    until: Millis,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), max: Duration::from_secs(10) }
    }
}

// === impl Passive ===

impl Passive {
    /// Whether the instance is in rotation.
    pub(crate) fn verdict(&self, now: Millis) -> Verdict {
        self.read().verdict(now)
    }

    /// Whether a request may go to the instance now. On probation it may for one caller, who has then taken the turn.
    pub(crate) fn admits(&self, now: Millis) -> bool {
        match self.verdict(now) {
            Verdict::Healthy => true,
            Verdict::Ejected { .. } => false,
            Verdict::Probation => self.change(|state| state.try_out(now)),
        }
    }

    /// A request failed; true when this ejects the instance.
    pub(crate) fn failed(&self, now: Millis, policy: Policy) -> bool {
        self.change(|state| state.failed(now, policy))
    }

    /// A response came; true when this ends an ejection.
    pub(crate) fn succeeded(&self) -> bool {
        // The usual case writes nothing, so that no core takes the cache line from the others.
        self.0.load(Ordering::Relaxed) != 0 && self.change(|state| state.succeeded())
    }

    fn read(&self) -> State {
        State::unpack(self.0.load(Ordering::Relaxed))
    }

    fn change(&self, next: impl Fn(State) -> Option<State>) -> bool {
        let step = |word| next(State::unpack(word)).map(State::pack);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }
}

// === impl State ===

impl State {
    fn verdict(self, now: Millis) -> Verdict {
        match self {
            Self { failures: 0, .. } => Verdict::Healthy,
            Self { until, .. } if now < until => Verdict::Ejected { until },
            Self { .. } => Verdict::Probation,
        }
    }

    fn try_out(self, now: Millis) -> Option<Self> {
        let is_due = self.verdict(now) == Verdict::Probation;
        is_due.then(|| Self { on_probation: true, until: now + PROBATION, ..self })
    }

    fn failed(self, now: Millis, policy: Policy) -> Option<Self> {
        if matches!(self.verdict(now), Verdict::Ejected { .. }) && !self.on_probation {
            return None;
        }
        let doublings = u32::try_from(self.failures).unwrap_or(u32::MAX).min(20);
        let pause = policy.base.saturating_mul(1 << doublings).min(policy.max);
        Some(Self { failures: (self.failures + 1).min(0x7fff), on_probation: false, until: now + pause })
    }

    fn succeeded(self) -> Option<Self> {
        (self.failures > 0).then_some(Self { failures: 0, on_probation: false, until: Millis(0) })
    }

    fn pack(self) -> u64 {
        self.failures << 49 | u64::from(self.on_probation) << 48 | self.until.0 & ((1 << 48) - 1)
    }

    fn unpack(word: u64) -> Self {
        Self { failures: word >> 49, on_probation: word >> 48 & 1 == 1, until: Millis(word & ((1 << 48) - 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { base: Duration::from_millis(1000), max: Duration::from_millis(3000) };

    #[test]
    fn the_first_failure_ejects_and_the_ejection_ends() {
        let passive = Passive::default();
        assert!(passive.admits(Millis(0)));
        assert!(passive.failed(Millis(5), POLICY));
        assert_eq!(passive.verdict(Millis(6)), Verdict::Ejected { until: Millis(1005) });
        assert!(!passive.admits(Millis(1004)));
        assert_eq!(passive.verdict(Millis(1005)), Verdict::Probation);
    }

    #[test]
    fn probation_is_one_request_at_a_time() {
        let passive = Passive::default();
        passive.failed(Millis(0), POLICY);
        assert!(passive.admits(Millis(1000)));
        assert!(!passive.admits(Millis(1000)), "the turn is taken");
        assert!(passive.admits(Millis(2000)), "a probe that never came back does not keep the instance out for ever");
    }

    #[test]
    fn a_failed_probation_ejects_for_twice_as_long_up_to_the_maximum() {
        let passive = Passive::default();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for _ in 0..4 {
            assert!(passive.admits(now));
            assert!(passive.failed(now, POLICY));
            let Verdict::Ejected { until } = passive.verdict(now) else { panic!("it must be ejected") };
            pauses.push(until.0 - now.0);
            now = until;
        }
        assert_eq!(pauses, [1000, 2000, 3000, 3000]);
    }

    #[test]
    fn requests_that_die_together_are_one_death() {
        let passive = Passive::default();
        assert!(passive.failed(Millis(0), POLICY));
        assert!((0..30).all(|_| !passive.failed(Millis(1), POLICY)));
        assert_eq!(passive.verdict(Millis(2)), Verdict::Ejected { until: Millis(1000) });
    }

    #[test]
    fn any_response_heals() {
        let passive = Passive::default();
        assert!(!passive.succeeded(), "a healthy instance has nothing to heal");
        passive.failed(Millis(0), POLICY);
        assert!(passive.succeeded());
        assert_eq!(passive.verdict(Millis(1)), Verdict::Healthy);
        passive.failed(Millis(2), POLICY);
        assert_eq!(passive.verdict(Millis(3)), Verdict::Ejected { until: Millis(1002) }, "the growth starts again");
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for (failures, on_probation, until) in [(0, false, 0), (1, true, 1), (0x7fff, true, (1 << 48) - 1)] {
            let state = State { failures, on_probation, until: Millis(until) };
            assert!(State::unpack(state.pack()) == state);
        }
    }
}
