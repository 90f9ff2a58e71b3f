mod entries;
mod followed;

use std::{collections::HashMap, sync::Arc, time::Duration};

use discovery::policy::{Active, ActiveKind, Policy};

use entries::Entries;
use followed::changes;

use crate::{
    clock::Millis,
    hash::mix,
    health::probe::{ProbeResult, Question},
    instance::{
        candidate::Candidate,
        outlier::{Change, Verdict},
    },
    table::{
        name_map::NameMap,
        routing_table::{RoutingTable, Service},
    },
};

/// How often those are asked that are not well.
const RECHECK: Duration = Duration::from_millis(500);
/// With requests under way, so long without a byte is worth a question, or three fifths of the limit if that is less.
const QUIET: Duration = Duration::from_millis(300);
/// How long a quiet instance has at least to show that it is awake, or a quarter of what a response may take if that is less:
/// where requests are given up early, what waits must be sent elsewhere before.
const AWAKE_PATIENCE: Duration = Duration::from_millis(250);
/// From one question of an instance whether it is awake to the next.
const AWAKE_INTERVAL: Duration = Duration::from_secs(1);

/// Which instance is to be asked when. A plain value: the time is passed in, and nothing is sent here.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: Entries,
    /// The services as of the table that was followed last.
    services: NameMap<Arc<Service>>,
    /// Those in `entries`, by serial number, who have left the table and have requests under way.
    leaving: Vec<u64>,
    /// How long an instance may be silent, at least; zero: for ever.
    stall: Duration,
}

/// One instance.
#[derive(Debug)]
struct Entry {
    candidate: Arc<Candidate>,
    policy: Arc<Policy>,
    /// Whether it is registered and wanted. Others are only asked whether they are awake, while requests wait there.
    is_listed: bool,
    next: Millis,
    /// Good answers in a row, or bad ones.
    good: u32,
    bad: u32,
    is_asked: bool,
    /// Whether it is being asked whether it is awake; that does not wait for another question.
    is_asked_awake: bool,
    next_awake: Millis,
    /// Since when it has requests under way.
    busy_since: Option<Millis>,
}

/// An instance is to be asked now.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) candidate: Arc<Candidate>,
    pub(super) question: Question,
    pub(super) patience: Duration,
    pub(super) occasion: Occasion,
}

/// Why it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Regular,
    /// It is ejected: is it back?
    Ejected,
    /// It is quiet: is it awake?
    Quiet,
}

/// How many may be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Whether they are awake.
    pub(super) quiet: usize,
    /// On other occasions.
    pub(super) others: usize,
    /// On all together.
    pub(super) all: usize,
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Failing,
    Passing,
    Stalled(Change),
}

// === impl Schedule ===

