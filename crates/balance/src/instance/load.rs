//! How busy and how fast an instance is, as the requests of this gateway show.
//!
//! Requests under way are counted on a cache line of each core's own, and added up by the reader: two cores
//! that count in one place would cost each other a cache miss per request.
//!
//! The latency is a *peak* EWMA, after Finagle's and linkerd's (`tower::load::PeakEwma`): an exponentially weighted moving
//! average that jumps to a slower answer at once and forgets it over [`DECAY`]. So one slow answer is enough to be
//! avoided, and being fast again is believed only gradually. It is recorded only for services whose balancing policy asks for it.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::Millis;

/// After this time an answer counts for `1/e` (37 %) of what it counted; linkerd's default.
const DECAY: Duration = Duration::from_secs(10);

/// What an instance is taken for before it has answered: slower than most, so that it is not flooded before it has shown
/// what it can do, and fast enough to be tried.
const UNKNOWN_US: f32 = 30_000.0;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Load {
    cores: Box<[Slot]>,
    /// Further requests are not for this instance.
    in_flight_max: AtomicU32,
    /// Further tunnels and event streams are refused.
    streams_max: AtomicU32,
    /// The average in microseconds (`f32`) above the moment of the last answer in milliseconds (32 bits).
    latency: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    in_flight: AtomicU32,
    streams: AtomicU32,
    /// How many requests were ever sent whole (32 bits), above those of them that wait for the head of a response (32 bits).
    line: AtomicU64,
}

/// What one core has under way at all instances of a service. Written by that core only.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct UnderWay {
    requests: AtomicU32,
    streams: AtomicU32,
}

// === impl UnderWay ===

impl UnderWay {
    /// Requests that wait for an answer.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether there is a tunnel or an event stream.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn become_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, is_stream: bool) {
        let counter = if is_stream { &self.streams } else { &self.requests };
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Load ===

impl Load {
    /// Of an instance that serves requests from `cores` cores, without a limit.
    pub(crate) fn new(cores: usize) -> Self {
        let cores = (0..cores.max(1)).map(|_| Slot::default()).collect();
        Self {
            cores,
            in_flight_max: AtomicU32::new(u32::MAX),
            streams_max: AtomicU32::new(u32::MAX),
            latency: AtomicU64::default(),
        }
    }

