//! What is worth telling, and when. Plain values; the time is passed in.
//!
//! A service has a [`Level`]: enough instances, degraded, too few, none. It has too few when it has fewer than its minimum;
//! without one of its own, that is one, from the moment it was first seen. People are told of another level than the one
//! that they believe once the service has been at least so bad, or at most so bad, for [`Rules::after`] without a break:
//!
//! ```text
//! 2 ─▶ 1 ─▶ 0 instances ─▶ 1 ─▶ 2       of a service that needs 2
//!      "has 1 of 2"  "is down"  "has 1 of 2"  "is back"
//! ```
//!
//! So a restart is no news, a service that flaps between few and none is told of once as having too few, and the second half
//! of an outage is told as well as the first.
//!
//! The first news opens a window; what becomes news while it is open goes into the same message.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use discovery::ServiceName;
use tokio::time::Instant;

use super::{
    level::{Level, Reading},
    message::{Message, News},
};

/// A service without a minimum of its own is forgotten when it was gone for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What people believe of the services that are not well.
pub type Told = BTreeMap<ServiceName, Level>;

/// When to tell.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// How many instances these need; any other needs one.
    pub minimum: BTreeMap<ServiceName, usize>,
    /// How long it must stay so.
    pub after: Duration,
    /// How long news is collected.
    pub window: Duration,
}

/// Every service that is or was there.
#[derive(Debug, Default)]
pub struct DownDetector {
    rules: Rules,
    services: BTreeMap<ServiceName, Watched>,
    /// When the first news that is not told came up.
    opened: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    reading: Reading,
    level: Level,
    /// For each of [`Level::TROUBLES`]: since when it is, or is not, at least that bad.
    since: [Instant; Level::TROUBLES.len()],
    /// What people believe.
    told: Level,
}

// === impl DownDetector ===

impl DownDetector {
    /// Knows no service yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Takes note of how each service is; one that is not in `readings` has no instance.
    pub fn observe(&mut self, readings: &BTreeMap<ServiceName, Reading>, now: Instant) {
        let named = self.rules.minimum.keys().chain(readings.keys()).cloned();
        let all: BTreeSet<ServiceName> = named.chain(self.services.keys().cloned()).collect();
        for service in all {
            let reading = readings.get(&service).copied().unwrap_or_default();
            let level = Level::of(reading, self.minimum(&service));
            let new = || Watched::new(level, Level::Enough, now);
            self.services.entry(service).or_insert_with(new).take(reading, level, now);
        }
        let minimum = &self.rules.minimum;
        self.services.retain(|service, watched| {
            watched.reading.in_rotation > 0
                || minimum.contains_key(service)
                || now - watched.since(Level::Down) < FORGOTTEN_AFTER
        });
    }

    /// The message to send now, if there is one. It is told once [`DownDetector::sent`] says so; until then it comes again.
    pub fn due(&mut self, now: Instant) -> Option<Message> {
        let news = self.news(now);
        if news.is_empty() {
            self.opened = None;
            return None;
        }
        let opened = *self.opened.get_or_insert(now);
        (now - opened >= self.rules.window).then(|| Message::of(news))
    }

    /// People know this now.
    pub fn sent(&mut self, message: &Message) {
        self.opened = None;
        for news in &message.news {
            if let Some(watched) = self.services.get_mut(&news.service) {
                watched.told = news.level;
            }
        }
    }

    /// What people believe.
    #[must_use]
    pub fn believed(&self) -> Told {
        let troubled = self.services.iter().filter(|(_, watched)| watched.told > Level::Enough);
        troubled.map(|(name, watched)| (name.clone(), watched.told)).collect()
    }

    /// Takes over from another replica, which has told people so.
    pub fn take_over(&mut self, told: &Told, now: Instant) {
        for service in told.keys() {
            self.services.entry(service.clone()).or_insert_with(|| Watched::new(Level::Down, Level::Down, now));
        }
        for (service, watched) in &mut self.services {
            watched.told = told.get(service).copied().unwrap_or_default();
        }
    }

    fn news(&self, now: Instant) -> Vec<News> {
        let settled =
            self.services.iter().map(|(service, watched)| (service, watched, watched.settled(now, self.rules.after)));
        let changed = settled.filter(|(_, watched, level)| *level != watched.told);
        changed
            .map(|(service, watched, level)| News {
                service: service.clone(),
                level,
                was: watched.told,
                instances: watched.reading.in_rotation,
                minimum: self.minimum(service),
                cases: Vec::new(),
            })
            .collect()
    }

    fn minimum(&self, service: &ServiceName) -> usize {
        self.rules.minimum.get(service).copied().unwrap_or(1)
    }
}

// === impl Watched ===

impl Watched {
    fn new(level: Level, told: Level, now: Instant) -> Self {
        Self { reading: Reading::default(), level, since: [now; Level::TROUBLES.len()], told }
    }

    fn take(&mut self, reading: Reading, level: Level, now: Instant) {
        for (trouble, since) in Level::TROUBLES.into_iter().zip(&mut self.since) {
            if (self.level >= trouble) != (level >= trouble) {
                *since = now;
            }
        }
        (self.reading, self.level) = (reading, level);
    }

    /// Since when it is, or is not, at least as bad as `trouble`.
    fn since(&self, trouble: Level) -> Instant {
        let position = Level::TROUBLES.iter().position(|level| *level == trouble);
        self.since[position.unwrap_or_default()]
    }

    /// The level that people should believe: they are told of what has lasted for `after`.
    fn settled(&self, now: Instant, after: Duration) -> Level {
        let has_lasted = |trouble: Level| now - self.since(trouble) >= after;
        let worse = |trouble: &Level| *trouble > self.told && self.level >= *trouble && has_lasted(*trouble);
        if let Some(worst) = Level::TROUBLES.into_iter().find(worse) {
            return worst;
        }
        let mut settled = self.told;
        while self.level < settled && has_lasted(settled) {
            settled = settled.better();
        }
        settled
    }
}

#[cfg(test)]
mod tests;
