use std::{collections::HashMap, sync::Arc, time::Duration};

use discovery::policy::{Active, ActiveKind, Policy};

use crate::{
    clock::Millis,
    outlier::{Change, Verdict},
    pick::mix,
    probe::{Answer, Question},
    routing_table::{Candidate, RoutingTable},
};

/// How often those are asked who are not well.
const RECHECK: Duration = Duration::from_millis(500);
/// With requests under way, so long without an answer is suspicious.
const STALL: Duration = Duration::from_millis(300);
/// How long a suspicious instance may take to show that it is awake.
const STALL_PATIENCE: Duration = Duration::from_millis(250);
/// How long an instance that is awake but slow is left in peace.
const SLOW_IS_FINE: Duration = Duration::from_secs(2);

/// Who is to be asked when. A plain value: the time is given, and nobody is asked here.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: HashMap<u64, Entry>,
}

/// One instance.
#[derive(Debug)]
struct Entry {
    candidate: Arc<Candidate>,
    policy: Arc<Policy>,
    next: Millis,
    /// Good answers in a row, or bad ones.
    good: u32,
    bad: u32,
    is_asked: bool,
    /// Since when it has requests under way and answers none.
    quiet_since: Option<Millis>,
    heard: u64,
}

/// Somebody is to be asked now.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) candidate: Arc<Candidate>,
    pub(super) question: Question,
    pub(super) patience: Duration,
    pub(super) occasion: Occasion,
}

/// Why somebody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Regular,
    /// It is ejected: is it back?
    Ejected,
    /// It is suspiciously quiet.
    Stalled,
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
    /// Asks the instances of this table from now on, and nobody else.
    pub(super) fn follow(&mut self, table: &RoutingTable, now: Millis) {
        let mut before = std::mem::take(&mut self.entries);
        for service in table.services() {
            let all = service.candidates.all().iter();
            for candidate in all.filter(|_| service.policy().health.active.kind != ActiveKind::Off) {
                let (candidate, policy) = (Arc::clone(candidate), Arc::clone(service.policy()));
                let entry = match before.remove(&candidate.serial) {
                    Some(known) => Entry { candidate, policy, ..known },
                    None => Entry::new(candidate, policy, now),
                };
                self.entries.insert(entry.candidate.serial, entry);
            }
        }
        // Of those no longer checked, the checks have nothing more to say.
        for gone in before.into_values() {
            gone.candidate.standing.outlier.checked(true);
        }
    }

    /// Who is to be asked now, at most `room`; those who have waited longest first.
    pub(super) fn due(&mut self, now: Millis, room: usize) -> Vec<Due> {
        let mut all: Vec<_> =
            self.entries.values_mut().filter_map(|entry| Some((entry.occasion(now)?, entry))).collect();
        all.sort_by_key(|(occasion, entry)| (*occasion == Occasion::Regular, entry.next));
        all.into_iter().take(room).map(|(occasion, entry)| entry.begin(occasion, now)).collect()
    }

    /// Takes in an answer.
    pub(super) fn answered(&mut self, due: &Due, answer: &Answer, now: Millis) -> Option<Event> {
        let entry = self.entries.get_mut(&due.candidate.serial)?;
        entry.is_asked = false;
        entry.candidate.standing.set_last_check(&answer.to_string());
        match due.occasion {
            Occasion::Regular if matches!(answer, Answer::Unasked(_)) => None,
            Occasion::Regular => entry.judge(*answer == Answer::Good, now),
            Occasion::Ejected => {
                if *answer == Answer::Good {
                    entry.candidate.standing.outlier.shorten_ejection(now);
                }
                None
            }
            Occasion::Stalled => entry.judge_stalled(answer, now),
        }
    }
}

// === impl Entry ===

impl Entry {
    fn new(candidate: Arc<Candidate>, policy: Arc<Policy>, now: Millis) -> Self {
        // Somewhere in the first interval, so that those who came together are not asked together.
        let interval = u64::try_from(policy.health.active.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let next = now + Duration::from_millis(mix(candidate.serial) % interval);
        Self { candidate, policy, next, good: 0, bad: 0, is_asked: false, quiet_since: None, heard: 0 }
    }

    fn active(&self) -> &Active {
        &self.policy.health.active
    }

    fn occasion(&mut self, now: Millis) -> Option<Occasion> {
        let is_stalled = self.is_stalled(now);
        if self.is_asked {
            return None;
        }
        let verdict = self.candidate.standing.outlier.verdict(now);
        let is_ejected = matches!(verdict, Verdict::Ejected { .. });
        if is_stalled && !is_ejected {
            return Some(Occasion::Stalled);
        }
        (now >= self.next).then_some(if is_ejected { Occasion::Ejected } else { Occasion::Regular })
    }

    fn is_stalled(&mut self, now: Millis) -> bool {
        let load = &self.candidate.standing.load;
        let heard = load.heard().0;
        if load.in_flight() == 0 || std::mem::replace(&mut self.heard, heard) != heard {
            self.quiet_since = None;
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now);
        now >= since + STALL
    }

    fn begin(&mut self, occasion: Occasion, now: Millis) -> Due {
        self.is_asked = true;
        let is_well = self.candidate.standing.outlier.verdict(now) == Verdict::Healthy;
        let interval = self.active().interval;
        self.next = now + if is_well { interval } else { interval.min(RECHECK) };
        let patience = match occasion {
            Occasion::Stalled => self.active().timeout.min(STALL_PATIENCE),
            Occasion::Regular | Occasion::Ejected => self.active().timeout,
        };
        Due { candidate: Arc::clone(&self.candidate), question: self.question(occasion), patience, occasion }
    }

    fn question(&self, occasion: Occasion) -> Question {
        let path = self.active().path.as_ref().or(self.candidate.instance.health.as_ref());
        match (occasion, self.active().kind, path) {
            (Occasion::Regular | Occasion::Ejected, ActiveKind::Http, Some(path)) => Question::Get(path.clone()),
            // A frozen process accepts connections: after silence, only an answer proves that somebody is awake.
            (Occasion::Stalled, ..) => Question::Ping,
            (Occasion::Ejected, ..) if !self.candidate.standing.outlier.refuses() => Question::Ping,
            (Occasion::Regular | Occasion::Ejected, ..) => Question::Connect,
        }
    }

    fn judge(&mut self, is_good: bool, now: Millis) -> Option<Event> {
        (self.good, self.bad) =
            if is_good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        let (rise, fall) = (self.active().rise, self.active().fall);
        let outlier = &self.candidate.standing.outlier;
        if self.bad >= fall && outlier.checked(false) {
            self.next = self.next.min(now + RECHECK);
            return Some(Event::Failing);
        }
        (self.good >= rise && outlier.checked(true)).then_some(Event::Passing)
    }

    fn judge_stalled(&mut self, answer: &Answer, now: Millis) -> Option<Event> {
        let has_answered = self.candidate.standing.load.heard().0 != self.heard;
        match answer {
            Answer::Silent | Answer::Refused if !has_answered => {
                self.quiet_since = None;
                let passive = &self.policy.health.passive;
                self.candidate.standing.outlier.stalled(now, passive, self.candidate.serial).map(Event::Stalled)
            }
            _ => {
                // Only slow; it is looked at again later.
                self.quiet_since = Some(now + SLOW_IS_FINE);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