    pub(crate) fn limit(&self, in_flight_max: u32, streams_max: u32) {
        self.in_flight_max.store(in_flight_max, Ordering::Relaxed);
        self.streams_max.store(streams_max, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn in_flight_max(&self) -> u32 {
        self.in_flight_max.load(Ordering::Relaxed)
    }

    /// Requests that wait for an answer, on all cores.
    pub(crate) fn in_flight(&self) -> u32 {
        self.cores.iter().map(|slot| slot.in_flight.load(Ordering::Relaxed)).sum()
    }

    /// Whether a request of that core waits for an answer.
    pub(crate) fn is_busy_on(&self, core: usize) -> bool {
        self.slot(core).in_flight.load(Ordering::Relaxed) > 0
    }

    /// Tunnels and event streams, on all cores.
    pub(crate) fn streams(&self) -> u32 {
        self.cores.iter().map(|slot| slot.streams.load(Ordering::Relaxed)).sum()
    }

    /// Whether the limit is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.in_flight_max.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self, core: usize) {
        self.slot(core).in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, core: usize) {
        self.slot(core).in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// False when there are as many as there may be.
    pub(crate) fn begin_stream(&self, core: usize) -> bool {
        let is_free = self.streams() < self.streams_max.load(Ordering::Relaxed);
        if is_free {
            self.slot(core).streams.fetch_add(1, Ordering::Relaxed);
        }
        is_free
    }

    pub(crate) fn end_stream(&self, core: usize) {
        self.slot(core).streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request was sent whole, and stands in line for its response; returns its number in the line.
    pub(crate) fn stand_in_line(&self, core: usize) -> u32 {
        let before = self.slot(core).line.fetch_add(1 << 32 | 1, Ordering::Relaxed);
        ((before >> 32) as u32).wrapping_add(1)
    }

    /// One that stood in line does so no longer.
    pub(crate) fn leave_line(&self, core: usize) {
        self.slot(core).line.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one is certainly still in line that was sent before request `number`, which is in line itself: more others
    /// wait than were sent after it.
    pub(crate) fn overtakes(&self, core: usize, number: u32) -> bool {
        let line = self.slot(core).line.load(Ordering::Relaxed);
        let sent_after = ((line >> 32) as u32).wrapping_sub(number);
        (line as u32).saturating_sub(1) > sent_after
    }

    /// A request was answered after `latency`.
    pub(crate) fn answered(&self, latency: Duration, now: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let us = latency.as_micros().min(u128::from(u32::MAX)) as f32;
        let step = |word| Some(Latency::unpack(word).map_or(us, |before| before.followed_by(us, now)));
        let next = |word| step(word).map(|average| Latency { average_us: average, at_ms: low(now) }.pack());
        let _always = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// The average latency; `None` when no policy asks for it, or there was no answer yet.
    pub(crate) fn latency_us(&self) -> Option<f32> {
        Latency::unpack(self.latency.load(Ordering::Relaxed)).map(|latency| latency.average_us)
    }

    /// What the next request will cost, in microseconds: its own latency, and that of those under way, of which an
    /// instance of twice the weight carries twice as many.
    pub(crate) fn cost_us(&self, weight: u16) -> f32 {
        let average =
            Latency::unpack(self.latency.load(Ordering::Relaxed)).map_or(UNKNOWN_US, |known| known.average_us);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let waiting = self.in_flight() as f32;
        average.max(1.0) * (waiting / f32::from(weight) + 1.0)
    }

    fn slot(&self, core: usize) -> &Slot {
        &self.cores[core % self.cores.len()]
    }
}

/// The average at one moment.
#[derive(Debug, Clone, Copy)]
struct Latency {
    average_us: f32,
    at_ms: u32,
}

impl Latency {
    /// `None`: there was no answer yet.
    fn unpack(word: u64) -> Option<Self> {
        (word != 0).then(|| Self { average_us: f32::from_bits((word >> 32) as u32), at_ms: word as u32 })
    }

    fn pack(self) -> u64 {
        u64::from(self.average_us.max(f32::MIN_POSITIVE).to_bits()) << 32 | u64::from(self.at_ms)
    }

    /// The average after another answer: at once up, slowly down.
    fn followed_by(self, us: f32, now: Millis) -> f32 {
        if us >= self.average_us {
            return us;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let elapsed = low(now).wrapping_sub(self.at_ms).max(1) as f32 / DECAY.as_millis() as f32;
        let kept = (-elapsed).exp();
        self.average_us * kept + us * (1.0 - kept)
    }
}

/// The low half of a moment; enough to tell how long ago something was.
fn low(now: Millis) -> u32 {
    now.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(answers: &[(u64, u64)]) -> Load {
        let load = Load::new(2);
        for (ms, at) in answers {
            load.answered(Duration::from_millis(*ms), Millis(*at));
        }
        load
    }

    #[test]
    fn requests_under_way_are_counted_over_all_cores() {
        let load = load(&[]);
        load.limit(3, 1);
        for core in [0, 1, 1] {
            assert!(!load.is_full());
            load.begin(core);
        }
        assert!(load.is_full() && load.in_flight() == 3);
        load.end(1);
        assert!(!load.is_full());
        assert!(load.begin_stream(0) && !load.begin_stream(1), "one stream, and they are counted apart");
        assert_eq!((load.in_flight(), load.streams()), (2, 1));
    }

    #[test]
    fn a_response_overtakes_only_what_was_sent_before() {
        let load = load(&[]);
        let [a, b, c] = [(); 3].map(|()| load.stand_in_line(0));
        assert!(!load.overtakes(0, a) && load.overtakes(0, b) && load.overtakes(0, c));
        load.leave_line(0);
        // B has its response. A is still there, and C cannot be told from it.
        assert!(load.overtakes(0, c) && !load.overtakes(0, a));
        load.leave_line(0);
        assert!(!load.overtakes(0, c), "in turn");
        let other = load.stand_in_line(1);
        assert!(!load.overtakes(1, other), "each core has a line of its own");
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_gradually() {
        let average = |answers: &[(u64, u64)]| load(answers).cost_us(1) / 1000.0;
        assert!((average(&[(10, 0), (100, 1)]) - 100.0).abs() < 0.1, "up at once");
        let soon = average(&[(100, 0), (10, 100)]);
        assert!((98.0..100.0).contains(&soon), "{soon} ms: a tenth of a second later it is hardly forgotten");
        let later = average(&[(100, 0), (10, 30_000)]);
        assert!((14.0..15.0).contains(&later), "{later} ms: three decays later nearly");
    }

    #[test]
    fn the_cost_grows_with_what_is_under_way() {
        let load = load(&[(10, 0)]);
        let alone = load.cost_us(1);
        load.begin(0);
        load.begin(1);
        assert!((load.cost_us(1) / alone - 3.0).abs() < 0.01);
    }

    #[test]
    fn who_has_not_answered_yet_is_neither_fast_nor_hopeless() {
        let unknown = load(&[]).cost_us(1);
        assert!(load(&[(1, 0)]).cost_us(1) < unknown && unknown < load(&[(1000, 0)]).cost_us(1));
    }
}