impl Schedule {
    /// An instance with requests under way may be silent for `stall`, or longer ([`Vitals::limit`]).
    ///
    /// [`Vitals::limit`]: crate::instance::vitals::Vitals::limit
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall, ..Self::default() }
    }

    /// Asks the instances of this table from now on, and no others. Looks only at services that are not as they were, and
    /// there at no instance that is.
    pub(super) fn follow(&mut self, table: &RoutingTable, now: Millis) {
        let before = std::mem::replace(&mut self.services, table.by_name().clone());
        let mut left: HashMap<u64, Entry> = std::mem::take(&mut self.leaving)
            .into_iter()
            .filter_map(|serial| Some((serial, self.entries.remove(serial)?)))
            .collect();
        let mut come = Vec::new();
        for (then, now) in self.services.differences(&before, Arc::ptr_eq) {
            let (gone, new) = changes(then.map(AsRef::as_ref), now.map(AsRef::as_ref));
            left.extend(gone.into_iter().filter_map(|serial| Some((serial, self.entries.remove(serial)?))));
            come.extend(new);
        }
        for (candidate, policy, is_listed) in come {
            let entry = match left.remove(&candidate.serial) {
                Some(known) => Entry { candidate, policy, is_listed, ..known },
                None => Entry { is_listed, ..Entry::new(candidate, policy, now) },
            };
            if !is_listed {
                entry.forget_checks();
            }
            self.entries.insert(entry.candidate.serial, entry);
        }
        for (serial, gone) in left {
            gone.forget_checks();
            // Draining, or stopped for longer than its lease: what waits there still wants to know whether it lives.
            if gone.candidate.state.load.in_flight() > 0 && gone.policy.health.active.kind != ActiveKind::Off {
                self.entries.insert(serial, Entry { is_listed: false, ..gone });
                self.leaving.push(serial);
            }
        }
    }

    /// Who is to be asked now, as far as there is `room`; those who have waited longest first.
    pub(super) fn due(&mut self, now: Millis, mut room: Room) -> Vec<Due> {
        let stall = self.stall;
        let all = self.entries.in_turn().filter_map(|entry| Some((entry.occasion(now, stall)?, entry)));
        let (quiet, others): (Vec<_>, Vec<_>) = all.partition(|(occasion, _)| *occasion == Occasion::Quiet);
        let mut all = first(quiet, room.quiet.min(room.all));
        all.extend(first(others, room.others.min(room.all)));
        all.sort_by_key(urgency);
        let all = all.into_iter().filter(|(occasion, _)| room.take(*occasion));
        all.map(|(occasion, entry)| entry.begin(occasion, now, stall)).collect()
    }

    /// Takes in an answer.
    pub(super) fn answered(&mut self, due: &Due, answer: &ProbeResult, now: Millis) -> Option<Event> {
        let stall = self.stall;
        let entry = self.entries.get_mut(due.candidate.serial)?;
        match due.occasion {
            Occasion::Quiet => entry.is_asked_awake = false,
            Occasion::Regular | Occasion::Ejected => entry.is_asked = false,
        }
        if due.question != Question::Connect && answer.is_response() {
            entry.candidate.state.vitals.hear(now);
        }
        entry.candidate.state.set_last_check(&answer.to_string());
        match due.occasion {
            Occasion::Regular if matches!(answer, ProbeResult::Unasked(_)) => None,
            // One thread that works on requests cannot answer this, too.
            Occasion::Regular if *answer == ProbeResult::Silent && entry.shows_life(now, stall) => None,
            // It has left the table meanwhile.
            Occasion::Regular if !entry.is_listed => None,
            Occasion::Regular => entry.judge(*answer == ProbeResult::Good, now),
            Occasion::Ejected => {
                if *answer == ProbeResult::Good {
                    entry.candidate.state.outlier.shorten_ejection(now);
                }
                None
            }
            Occasion::Quiet => entry.judge_quiet(answer, now, stall),
        }
    }
}

/// Who goes first: those who are not well, then who waits longest.
fn urgency((occasion, entry): &(Occasion, &mut Entry)) -> (bool, Millis) {
    (*occasion == Occasion::Regular, entry.since(*occasion))
}

/// The `count` most urgent. Thousands may wait, of which a few can be asked: they are not sorted.
fn first(mut all: Vec<(Occasion, &mut Entry)>, count: usize) -> Vec<(Occasion, &mut Entry)> {
    if count < all.len() {
        all.select_nth_unstable_by_key(count, urgency);
        all.truncate(count);
    }
    all
}

// === impl Room ===

impl Room {
    /// False when there is none on this occasion.
    fn take(&mut self, occasion: Occasion) -> bool {
        let room = if occasion == Occasion::Quiet { &mut self.quiet } else { &mut self.others };
        let is_left = *room > 0 && self.all > 0;
        if is_left {
            *room -= 1;
            self.all -= 1;
        }
        is_left
    }
}

// === impl Entry ===

impl Entry {
    /// Since when it waits to be asked.
    fn since(&self, occasion: Occasion) -> Millis {
        if occasion == Occasion::Quiet { self.next_awake } else { self.next }
    }

