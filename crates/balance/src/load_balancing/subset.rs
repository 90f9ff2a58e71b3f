//! Which instances a core picks from when a service has many: a few neighbours, so that connections are used again.
//!
//! Connections belong to a core, and wait for their next request no longer than the keep-alive. A core that goes over
//! all of a hundred instances comes back to each only after a hundred requests; where that takes longer than the
//! keep-alive, every request opens a connection. So a core picks from a *window* on the ring of instances, and
//! the window wanders, so that all take part. It is a subset as in the Google SRE book (chapter 20) and an
//! aperture as in Finagle, but for one gateway that does not know how many others there are.
//!
//! | what | how much | why |
//! |---|---|---|
//! | size | as many instances as requests begin in half of the keep-alive (a quarter where [chance](crate::load_balancing::policy) decides), 16 to 128 | a connection is used again well before its end; a service with more requests than instances in that time is gone over as a whole |
//! | grows | by one when the instance drawn has a request of this core under way, or is full; the new one gets the request (where weights differ: only if the one drawn is full, and no further than there are requests under way) | a burst spreads over as many instances as it has requests, as it would over all |
//! | shrinks | by an eighth in each quarter of the keep-alive, but not below the requests that the core has under way at the service | long requests do not pile up |
//! | moves | by one after 64 requests, where a quarter of the keep-alive counts as 32 | each step opens a connection: for one request in ten at a low rate, for one in 64 at a high one |
//! | none | for a request that wants an upgrade, and while the core has a stream under way at the service | streams last and are limited for each instance: a window would fill a few |
//! | none | when fewer than 16 requests begin in a keep-alive | no connection would live until its next request in a window either: all instances in turn cost the same, and are even |
//!
//! The ring is in the order of the hashes of the instances' keys, so that neighbours by name are none here, and an
//! instance that comes or goes moves a window by at most one place. A window is a *part* of the ring, in which each
//! instance has room by its weight: it wanders over that room evenly, so that weights hold over a whole turn. The
//! windows of a gateway's cores are as far from each other as can be; where the first one begins is left to chance.
//!
//! An instance that weighs more than a window has room for would be picked by every window: then there is no ring.
//!
//! Nothing is picked because it is in a window that would not be picked of all: an instance that is ejected, failing,
//! tried or without an address is stood in for by the one at the same place of the next window, and after three of
//! those by any. An instance whose ejection is over need not wait for a window, either
//! ([`crate::load_balancing::pick`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{clock::Millis, instance::load::UnderWay};

/// The smallest window; a service with no more instances has none.
pub(crate) const SIZE_MIN: usize = 16;
/// So far a window grows by the rate of requests alone: beyond it, the memory of that many connections costs more than
/// it brings. What is under way makes it grow further.
const SIZE_BY_RATE_MAX: u32 = 128;
/// The window moves by one instance after so many requests.
const STEP: u32 = 64;
/// A quarter of the keep-alive counts for so many requests.
const QUARTER: u32 = STEP / 2;
/// More quarters without a request make no difference.
const QUARTERS_MAX: u64 = 64;

/// The windows of one core, for one service. Written by that core only.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct CoreSubsets {
    near: Subset,
    far: Subset,
    under_way: Arc<UnderWay>,
}

/// Which of the rings of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The own zone; everything, where zones are not told apart.
    Near,
    /// The other zones.
    Far,
}

/// One core's window on one ring. Atomics only so that others may read it: nothing is ever contended.
#[derive(Debug, Default)]
pub(crate) struct Subset {
    /// Where it begins, as a part of 2⁶⁴ of the ring.
    start: AtomicU64,
    size: AtomicU32,
    /// The place in the window whose turn it was.
    slot: AtomicU32,
    /// When this quarter of a keep-alive began.
    quarter_at: AtomicU64,
    /// Requests in this quarter.
    begun: AtomicU32,
    /// Those before, each quarter counting three quarters of the one after it: three times a quarter's.
    recent: AtomicU32,
    /// How far it is to the next step, of [`STEP`].
    progress: AtomicU32,
}

/// What the size of a window comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long connections wait for their next request, at most; zero: none is kept.
    pub(crate) keep_alive: Duration,
    /// How long they wait in a window, on average, in quarters of that.
    pub(crate) quarters: u32,
    /// Requests of the core under way at the service.
    pub(crate) under_way: u32,
}

/// The window of one pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Where it begins, as a part of 2⁶⁴ of the ring.
    pub(crate) start: u64,
    /// How many instances it has, if all have the same weight: else as large a part of the ring.
    pub(crate) size: usize,
    /// Whose turn it is, below `size`.
    pub(crate) slot: usize,
}

