//! Time on the data path: milliseconds since the process started, read once a tick and not once a request.
//!
//! What is measured needs the exact moment of its event. It is read where the event comes in, and passed
//! to all that follows: below that edge no code asks for the time.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

/// How often a core reads the clock, and wakes the connections whose deadline has passed.
pub(crate) const TICK: Duration = Duration::from_millis(100);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment, in milliseconds since 30 days before the process started. Fits into an atomic and into half of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// A moment on both clocks: what was measured, and what others mean who were told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Never goes back: for durations within this run.
    pub(crate) instant: Instant,
    /// May be set: for what has to mean the same to other hosts and after a restart.
    pub(crate) wall: SystemTime,
}

/// The time of one core: set by its ticker, so at most a [`TICK`] behind.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Cell<Millis>,
    /// The time of day, since 1970.
    since_epoch: Cell<Duration>,
    /// The time as a `Date` field has it (RFC 9110, section 5.6.7).
    date: RefCell<String>,
}

// === impl Millis ===

impl Millis {
    /// When the process started: not the first moment there is, because a snapshot has earlier ones.
    pub(crate) const START: Self = Self(30 * 24 * 3600 * 1000);

    /// The moment of the call.
    #[must_use]
    pub fn now() -> Self {
        Self::of(Instant::now())
    }

    /// That moment.
    pub(crate) fn of(instant: Instant) -> Self {
        Self::START + instant.saturating_duration_since(*START)
    }

    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Millis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl std::ops::Sub<Duration> for Millis {
    type Output = Self;

    /// The earliest moment there is, when the duration is longer.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

/// Whole milliseconds; what does not fit is for ever anyway.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl Moment ===

impl Moment {
    /// The moment of the call.
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

// === impl Clock ===

impl Clock {
    /// Reads the time for all that runs on this core.
    pub(crate) fn tick(&self) {
        self.now.set(Millis::now());
        let wall = SystemTime::now();
        self.since_epoch.set(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        *self.date.borrow_mut() = httpdate::fmt_http_date(wall);
    }

    #[cfg(test)]
    pub(crate) fn set_to(&self, now: Millis) {
        self.now.set(now);
    }

    /// The moment of the call, as exact as the machine has it: for durations. Read once an event, because each reading costs
    /// some 25 ns; what follows from the event gets it passed.
    pub(crate) fn read(&self) -> Instant {
        Instant::now()
    }

    /// The time of the last tick.
    pub(crate) fn now(&self) -> Millis {
        self.now.get()
    }

    /// The time of day at the last tick.
    pub(crate) fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.since_epoch.get()
    }

    /// Hands out the value of a `Date` field.
    pub(crate) fn with_date<R>(&self, use_it: impl FnOnce(&[u8]) -> R) -> R {
        use_it(self.date.borrow().as_bytes())
    }
}

/// `12 s`, `3 min`, `5 h`, `2 days`: a duration as people write it.
pub(crate) struct HumanDuration(pub(crate) Duration);

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            secs @ ..120 => write!(f, "{secs} s"),
            secs @ ..7_200 => write!(f, "{} min", secs / 60),
            secs @ ..172_800 => write!(f, "{} h", secs / 3600),
            secs => write!(f, "{} days", secs / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_unit_that_fits() {
        let said = |secs| HumanDuration(Duration::from_secs(secs)).to_string();
        assert_eq!([said(0), said(12), said(119)], ["0 s", "12 s", "119 s"]);
        assert_eq!([said(120), said(7199), said(7200), said(172_800)], ["2 min", "119 min", "2 h", "2 days"]);
    }

    #[test]
    fn time_never_runs_backwards_into_a_panic() {
        assert_eq!(Millis(1).since(Millis(5)), Duration::ZERO);
        assert_eq!(Millis(u64::MAX) + Duration::MAX, Millis(u64::MAX));
    }
}