    fn new(candidate: Arc<Candidate>, policy: Arc<Policy>, now: Millis) -> Self {
        // Somewhere in the first interval, so that those who came together are not asked together.
        let interval = u64::try_from(policy.health.active.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let next = now + Duration::from_millis(mix(candidate.serial) % interval);
        let (is_asked, is_asked_awake) = (false, false);
        let (next_awake, busy_since) = (Millis::default(), None);
        let is_listed = true;
        Self { candidate, policy, is_listed, next, good: 0, bad: 0, is_asked, is_asked_awake, next_awake, busy_since }
    }

    /// Of an instance that is no longer checked, the checks have nothing more to say.
    fn forget_checks(&self) {
        self.candidate.state.outlier.checked(true);
    }

    fn active(&self) -> &Active {
        &self.policy.health.active
    }

    fn occasion(&mut self, now: Millis, stall: Duration) -> Option<Occasion> {
        let is_quiet = self.is_quiet(now, stall);
        let verdict = self.candidate.state.outlier.verdict(now);
        let is_ejected = matches!(verdict, Verdict::Ejected { .. });
        if is_quiet && !is_ejected {
            return Some(Occasion::Quiet);
        }
        let is_due = self.is_listed && now >= self.next && !self.is_asked;
        is_due.then_some(if is_ejected { Occasion::Ejected } else { Occasion::Regular })
    }

    /// Whether it is to be asked whether it is awake: it has requests under way and has sent no byte for a while.
    fn is_quiet(&mut self, now: Millis, stall: Duration) -> bool {
        if self.candidate.state.load.in_flight() == 0 {
            self.busy_since = None;
            return false;
        }
        let since = *self.busy_since.get_or_insert(now);
        if stall.is_zero() || self.is_asked_awake || now < self.next_awake {
            return false;
        }
        let quiet = QUIET.min(self.limit(now, stall) * 3 / 5);
        now >= self.candidate.state.vitals.last_byte_at().max(since) + quiet
    }

    /// How long it may be silent.
    fn limit(&self, now: Millis, stall: Duration) -> Duration {
        self.candidate.state.vitals.limit(stall, self.policy.timeouts.response, now)
    }

    /// Whether its last byte is younger than that.
    fn shows_life(&self, now: Millis, stall: Duration) -> bool {
        self.candidate.state.vitals.is_fresh(self.limit(now, stall), now)
    }

    /// The moment from which on it counts as dead if it stays silent.
    fn dead_from(&self, now: Millis, stall: Duration) -> Millis {
        let last_byte_at = self.candidate.state.vitals.last_byte_at();
        last_byte_at.max(self.busy_since.unwrap_or(now)) + self.limit(now, stall)
    }

    fn begin(&mut self, occasion: Occasion, now: Millis, stall: Duration) -> Due {
        let question = self.question(occasion);
        let patience = match occasion {
            Occasion::Quiet => {
                self.is_asked_awake = true;
                self.next_awake = now + AWAKE_INTERVAL;
                self.dead_from(now, stall).since(now).max(AWAKE_PATIENCE.min(self.policy.timeouts.response / 4))
            }
            Occasion::Regular | Occasion::Ejected => {
                self.is_asked = true;
                let is_well = self.candidate.state.outlier.verdict(now) == Verdict::Healthy;
                let soon = if question == Question::Ping { AWAKE_INTERVAL } else { RECHECK };
                let interval = self.active().interval;
                self.next = now + if is_well { interval } else { interval.min(soon) };
                self.active().timeout
            }
        };
        Due { candidate: Arc::clone(&self.candidate), question, patience, occasion }
    }

    fn question(&self, occasion: Occasion) -> Question {
        let path = self.active().path.as_ref().or(self.candidate.instance.health.as_ref());
        match (occasion, self.active().kind, path) {
            (Occasion::Regular | Occasion::Ejected, ActiveKind::Http, Some(path)) => Question::Get(path.clone()),
            // A stopped process accepts connections: after silence, only a response proves that it is awake.
            (Occasion::Quiet, ..) => Question::Ping,
            (Occasion::Ejected, ..) if !self.candidate.state.outlier.refuses() => Question::Ping,
            (Occasion::Regular | Occasion::Ejected, ..) => Question::Connect,
        }
    }

    fn judge(&mut self, is_good: bool, now: Millis) -> Option<Event> {
        (self.good, self.bad) =
            if is_good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        let (rise, fall) = (self.active().rise, self.active().fall);
        let outlier = &self.candidate.state.outlier;
        if self.bad >= fall && outlier.checked(false) {
            self.next = self.next.min(now + RECHECK);
            return Some(Event::Failing);
        }
        (self.good >= rise && outlier.checked(true)).then_some(Event::Passing)
    }

    /// It counts as dead when it has not sent a byte for as long as it may, on this connection or another.
    fn judge_quiet(&mut self, answer: &ProbeResult, now: Millis, stall: Duration) -> Option<Event> {
        let state = &self.candidate.state;
        match answer {
            ProbeResult::Silent if now >= self.dead_from(now, stall) => state.vitals.found_silent(),
            // It takes no new requests, and may well finish those that it has.
            ProbeResult::Refused => {}
            // Only slow, or not asked at all.
            ProbeResult::Silent
            | ProbeResult::Good
            | ProbeResult::Bad(_)
            | ProbeResult::Nonsense
            | ProbeResult::Unasked(_) => return None,
        }
        self.busy_since = None;
        state.outlier.stalled(now, &self.policy.health.passive, self.candidate.serial).map(Event::Stalled)
    }
}

#[cfg(test)]
mod tests;