// === impl CoreSubsets ===

impl CoreSubsets {
    /// Those of all cores of a gateway, as far from each other as can be; `seed` is where the first one begins.
    pub(crate) fn all(cores: usize, seed: u64) -> impl Iterator<Item = Self> {
        let distance = u64::MAX / (cores as u64).max(1);
        let at = move |core: u64| Subset::at(seed.wrapping_add(core.wrapping_mul(distance)));
        (0..cores as u64).map(move |core| Self { near: at(core), far: at(core), under_way: Arc::default() })
    }

    /// What the core has under way at the service.
    pub(crate) fn under_way(&self) -> &Arc<UnderWay> {
        &self.under_way
    }

    pub(crate) fn on(&self, side: Side) -> &Subset {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }
}

// === impl Subset ===

impl Subset {
    fn at(start: u64) -> Self {
        Self { start: start.into(), size: (SIZE_MIN as u32).into(), ..Self::default() }
    }

    /// The window for a request that begins now, on a ring of `len` instances; `None`: all of them.
    pub(crate) fn advance(&self, len: usize, pace: Pace, now: Millis) -> Option<Window> {
        let Pace { keep_alive, quarters, .. } = pace;
        let quarter = u64::try_from(keep_alive.as_millis()).unwrap_or(u64::MAX) / 4;
        let since = now.0.saturating_sub(self.quarter_at.load(Ordering::Relaxed));
        match since.checked_div(quarter)? {
            0 => {}
            passed => self.end_quarters(passed, quarter, pace),
        }
        let (begun, size) = (add(&self.begun, 1), get(&self.size));
        if begun.saturating_mul(quarters) > size && size < SIZE_BY_RATE_MAX {
            set(&self.size, size + 1);
        }
        if add(&self.progress, 1) >= STEP {
            set(&self.progress, 0);
            let start = self.start.load(Ordering::Relaxed).wrapping_add(u64::MAX / (len as u64).max(1) + 1);
            self.start.store(start, Ordering::Relaxed);
        }
        let window = self.window(len, quarters)?;
        self.slot.store(window.slot as u32, Ordering::Relaxed);
        Some(window)
    }

    /// The window that the next request would have; changes nothing.
    pub(crate) fn window(&self, len: usize, quarters: u32) -> Option<Window> {
        let size = get(&self.size) as usize;
        let keeps_connections = get(&self.recent).saturating_add(get(&self.begun)) as usize >= SIZE_MIN;
        let next = get(&self.slot) as usize + 1;
        let slot = if next < size { next } else { 0 };
        let start = self.start.load(Ordering::Relaxed);
        // Over all, a connection is used again as soon.
        let is_warm_over_all = by_rate(get(&self.recent).into(), quarters) as usize >= len;
        (keeps_connections && size < len && !is_warm_over_all).then_some(Window { start, size, slot })
    }

    /// Takes in one more.
    pub(crate) fn grow(&self, window: Window) -> Window {
        let size = window.size + 1;
        set(&self.size, u32::try_from(size).unwrap_or(u32::MAX));
        Window { size, slot: window.size, ..window }
    }

    fn end_quarters(&self, passed: u64, quarter: u64, pace: Pace) {
        let at = self.quarter_at.load(Ordering::Relaxed).saturating_add(passed.saturating_mul(quarter));
        self.quarter_at.store(at, Ordering::Relaxed);
        let (mut recent, mut size) = (u64::from(get(&self.recent)) + u64::from(get(&self.begun)), get(&self.size));
        for _ in 0..passed.min(QUARTERS_MAX) {
            recent = recent * 3 / 4;
            size -= size / 8;
        }
        let by_rate = by_rate(recent, pace.quarters).clamp(SIZE_MIN as u32, SIZE_BY_RATE_MAX);
        set(&self.begun, 0);
        set(&self.recent, u32::try_from(recent).unwrap_or(u32::MAX));
        set(&self.size, size.max(by_rate).max(pace.under_way));
        add(&self.progress, QUARTER);
    }
}

/// As many requests as begin in so many quarters.
fn by_rate(recent: u64, quarters: u32) -> u32 {
    u32::try_from(recent * u64::from(quarters) / 3).unwrap_or(u32::MAX)
}

fn get(counter: &AtomicU32) -> u32 {
    counter.load(Ordering::Relaxed)
}

fn set(counter: &AtomicU32, value: u32) {
    counter.store(value, Ordering::Relaxed);
}

/// Only one thread writes, so a load and a store do.
fn add(counter: &AtomicU32, amount: u32) -> u32 {
    let sum = get(counter).saturating_add(amount);
    set(counter, sum);
    sum
}
